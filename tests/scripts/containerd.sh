#!/bin/bash
# What a test of containerd needs beside dockerd.sh, which unpacks containerd 1.6, ctr and runc: the
# Python package grpcio in CACHE/cri, and CACHE/cri/image.tar, an archive of an image named
# localhost/box:1 made from podman.sh's root folder. Nothing is installed or started. Prints
# CACHE/cri. Usage: containerd.sh CACHE
set -euo pipefail
CACHE=${1:?usage: containerd.sh CACHE}; mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
. "$here/debian.sh"
root=$CACHE/cri
if [ ! -f "$root/image.tar" ]; then
    python3 -m pip --version >/dev/null 2>&1 || die "python3-pip is missing: apt-get install python3-pip"
    rm -rf "$root"; mkdir -p "$root/wheels"
    python3 -m pip --disable-pip-version-check download -q -d "$root/wheels" grpcio==1.78.0 || die "cannot download grpcio"
    for wheel in "$root"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$root/python"; done
    layer=$("$here/podman.sh" "$CACHE")/image.tar
    python3 - "$layer" "$root/image.new" <<'PYTHON'
import hashlib, io, json, sys, tarfile
layer, archive = sys.argv[1:]
with open(layer, "rb") as file:
    content = file.read()
digest = hashlib.sha256(content).hexdigest()
config = json.dumps({
    "architecture": "amd64", "os": "linux",
    "config": {"Cmd": ["/bin/pause"], "Env": ["PATH=/bin"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
}).encode()
name = hashlib.sha256(config).hexdigest() + ".json"
manifest = [{"Config": name, "RepoTags": ["localhost/box:1"], "Layers": [digest + "/layer.tar"]}]
with tarfile.open(archive, "w") as out:
    for path, data in ((name, config), (digest + "/layer.tar", content),
                       ("manifest.json", json.dumps(manifest).encode())):
        entry = tarfile.TarInfo(path)
        entry.size = len(data)
        out.addfile(entry, io.BytesIO(data))
PYTHON
    mv "$root/image.new" "$root/image.tar"
fi
echo "$root"
