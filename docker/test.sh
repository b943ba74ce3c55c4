#!/usr/bin/env bash
# Prove an image: what is in it, that it saves, and that it tells the truth where it cannot.
#
#   docker/test.sh IMAGE [--gpus GPUS]
#
# IMAGE is a trainer or a sidecar. GPUS is as for docker run; all where the engine has NVIDIA's runtime,
# none otherwise. A store is started from the image itself, on a loopback port. Ends with 0 if everything
# held, with 1 if not, and with a table in either case. WORK=DIR keeps the logs.
#
# shellcheck disable=SC2329 # check calls the functions by their names
set -uo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

usage() {
    sed -n 's/^# \{0,1\}//; 2,8p' "${BASH_SOURCE[0]}"
    exit 2
}

image="${1:-}"
[ -n "$image" ] || usage
case "$image" in -*) usage ;; esac
shift
gpus=""
case "${1:-}" in
    "") ;;
    --gpus) gpus="${2:?--gpus needs a value, such as all}" ;;
    *) usage ;;
esac

LIMIT=600
WAIT=120
TARGET=/mnt/output
BUCKET=images

name="mountkit-test-$$"
work="${WORK:-$(mktemp -d)}"
mkdir -p "$work"
failed=0
rows=()

finish() {
    docker ps --all --quiet --filter "label=$name" | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
    docker volume ls --quiet --filter "label=$name" | xargs --no-run-if-empty docker volume rm >/dev/null
    [ -n "${WORK:-}" ] || rm -rf "$work"
}
trap finish EXIT

# check NAME FUNCTION...: the last line of what the function prints is what the table shows.
check() {
    local title="$1" log="$work/${2}.log" began=$SECONDS verdict=ok
    shift
    "$@" >"$log" 2>&1
    case $? in
        0) ;;
        3) verdict=-- ;;
        *)
            verdict=FAILED
            failed=1
            printf '\n%s\n' "--- $title" >&2
            tail -n 40 "$log" >&2
            ;;
    esac
    rows+=("$(printf '%-9s %-22s %4s s  %s' "$verdict" "$title" $((SECONDS - began)) "$(tail -n 1 "$log")")")
    printf '%s\n' "${rows[-1]}"
}

# run OPTION... IMAGE COMMAND...: a container with this test's label, bounded in time.
run() { timeout --kill-after 30 "$LIMIT" docker run --label "$name" --network host "$@"; }

fuse=(--device /dev/fuse --cap-add SYS_ADMIN)
if docker info --format '{{.SecurityOptions}}' 2>/dev/null | grep -q apparmor; then
    fuse+=(--security-opt apparmor=unconfined)
fi

# Names without values: docker takes them from the environment, and no key is on a command line.
store=(--env AWS_ACCESS_KEY_ID --env AWS_SECRET_ACCESS_KEY --env AWS_REGION --env MOUNTKIT_ENDPOINT_URL
    --env MOUNTKIT_BACKEND)
AWS_ACCESS_KEY_ID="test$$$RANDOM"
AWS_SECRET_ACCESS_KEY="$(head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n')"
# A list, in which the comma of this pair needs quotes.
RCLONE_AUTH_KEY="$(printf '"%s,%s"' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY")"
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION=us-east-1 RCLONE_AUTH_KEY MOUNTKIT_ENDPOINT_URL="" \
    MOUNTKIT_BACKEND=rclone

# until_it_holds SECONDS COMMAND...: 1 if it never did.
until_it_holds() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}

said() { docker logs "$1" 2>&1 | grep -q "$2"; }

# expect CODE FILE TEXT...: what a command ended with, and each text in what it said.
expect() {
    local wanted="$1" got="$2" file="$3" text
    shift 3
    cat "$file"
    if [ "$got" != "$wanted" ]; then
        echo "exit code $got instead of $wanted"
        return 1
    fi
    for text in "$@"; do
        if ! grep -q -e "$text" "$file"; then
            echo "it did not say: $text"
            return 1
        fi
    done
}

versions() {
    run --rm "$image" sh -euc '
        python --version; mountkit --version; rclone version | head -n 1
        tini --version; fusermount3 --version
        if command -v mount-s3 >/dev/null; then mount-s3 --version; else echo "no mount-s3"; fi
        python -c "
import importlib.metadata as m
for name in (\"torch\", \"transformers\"):
    try: print(name, m.version(name))
    except m.PackageNotFoundError: pass"' 2>"$work/versions.err" >"$work/versions" || {
        cat "$work/versions" "$work/versions.err"
        return 1
    }
    paste -sd';' "$work/versions" | sed 's/;/, /g'
}

ordinary_user() {
    local user
    user="$(run --rm "$image" id -u 2>/dev/null)" || return 1
    echo "the command is uid $user"
    [ "$user" != 0 ]
}

left_behind() {
    # shellcheck disable=SC2016 # the container's shell is to expand it
    run --rm --user 0 "$image" sh -c '
        for tool in pip pip3 uv gcc g++ cc make curl gpg; do command -v "$tool"; done
        find /run/secrets /root/.cache /root/.pip /root/.config /var/lib/apt/lists /var/cache/apt /opt/tools \
            /steps /requirements -type f 2>/dev/null
        true' 2>/dev/null >"$work/left"
    if [ -s "$work/left" ]; then
        echo "in the image: $(paste -sd' ' "$work/left")"
        return 1
    fi
    echo "no build tool, package cache or secret"
}

gpu() {
    if ! run --rm "$image" python -c 'import torch' 2>/dev/null; then
        echo "no torch in this image"
        return 3
    fi
    if [ -z "$gpus" ] && docker info --format '{{json .Runtimes}}' | grep -q nvidia; then
        gpus=all
    fi
    run --rm --interactive ${gpus:+--gpus "$gpus"} "$image" python - <"$here/gpu_check.py" 2>"$work/gpu.err"
    local code=$?
    if [ "$code" = 3 ] && [ -n "$gpus" ]; then
        return 1
    fi
    return "$code"
}

without_bucket() {
    # shellcheck disable=SC2016
    run --rm "$image" sh -c 'echo saved >"$MOUNTKIT_TARGET/file" && exit 7' >"$work/local" 2>&1
    expect 7 $? "$work/local" "no bucket is configured" || return 1
    echo "the command runs, its exit code is passed on, and it is said that nothing is mounted"
}

without_device() {
    run --rm --cap-add SYS_ADMIN "${store[@]}" --env MOUNTKIT_SOURCE="s3://$BUCKET/none" "$image" true \
        >"$work/device" 2>&1
    expect 69 $? "$work/device" "--device /dev/fuse" || return 1
    echo "69, and the flag to add: --device /dev/fuse"
}

without_capability() {
    run --rm --device /dev/fuse "${store[@]}" --env MOUNTKIT_SOURCE="s3://$BUCKET/none" "$image" true \
        >"$work/capability" 2>&1
    expect 69 $? "$work/capability" "--cap-add SYS_ADMIN" || return 1
    echo "69, and the flag to add: --cap-add SYS_ADMIN"
}

start_store() {
    run --detach --name "$name-store" --env RCLONE_AUTH_KEY --entrypoint tini "$image" -- sh -c \
        "mkdir -p $BUCKET && exec rclone serve s3 --config '' --addr 127.0.0.1:0 --dir-cache-time 1s ." || return 1
    until_it_holds "$WAIT" said "$name-store" "Starting s3 server" || {
        docker logs "$name-store"
        return 1
    }
    store_url
}

store_url() { docker logs "$name-store" 2>&1 | sed -n 's|.*Starting s3 server on \[\(http://[^]/]*\)/*\].*|\1|p'; }

# job NAME PREFIX OPTION... -- COMMAND...: a command that saves, in the background.
job() {
    local job="$1" prefix="$2" options=()
    shift 2
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    run --detach --name "$name-$job" "${fuse[@]}" "${store[@]}" --env MOUNTKIT_SOURCE="s3://$BUCKET/$prefix" \
        "${options[@]}" "$image" "$@" >/dev/null
}

# ended NAME CODE TEXT...
ended() {
    local job="$1" code
    shift
    code="$(timeout "$LIMIT" docker wait "$name-$job")"
    docker logs "$name-$job" >"$work/$job" 2>&1
    expect "$1" "$code" "$work/$job" "${@:2}"
}

# Compare with what the job itself counted before it saved: through a mount of a container of its own.
compare() {
    run --rm "${fuse[@]}" "${store[@]}" --env MOUNTKIT_SOURCE="s3://$BUCKET/$1" "$image" \
        sh -euc "cd $TARGET && sha256sum --check sums"
}

# Nobody stays in the mount: who stood in one that is replaced stands in the dead one.
# shellcheck disable=SC2016
SAVE='cd /tmp; for n in 1 2 3; do head -c 8000000 /dev/urandom >$n; cp $n "$MOUNTKIT_TARGET"; done
    sha256sum 1 2 3 >"$MOUNTKIT_TARGET/sums"'

save() {
    job save saved -- sh -euc "$SAVE" || return 1
    ended save 0 "all that was written is proven" || return 1
    compare saved || return 1
    echo "exit code 0, proven, and read back by another container"
}

daemon_killed() {
    job killed killed -- sh -euc "$SAVE; echo saved; until [ -e go ]; do sleep 0.2; done; cp 1 $TARGET/again" \
        || return 1
    until_it_holds "$WAIT" said "$name-killed" '^saved$' || return 1
    docker exec "$name-killed" python -c '
import json, os, signal, subprocess
mount = json.loads(subprocess.check_output(["mountkit", "status", "--format", "json"]))["mounts"][0]
os.kill(mount["daemon_pid"], signal.SIGKILL)' || return 1
    until_it_holds "$WAIT" remounted "$name-killed" || return 1
    docker exec "$name-killed" touch /tmp/go
    ended killed 0 "all that was written is proven" || return 1
    compare killed || return 1
    echo "mounted again, exit code 0, proven, and read back by another container"
}

remounted() {
    docker exec "$1" mountkit status --format json | grep -q '"state": "serving".*"remounts": [1-9]'
}

signal() {
    job stopped stopped --env MOUNTKIT_GRACE=60 -- sh -euc "$SAVE; echo saved; exec sleep 1000" || return 1
    until_it_holds "$WAIT" said "$name-stopped" '^saved$' || return 1
    docker stop --time 60 "$name-stopped" || return 1
    ended stopped 143 "all that was written is proven" || return 1
    compare stopped || return 1
    echo "docker stop: exit code 143, proven, and read back by another container"
}

health() {
    job healthy healthy -- sh -euc 'echo up; exec sleep 1000' || return 1
    until_it_holds "$WAIT" said "$name-healthy" '^up$' || return 1
    # ["CMD", "sh", "-c", SCRIPT]
    docker exec "$name-healthy" sh -c \
        "$(docker image inspect --format '{{index .Config.Healthcheck.Test 3}}' "$image")" || return 1
    docker kill --signal TERM "$name-healthy" || return 1
    ended healthy 143 || return 1
    echo "the health check holds while the mount serves"
}

training() {
    if ! run --rm "$image" python -c 'import transformers' 2>/dev/null; then
        echo "no transformers in this image"
        return 3
    fi
    run --rm "${fuse[@]}" "$image" mountkit demo >"$work/demo" 2>&1
    expect 0 $? "$work/demo" || return 1
    echo "mountkit demo: saved, daemon killed, stopped, resumed, every byte compared"
}

docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" >/dev/null || {
    echo "There is no image $image here, and it cannot be pulled. Build it: make image"
    exit 1
}
check "versions" versions
check "ordinary user" ordinary_user
check "left behind" left_behind
check "GPU" gpu
check "no bucket" without_bucket
check "a store of its own" start_store
MOUNTKIT_ENDPOINT_URL="$(store_url)"
if [ -n "$MOUNTKIT_ENDPOINT_URL" ]; then
    check "no /dev/fuse" without_device
    check "no capability" without_capability
    check "save, proof" save
    check "daemon killed" daemon_killed
    check "docker stop" signal
    check "health check" health
fi
check "train, resume" training

printf '\n%s\n' "$image, $(docker image inspect --format '{{.Size}}' "$image" | awk '{printf "%.0f MB", $1 / 1e6}')"
printf '%s\n' "${rows[@]}"
[ "$failed" = 0 ] && echo "The image holds." || echo "The image does not hold; the logs are above (WORK=DIR keeps them)."
exit "$failed"
