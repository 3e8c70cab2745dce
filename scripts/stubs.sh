#!/usr/bin/env bash
# Makes the stubs of the gRPC door from doors/gen/chat.proto, beside it, or in the directory that is given. They are committed: whoever only
# runs the program needs no compiler. tests/doors/test_stubs.py compares them.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"
bash scripts/environment.sh requirements-dev.txt
where=${1:-.}
.venv/bin/python -m grpc_tools.protoc --proto_path=. --python_out="$where" --pyi_out="$where" --grpc_python_out="$where" doors/gen/chat.proto
