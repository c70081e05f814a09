#!/usr/bin/env bash
# Calls a gateway as a page's scripts do, with the gRPC-Web transport of Connect: web.sh BINARY
#
# Installs the client below target/; needs node and npm.
set -uo pipefail
binary=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/checks.sh"
modules=$root/target/clients-web
wanted="@connectrpc/connect@2.3.0 @connectrpc/connect-web@2.3.0 @bufbuild/protobuf@2.17.0 @bufbuild/buf@1.75.0"
sentence="a page's scripts call by gRPC-Web"

if ! node --version >/dev/null 2>&1 || ! npm --version >/dev/null 2>&1; then
  skip "$sentence" "node or npm is not here"
  finish
fi
if test "$(cat "$modules/installed.txt" 2>/dev/null)" != "$wanted"; then
  mkdir -p "$modules"
  # shellcheck disable=SC2086 # several packages
  if ! npm install --prefix "$modules" --silent --no-audit --no-fund $wanted >&2; then
    skip "$sentence" "its packages cannot be installed"
    finish
  fi
  echo "$wanted" >"$modules/installed.txt"
fi
temp=$(mktemp -d)
gateway=''
trap 'test -z "$gateway" || kill "$gateway" 2>/dev/null; wait; rm -rf "$temp"' EXIT
if ! (cd "$root" && "$modules/node_modules/.bin/buf" build -o "$temp/contract.binpb") >&2; then
  skip "$sentence" "buf does not run here"
  finish
fi

page=http://localhost:3000
cat >"$temp/gateway.toml" <<END
listen = "127.0.0.1:0"
aws-listen = "off"
admin-listen = "127.0.0.1:0"
state-dir = "$temp/state"
ready-file = "$temp/ready.json"
[shutdown]
notice = "0"
[grpc-web]
allowed-origins = ["$page"]
END
"$binary" --config "$temp/gateway.toml" >"$temp/log" 2>&1 &
gateway=$!
for _ in $(seq 300); do
  test -e "$temp/ready.json" && break
  sleep 0.1
done
address=$(node -p 'JSON.parse(require("fs").readFileSync(process.argv[1])).grpc' "$temp/ready.json")
# Next to its packages, where node looks for them.
cp "$here/web_walk.mjs" "$modules/"
for said in unary error stream refused preflight; do
  case $said in
    unary) sentence='a call is answered, with its headers' ;;
    error) sentence='an error has its code, its text and its details' ;;
    stream) sentence='a stream of pages comes to its end' ;;
    refused) sentence='a page of another origin is refused' ;;
    preflight) sentence='a preflight says what may be sent and read' ;;
  esac
  check "$sentence" node "$modules/web_walk.mjs" "http://$address" "$temp/contract.binpb" "$page" "$said"
done
finish
