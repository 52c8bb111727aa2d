#!/bin/bash
# firewalld 1.3 and dbus-daemon as Debian 12 builds them, unpacked into CACHE/firewalld-1.3 with the
# libraries and Python modules that a bare Debian 12 lacks. Nothing is installed or started. Prints
# that path. Usage: firewalld.sh CACHE
set -euo pipefail
CACHE=${1:?usage: firewalld.sh CACHE}; mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
. "$(dirname "$0")/debian.sh"
root=$CACHE/firewalld-1.3
if [ ! -x "$root/usr/sbin/firewalld" ]; then
    debs=$root.deb; rm -rf "$debs"; mkdir -p "$debs"
    (cd "$debs" && private_apt bookworm "deb bookworm main" download \
        firewalld python3-firewall python3-dbus python3-gi gir1.2-glib-2.0 libgirepository-1.0-1 \
        python3-nftables libnftables1 libnftnl11 libjansson4 libmnl0 libxtables12 \
        python3-cap-ng libcap-ng0 dbus-daemon libdbus-1-3 libapparmor1 libaudit1 libexpat1 libglib2.0-0 >/dev/null) \
        || die "cannot download firewalld from Debian bookworm"
    case $(basename "$debs"/firewalld_*.deb) in
        firewalld_1.3.*) ;;
        *) die "Debian bookworm no longer has firewalld 1.3: $(basename "$debs"/firewalld_*.deb)" ;;
    esac
    rm -rf "$root.new"
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$root.new"; done
    rm -rf "$root"; mv "$root.new" "$root"
fi
echo "$root"
