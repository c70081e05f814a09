#!/usr/bin/env bash
# Prints the path of promtool. Where it is not installed, and Debian has it, it is taken out of the
# package and kept below target/: nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
if command -v promtool; then exit; fi
kept=$PWD/target/promtool
if ! test -x "$kept/usr/bin/promtool"; then
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null
  rm -rf "$kept" && mkdir -p "$kept"
  (cd "$kept" && apt-get download -q prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool && rm prometheus_*.deb) >&2
fi
"$kept/usr/bin/promtool" --version >&2
echo "$kept/usr/bin/promtool"
