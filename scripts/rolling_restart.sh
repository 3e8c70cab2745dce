#!/usr/bin/env bash
# Restarts the replicas of a cluster one at a time, the primary last, without a failed request: see scripts/rolling_restart.py.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
bash "$root/scripts/environment.sh" requirements.txt
exec "$root/.venv/bin/python" "$root/scripts/rolling_restart.py" --config "$root/cluster.yaml" --data "$root/data" "$@"
