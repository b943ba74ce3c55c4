#!/bin/sh
# Mountpoint for S3 into /mountpoint, which is laid over an image's root.
#   mountpoint.sh VERSION|latest|none ARCHITECTURE
# A program handed in as docker/bin/mount-s3 wins; it is the caller's word then what it is.
set -eu
version="$1"
KEY=8AEFE705EBE329C0948C75A66F1C3B3AEF4B030B
release=https://s3.amazonaws.com/mountpoint-s3-release

mkdir -p /mountpoint/usr/local/bin
if [ -f /handed-in/mount-s3 ]; then
    install -m 755 /handed-in/mount-s3 /mountpoint/usr/local/bin/mount-s3
    exit
fi
[ "$version" != none ] || exit 0
case "${2:-$(dpkg --print-architecture)}" in
    amd64) machine=x86_64 ;;
    arm64) machine=arm64 ;;
    *)
        echo "There is no package of Mountpoint for $2. Build with: --build-arg MOUNTPOINT=none"
        exit 1
        ;;
esac
case "$version" in
    latest) package="$release/latest/$machine/mount-s3.deb" ;;
    *) package="$release/$version/$machine/mount-s3-$version-$machine.deb" ;;
esac
cd "$(mktemp -d)"
fetch() { curl --fail --silent --show-error --location --retry 3 --max-time 300 --output "$1" "$2"; }
if ! { fetch KEYS "$release/public_keys/KEYS" && fetch mount-s3.deb "$package" \
    && fetch mount-s3.deb.asc "$package.asc"; }; then
    echo "Mountpoint $version could not be downloaded. Hand a program in as docker/bin/mount-s3," \
        "or build without: --build-arg MOUNTPOINT=none"
    exit 1
fi
GNUPGHOME="$(mktemp -d)"
export GNUPGHOME
gpg --batch --quiet --import KEYS
gpg --batch --status-fd 1 --verify mount-s3.deb.asc mount-s3.deb >verified || {
    echo "The signature of $package is not good."
    exit 1
}
grep -q "^\[GNUPG:\] VALIDSIG .*$KEY\$" verified || {
    echo "$package is signed by another key than $KEY."
    exit 1
}
dpkg-deb --extract mount-s3.deb unpacked
install -m 755 unpacked/opt/aws/mountpoint-s3/bin/mount-s3 /mountpoint/usr/local/bin/mount-s3
# Its licences belong to it.
for text in LICENSE NOTICE THIRD_PARTY_LICENSES; do
    if [ -f "unpacked/opt/aws/mountpoint-s3/$text" ]; then
        install -D -m 644 -t /mountpoint/usr/local/share/doc/mount-s3 "unpacked/opt/aws/mountpoint-s3/$text"
    fi
done
