#!/usr/bin/env bash
# Starts the cluster of cluster.yaml: makes .venv at the first run, then runs all replicas of this host. Ctrl-C stops them.
# Arguments go to server.py: --config PATH, --data DIR, …
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
bash "$root/scripts/environment.sh" requirements.txt

if [ "$(uname -s)" != Linux ]; then
    echo "The servers run on Linux only (they tell the living from the dead by /proc and pidfd); on $(uname -s) just client.py works." >&2
    exit 2
fi
unset PYTHONHOME PYTHONPATH # as in environment.sh
# The directory this was called from is no reason to start another cluster; what the caller names comes later and wins.
exec "$root/.venv/bin/python" "$root/server.py" --config "$root/cluster.yaml" --data "$root/data" "$@"
