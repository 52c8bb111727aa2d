#!/bin/bash
# The peer: reference CNI plugins 1.9.1 as Debian forky builds them, unpacked into
# CACHE/reference/usr/lib/cni. Nothing is installed. Usage: reference.sh CACHE
set -euo pipefail
CACHE=${1:?usage: reference.sh CACHE}; mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
. "$(dirname "$0")/debian.sh"
plugins=$CACHE/reference/usr/lib/cni
if [ ! -x "$plugins/bridge" ]; then
    rm -rf "$CACHE/reference.deb"; mkdir -p "$CACHE/reference.deb"
    (cd "$CACHE/reference.deb" && private_apt forky "deb forky main" download containernetworking-plugins >/dev/null) \
        || die "cannot download containernetworking-plugins"
    rm -rf "$CACHE/reference.new"; dpkg -x "$CACHE"/reference.deb/*.deb "$CACHE/reference.new"
    rm -rf "$CACHE/reference"; mv "$CACHE/reference.new" "$CACHE/reference"
fi
version=$(basename "$CACHE"/reference.deb/*.deb)
case $version in *_1.9.1*) ;; *) echo "reference.sh: warning: this is not 1.9.1 but $version" >&2 ;; esac
echo "$plugins"
