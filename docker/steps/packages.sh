#!/bin/sh
# What a lock file has, into the environment; then the versions that were asked for, where they differ.
#   packages.sh LOCK [NAME==VERSION...]
# NAME== without a version is the lock file's.
set -eu
uv="/opt/tools/bin/uv"
lock="$1"
shift
[ -d /opt/mountkit ] || "$uv" venv --python python3 /opt/mountkit
"$uv" pip install --python /opt/mountkit --compile-bytecode --require-hashes --no-deps --requirement "$lock"
for package in "$@"; do
    case "$package" in
        *==) ;;
        *) "$uv" pip install --python /opt/mountkit --compile-bytecode "$package" ;;
    esac
done
"$uv" pip check --python /opt/mountkit
