#!/usr/bin/env bash
# Compares the contract with that of the last release, for what would break its clients.
#
# Says `skipped: …` where there is nothing to compare with. The tag's files are taken out of the
# clone as it is, shallow or not: nothing is fetched.
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() { echo "skipped: buf breaking: $1"; exit; }

command -v npx >/dev/null || skip 'node and npm are not installed'
git rev-parse HEAD >/dev/null 2>&1 || skip 'this is no clone'
# A commit that is a release itself is compared with the one before.
tag=$(git tag --list 'v[0-9]*' --sort=-version:refname --no-contains HEAD | head -n 1)
test -n "$tag" || skip 'there is no tag of an earlier release in this clone'

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
git archive "$tag" buf.yaml proto proto-grpc 2>"$before.log" | tar -xf - -C "$before" ||
  { rm -f "$before.log"; skip "$tag has no contract, or this clone does not have its files"; }
rm -f "$before.log"
npx --yes @bufbuild/buf breaking --against "$before"
echo "the contract breaks no client of $tag"
