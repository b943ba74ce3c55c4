#!/bin/sh
# What the images need of the system: Python, FUSE, tini, and the user who trains.
#   system.sh VERSION|system
set -eu
case "$1" in
    system) python=python3 ;;
    *) python="python$1" ;;
esac
apt-get update
# Mountpoint is linked to FUSE 2's library, whose package has two names.
fuse=libfuse2
if apt-cache show libfuse2t64 >/dev/null 2>&1; then
    fuse=libfuse2t64
fi
apt-get install -y --no-install-recommends ca-certificates fuse3 "$fuse" "$python" tini
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig /var/log/apt /var/log/dpkg.log
# Ubuntu's images have a user of that number.
if getent passwd 1000 >/dev/null; then
    userdel --remove "$(getent passwd 1000 | cut -d: -f1)"
fi
useradd --uid 1000 --user-group --create-home --shell /bin/bash mountkit
# A mount may be shown to another container's user, with --option allow-other.
sed -i 's/^#user_allow_other/user_allow_other/' /etc/fuse.conf
# fusermount3 unmounts for nobody without it. Docker would make it, containerd would not.
ln -sfn /proc/self/mounts /etc/mtab
# Where a volume is mounted at one of these, it gets their owner.
install -d -o mountkit -g mountkit /mnt/output /var/cache/mountkit /workspace
