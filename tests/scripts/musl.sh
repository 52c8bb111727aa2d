#!/bin/bash
# musl's C library as Debian 12 builds it, unpacked into CACHE/musl, and CACHE/musl/resolve: a program
# that asks for names by that library's resolver, linked with it statically. Nothing is installed.
# Needs a C compiler, which Rust links with too. Usage: musl.sh CACHE
set -euo pipefail
CACHE=${1:?usage: musl.sh CACHE}; mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
. "$here/debian.sh"
root=$CACHE/musl
if [ ! -x "$root/resolve" ] || [ "$here/resolve.c" -nt "$root/resolve" ]; then
    command -v cc >/dev/null || die "cc is missing: apt-get install gcc"
    debs=$root.deb; rm -rf "$debs" "$root"; mkdir -p "$debs"
    (cd "$debs" && private_apt bookworm "deb bookworm main" download musl-dev >/dev/null) \
        || die "cannot download musl-dev from Debian bookworm"
    dpkg -x "$debs"/musl-dev_*.deb "$root"
    multi=$(uname -m)-linux-musl
    lib=$root/usr/lib/$multi
    cc -std=c99 -D_POSIX_C_SOURCE=200809L -O1 -Wall -static -fno-pie -no-pie -nostdinc -isystem "$root/usr/include/$multi" -nostdlib \
        -o "$root/resolve.new" "$lib/crt1.o" "$lib/crti.o" "$here/resolve.c" "$lib/libc.a" "$lib/crtn.o" \
        || die "cc cannot link with musl"
    mv "$root/resolve.new" "$root/resolve"
fi
echo "$root/resolve"
