#!/usr/bin/env bash
# Make the lock files anew: from the *.in files and pyproject.toml, for all platforms, with hashes.
#
#   docker/requirements/lock.sh              what still fits stays as it is
#   docker/requirements/lock.sh --upgrade    the newest of everything
#
# The index is the one this machine is set up with; its address does not get into the files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

command -v uv >/dev/null || { echo "uv is missing. Install it: pip install uv"; exit 1; }

# lock OUTPUT ARGUMENT...
lock() {
    local output="$1"
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
        --no-emit-index-url --no-emit-find-links --custom-compile-command docker/requirements/lock.sh \
        --output-file "$output" "$@"
}

extras=(--extra rclone --extra gs --extra az)
lock build.lock build.in "$@"
lock torch.lock torch.in "$@"
lock sidecar.lock ../../pyproject.toml "${extras[@]}" "$@"
# torch has a layer of its own. What both have is one version.
lock trainer.lock ../../pyproject.toml "${extras[@]}" --extra trainer \
    --override <(echo 'torch ; sys_platform == "never"') \
    --constraint torch.lock --constraint sidecar.lock "$@"
