#!/bin/bash
# podman 5's network program: netavark as Debian forky builds it, with the C library that it wants, unpacked into
# CACHE/netavark. Nothing is installed. Prints that folder. This machine's C library is older, so netavark is run
# by the loader that is unpacked beside it: usr/lib/ARCH-linux-gnu/ld-linux-ARCH.so.2 --library-path FOLDER netavark.
# Usage: netavark.sh CACHE
set -euo pipefail
CACHE=${1:?usage: netavark.sh CACHE}; mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
. "$(dirname "$0")/debian.sh"
netavark=$CACHE/netavark
if [ ! -x "$netavark/usr/lib/podman/netavark" ]; then
    debs=$CACHE/netavark.debs; rm -rf "$debs"; mkdir -p "$debs"
    (cd "$debs" && private_apt forky "deb forky main" download netavark libc6 libgcc-s1 >/dev/null) \
        || die "cannot download netavark, libc6 and libgcc-s1 from Debian forky"
    rm -rf "$netavark.new"
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$netavark.new"; done
    rm -rf "$netavark"; mv "$netavark.new" "$netavark"
fi
echo "$netavark"
