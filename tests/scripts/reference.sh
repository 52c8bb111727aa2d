#!/bin/bash
# The peer: reference CNI plugins 1.9.1 as Debian forky builds them, or 1.1.1 as Debian 12 does,
# unpacked into CACHE/reference-VERSION/usr/lib/cni. Nothing is installed. Prints that path.
# Usage: reference.sh CACHE [VERSION]
set -euo pipefail
CACHE=${1:?usage: reference.sh CACHE [VERSION]}; mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
version=${2:-1.9.1}
. "$(dirname "$0")/debian.sh"
case $version in
    1.9.1) suite=forky ;;
    1.1.1) suite=bookworm ;;
    *) die "no Debian suite is known that has the reference plugins $version" ;;
esac
plugins=$CACHE/reference-$version/usr/lib/cni
if [ ! -x "$plugins/bridge" ]; then
    debs=$CACHE/reference-$version.deb; rm -rf "$debs"; mkdir -p "$debs"
    (cd "$debs" && private_apt "$suite" "deb $suite main" download containernetworking-plugins >/dev/null) \
        || die "cannot download containernetworking-plugins from Debian $suite"
    case $(basename "$debs"/*.deb) in
        *_"$version"*) ;;
        *) die "Debian $suite no longer has the reference plugins $version: $(basename "$debs"/*.deb)" ;;
    esac
    rm -rf "$CACHE/reference-$version.new"; dpkg -x "$debs"/*.deb "$CACHE/reference-$version.new"
    rm -rf "$CACHE/reference-$version"; mv "$CACHE/reference-$version.new" "$CACHE/reference-$version"
fi
echo "$plugins"
