#!/usr/bin/env bash
# Runs what docs/recipes.md shows against a gateway: recipes.sh BINARY ADDRESS
set -euo pipefail
cd "$(dirname "$0")"
buf=$(realpath ../../target)/clients-buf
# Pinned, as in requirements.txt; without npm its commands are skipped.
if command -v npm >/dev/null && ! test -x "$buf/node_modules/.bin/buf"; then
  npm install --prefix "$buf" --silent --no-audit --no-fund @bufbuild/buf@1.75.0
fi
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
ln -s "$(realpath "$1")" "$programs/proton-gateway"
PATH=$programs:$buf/node_modules/.bin:$PATH python console.py ../../docs/recipes.md "$2"
