#!/bin/bash
# podman 4.3, conmon, runc and podman-compose as Debian 12 builds them, unpacked into
# CACHE/podman-4.3 with the libraries that a bare Debian 12 lacks, and CACHE/podman-4.3/image.tar: a
# root folder with a static busybox and musl's resolver. Nothing is installed or started. Prints that
# path. Usage: podman.sh CACHE
set -euo pipefail
CACHE=${1:?usage: podman.sh CACHE}; mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
. "$here/debian.sh"
root=$CACHE/podman-4.3
if [ ! -f "$root/image.tar" ]; then
    debs=$root.deb; rm -rf "$debs" "$root"; mkdir -p "$debs"
    (cd "$debs" && private_apt bookworm "deb bookworm main" download \
        podman conmon runc podman-compose python3-dotenv python3-yaml busybox-static \
        golang-github-containers-common golang-github-containers-image \
        libgpgme11 libassuan0 libdevmapper1.02.1 libseccomp2 libsubid4 libyaml-0-2 libglib2.0-0 \
        >/dev/null) || die "cannot download podman from Debian bookworm"
    case $(basename "$debs"/podman_*.deb) in
        podman_4.3.*) ;;
        *) die "Debian bookworm no longer has podman 4.3: $(basename "$debs"/podman_*.deb)" ;;
    esac
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$root"; done
    resolve=$("$here/musl.sh" "$CACHE")
    image=$root/image; mkdir -p "$image"/{bin,etc,tmp,proc,sys,dev,root,www}
    cp "$root/bin/busybox" "$resolve" "$image/bin/"
    for applet in $("$image/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$image/bin/$applet"
    done
    # What a pod's first container runs.
    printf '#!/bin/sh\nexec sleep 100000\n' >"$image/bin/pause"; chmod +x "$image/bin/pause"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$image/etc/passwd"
    echo hello >"$image/www/index.html"
    tar -C "$image" -cf "$root/image.new" .
    mv "$root/image.new" "$root/image.tar"
fi
echo "$root"
