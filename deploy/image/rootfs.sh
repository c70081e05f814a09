#!/usr/bin/env bash
# Puts together all that is in the image: rootfs.sh BINARY FOLDER
#
# The program, the shared libraries that it names, certificates of public authorities, and a user.
# No shell, no package manager.
set -euo pipefail
binary=$(realpath "${1:?usage: rootfs.sh BINARY FOLDER}")
root=${2:?usage: rootfs.sh BINARY FOLDER}
user=65532

mkdir -p "$root"/{etc/ssl/certs,etc/proton-gateway,usr/local/bin,run/proton-gateway,var/lib/proton-gateway}
mkdir -p "$root/tmp"
chmod 1777 "$root/tmp"
install -m 0755 "$binary" "$root/usr/local/bin/proton-gateway"

# "libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)", and the loader by its path alone. Where the
# build is static there is none, and ldd says so by its status.
if libraries=$(ldd "$binary" 2>/dev/null); then
  grep -o '/[^ ]*' <<<"$libraries" | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    install -m 0755 "$(realpath "$library")" "$root$library"
  done
fi

certificates=/etc/ssl/certs/ca-certificates.crt
if test -e "$certificates"; then
  install -m 0644 "$certificates" "$root$certificates"
else
  echo "rootfs.sh: $certificates is not there: install ca-certificates, or mount one" >&2
  exit 1
fi

printf 'root:x:0:0:root:/:/none\nproton:x:%s:%s::/var/lib/proton-gateway:/none\n' "$user" "$user" >"$root/etc/passwd"
printf 'root:x:0:\nproton:x:%s:\n' "$user" >"$root/etc/group"
# Names are looked up in files, then in the DNS.
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
chmod 0700 "$root/var/lib/proton-gateway"
chmod 0755 "$root/run/proton-gateway"
if test "$(id -u)" = 0; then
  chown "$user:$user" "$root/var/lib/proton-gateway" "$root/run/proton-gateway"
fi
