#!/bin/bash
# dockerd 20.10 with its containerd and runc as Debian 12 builds them, unpacked into
# CACHE/dockerd-20.10. Nothing is installed or started. Prints that path. Usage: dockerd.sh CACHE
set -euo pipefail
CACHE=${1:?usage: dockerd.sh CACHE}; mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
. "$(dirname "$0")/debian.sh"
root=$CACHE/dockerd-20.10
if [ ! -x "$root/usr/sbin/dockerd" ] && [ ! -x "$root/usr/bin/dockerd" ]; then
    debs=$root.deb; rm -rf "$debs"; mkdir -p "$debs"
    # libdevmapper is the only library of theirs that is not on every Debian.
    (cd "$debs" && private_apt bookworm "deb bookworm main" download docker.io containerd runc libdevmapper1.02.1 >/dev/null) \
        || die "cannot download docker.io from Debian bookworm"
    case $(basename "$debs"/docker.io_*.deb) in
        *_20.10.*) ;;
        *) die "Debian bookworm no longer has dockerd 20.10: $(basename "$debs"/docker.io_*.deb)" ;;
    esac
    rm -rf "$root.new"
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$root.new"; done
    rm -rf "$root"; mv "$root.new" "$root"
fi
echo "$root"
