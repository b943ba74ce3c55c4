#!/bin/sh
# mountkit's own wheel, into the environment that has all that it requires.
set -eu
export UV_NO_CACHE=1 UV_OFFLINE=1
/opt/tools/bin/uv pip install --python /opt/mountkit --no-deps --compile-bytecode /wheel/*.whl
/opt/tools/bin/uv pip check --python /opt/mountkit
