#!/usr/bin/env bash
# Two people talk in a scratch cluster while its primary is killed, then the next one. Ends with 0 if nothing was lost and nothing doubled.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
bash "$root/scripts/environment.sh" requirements.txt
exec "$root/.venv/bin/python" "$root/scripts/failover_demo.py" "$@"
