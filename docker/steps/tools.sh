#!/bin/sh
# uv and the build backend of the wheel in /opt/tools, and what Mountpoint's signature is checked with.
#   tools.sh UV-VERSION PYTHON-VERSION|system
set -eu
case "$2" in
    system) python=python3 ;;
    *) python="python$2" ;;
esac
apt-get update
apt-get install -y --no-install-recommends curl gnupg "$python-venv"
"$python" -m venv /opt/tools
/opt/tools/bin/pip install "uv==$1"
/opt/tools/bin/uv pip install --python /opt/tools/bin/python --require-hashes \
    --requirement /requirements/build.lock
