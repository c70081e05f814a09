#!/usr/bin/env bash
# How large the image is: measure.sh [BINARY]
#
# Without a binary it builds one as the Dockerfile does (profile dist), and says how long that took.
# Exits with 1 if the image is larger than the goal. With buildah the image itself is made and
# measured too, from the same files and without a network.
set -euo pipefail
cd "$(dirname "$0")/../.."
goal=$((40 * 1024 * 1024))
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }

binary=${1:-}
if test -z "$binary"; then
  begun=$SECONDS
  cargo build --profile dist --locked --bin proton-gateway
  echo "build:        $((SECONDS - begun)) s"
  target=$(cargo metadata --format-version 1 --no-deps --locked | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)
  binary=$target/dist/proton-gateway
fi

bash deploy/image/rootfs.sh "$binary" "$temp/root"
program=$(stat -c %s "$temp/root/usr/local/bin/proton-gateway")
size=$(find "$temp/root" -type f -printf '%s\n' | awk '{ all += $1 } END { print all }')
layer=$(tar -C "$temp/root" -c . | gzip -6 | wc -c)
echo "program:      $(mib "$program")"
echo "all files:    $(mib "$size")"
echo "to be pulled: $(mib "$layer")"

if command -v buildah >/dev/null && test "$(id -u)" = 0; then
  export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
  storage=(--root "$temp/storage" --runroot "$temp/run")
  container=$(buildah "${storage[@]}" from scratch)
  buildah "${storage[@]}" copy -q "$container" "$temp/root" / >/dev/null
  buildah "${storage[@]}" config --user 65532:65532 --entrypoint '["/usr/local/bin/proton-gateway"]' "$container"
  buildah "${storage[@]}" commit -q "$container" measured >/dev/null
  echo "image:        $(buildah "${storage[@]}" images --format '{{.Size}}' measured)"
  buildah "${storage[@]}" rm "$container" >/dev/null
else
  echo "skipped: the image itself: it takes buildah, and root"
fi
if test "$size" -gt "$goal"; then
  echo "larger than the goal of $(mib "$goal")"
  exit 1
fi
