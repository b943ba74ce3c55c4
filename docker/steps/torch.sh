#!/bin/sh
# The virtual environment of both images' kind, with torch and nothing else.
#   torch.sh VERSION [INDEX]
# From the lock file where it has this version and no index is named: what else torch pins then comes
# with that index.
set -eu
uv="/opt/tools/bin/uv"
"$uv" venv --python python3 /opt/mountkit
if [ -n "$2" ]; then
    "$uv" pip install --python /opt/mountkit --compile-bytecode --index "$2" "torch==$1"
elif grep -q "^torch==$1 " /requirements/torch.lock; then
    "$uv" pip install --python /opt/mountkit --compile-bytecode --require-hashes --requirement /requirements/torch.lock
else
    "$uv" pip install --python /opt/mountkit --compile-bytecode "torch==$1"
fi
