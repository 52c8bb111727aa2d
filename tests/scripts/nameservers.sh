#!/bin/bash
# dnsperf, unbound, dnsmasq and aardvark-dns as Debian 12 builds them, unpacked into
# CACHE/nameservers with the libraries that a bare Debian 12 lacks. Nothing is installed or started.
# Prints that path. Usage: nameservers.sh CACHE
set -euo pipefail
CACHE=${1:?usage: nameservers.sh CACHE}; mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
. "$(dirname "$0")/debian.sh"
root=$CACHE/nameservers
if [ ! -x "$root/usr/bin/dnsperf" ]; then
    debs=$root.deb; rm -rf "$debs"; mkdir -p "$debs"
    (cd "$debs" && private_apt bookworm "deb bookworm main" download \
        dnsperf unbound dnsmasq-base aardvark-dns \
        libck0 libnghttp2-14 libssl3 libldns3 libevent-2.1-7 libpython3.11 libprotobuf-c1 \
        libhiredis0.14 libsystemd0 libdbus-1-3 libidn2-0 libunistring2 libnetfilter-conntrack3 \
        libnfnetlink0 libmnl0 libnftables1 libnftnl11 libjansson4 libxtables12 liblua5.3-0 \
        libnettle8 libhogweed6 libgmp10 libexpat1 libcap2 liblz4-1 libzstd1 liblzma5 \
        libgcrypt20 libgpg-error0 >/dev/null) \
        || die "cannot download name servers from Debian bookworm"
    rm -rf "$root.new"
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$root.new"; done
    rm -rf "$root"; mv "$root.new" "$root"
fi
echo "$root"
