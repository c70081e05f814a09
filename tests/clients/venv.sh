#!/usr/bin/env bash
# Installs Python packages below target/ and prints the folder with their programs: venv.sh [LIST NAME]
#
# The clients where nothing else is said. Does nothing if what is there was made from the same list, and
# here: the programs name their folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
list=${1:-tests/clients/requirements.txt}
venv=$PWD/target/${2:-clients-venv}
made_of() { echo "# $venv"; cat "$list"; }
if ! made_of | cmp -s - "$venv/installed.txt"; then
  rm -rf "$venv"
  mkdir -p target
  if ! python3 -m venv "$venv" >&2; then
    # Debian has the module in a package of its own.
    rm -rf "$venv"
    test "$(id -u)" = 0 && command -v apt-get >/dev/null
    { apt-get update -q && apt-get install -qy python3 python3-venv; } >&2
    python3 -m venv "$venv" >&2
  fi
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$list" >&2
  # Last: a folder that was left half made is made again.
  made_of >"$venv/installed.txt"
fi
echo "$venv/bin"
