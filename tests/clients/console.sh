#!/usr/bin/env bash
# Runs what a document shows, against a gateway of its own: console.sh BINARY DOCUMENT STEP
#
# STEP is how long the gateway's simulated deployments take.
set -euo pipefail
binary=$(realpath "$1") document=$(realpath "$2") step=$3
cd "$(dirname "$0")"
buf=$(realpath ../../target)/clients-buf
# Pinned, as in requirements.txt; without npm its commands are skipped.
if command -v npm >/dev/null && ! test -x "$buf/node_modules/.bin/buf"; then
  npm install --prefix "$buf" --silent --no-audit --no-fund @bufbuild/buf@1.75.0
fi
temp=$(mktemp -d)
gateway=''
stop() {
  test -z "$gateway" || { kill "$gateway" && wait "$gateway"; } || true
  rm -rf "$temp"
}
trap stop EXIT
mkdir "$temp/bin"
ln -s "$binary" "$temp/bin/proton-gateway"
"$binary" --listen 127.0.0.1:0 --aws-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --log warn \
  --state-dir "$temp/state" --simulated-step "$step" --ready-file "$temp/ready.json" &
gateway=$!
for _ in $(seq 300); do
  test -e "$temp/ready.json" && break
  kill -0 "$gateway"
  sleep 0.1
done
PATH=$temp/bin:$buf/node_modules/.bin:$PATH python console.py "$document" "$temp/ready.json"
