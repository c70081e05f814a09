#!/usr/bin/env bash
# Runs a gateway that trusts a real OpenID provider: oidc.sh BINARY
#
# Installs the provider below target/; needs node and npm.
set -uo pipefail
binary=$1
here=$(cd "$(dirname "$0")" && pwd)
. "$here/checks.sh"
modules=$here/../../target/clients-node
wanted="oidc-provider@9.13.3 jose@6.2.18"

if ! node --version >/dev/null 2>&1 || ! npm --version >/dev/null 2>&1; then
  skip "a real issuer's keys may change under load" "node or npm is not here"
  finish
fi
if test "$(cat "$modules/installed.txt" 2>/dev/null)" != "$wanted"; then
  mkdir -p "$modules"
  # shellcheck disable=SC2086 # several packages
  if ! npm install --prefix "$modules" --silent --no-audit --no-fund $wanted >&2; then
    skip "a real issuer's keys may change under load" "its packages cannot be installed"
    finish
  fi
  echo "$wanted" >"$modules/installed.txt"
fi
# Next to its packages, where node looks for them.
cp "$here/oidc_issuer.mjs" "$modules/"
exec python3 "$here/oidc_walk.py" "$binary" "$modules/oidc_issuer.mjs"
