#!/bin/bash
# etcd and etcdctl as Debian 12 builds them (3.4.23), unpacked into CACHE/etcd with what they are linked with. Nothing is
# installed or started. Prints that path. Usage: etcd.sh CACHE
set -euo pipefail
CACHE=${1:?usage: etcd.sh CACHE}; mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
. "$(dirname "$0")/debian.sh"
root=$CACHE/etcd
if [ ! -x "$root/usr/bin/etcd" ]; then
    debs=$root.deb; rm -rf "$debs"; mkdir -p "$debs"
    (cd "$debs" && private_apt bookworm "deb bookworm main" download etcd-server etcd-client >/dev/null) \
        || die "cannot download etcd from Debian bookworm"
    rm -rf "$root.new"
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$root.new"; done
    rm -rf "$root"; mv "$root.new" "$root"
fi
echo "$root"
