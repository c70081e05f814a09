#!/usr/bin/env bash
# Checks what is in deploy/, without a network and without a cluster: run.sh BINARY
#
# The last line says how many checks passed, failed and were skipped; any failure fails the run.
set -uo pipefail
binary=$(realpath "${1:?usage: run.sh BINARY}")
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
trap 'exit 130' INT TERM
export PYTHONDONTWRITEBYTECODE=1

passed=0 failed=0 skipped=0
source "$here/../clients/checks.sh"
cd "$root" || exit 1

# run NAME COMMAND…: adds up what the command says in its last line.
run() {
  echo
  echo "== $1"
  local code=0
  "${@:2}" 2>&1 | grep -v 'INFO found symbolic link' | tee "$temp/said" || code=$?
  if [[ $(tail -n 1 "$temp/said") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
    skipped=$((skipped + BASH_REMATCH[3]))
  else
    echo "$1 ended without a count, with exit code $code"
    failed=$((failed + 1))
  fi
}

echo "== files"
if promtool=$(bash "$here/promtool.sh"); then
  check "promtool: the rules are good" "$promtool" check rules deploy/prometheus/rules.yaml
  check "promtool: alerts fire when they should" "$promtool" test rules deploy/prometheus/rules_test.yaml
  check "promtool: the configuration of compose is good" "$promtool" check config --syntax-only deploy/compose/prometheus.yml
else
  skip "rules of Prometheus" "promtool is not installed, and cannot be fetched here"
fi
if command -v systemd-analyze >/dev/null; then
  # The program stands somewhere else here.
  sed "s|/usr/local/bin/proton-gateway|$binary|" deploy/systemd/proton-gateway.service >"$temp/proton-gateway.service"
  # It says much of the machine's own units.
  check "systemd: the unit is good" bash -c '
    said=$(systemd-analyze verify "$1" 2>&1 | grep "proton-gateway.service"); echo "$said"; test -z "$said"' - "$temp/proton-gateway.service"
  if systemd-analyze security --help 2>/dev/null | grep -q -- --offline; then
    check "systemd: the unit is hardened" systemd-analyze security --offline=yes --threshold=15 "$temp/proton-gateway.service"
  else
    skip "systemd: the unit is hardened" "this systemd-analyze does not look at files"
  fi
else
  skip "the unit of systemd" "systemd-analyze is not installed"
fi
for script in deploy/image/*.sh tests/deploy/*.sh; do
  check "$script can be read by bash" bash -n "$script"
done
check "the two lists of what an image is built from are one" cmp .dockerignore deploy/image/Dockerfile.dockerignore
if ! test -e /etc/ssl/certs/ca-certificates.crt; then
  skip "the image's files" "ca-certificates is not installed"
else
  check "the image's files are put together" bash deploy/image/rootfs.sh "$binary" "$temp/rootfs"
  if test "$(id -u)" = 0; then
    check "the program runs from them alone, as nobody" \
      chroot --userspec=65532:65532 "$temp/rootfs" /usr/local/bin/proton-gateway check-config
  else
    skip "the program runs from them alone" "chroot takes root"
  fi
fi

if ! command -v openssl >/dev/null; then
  skip "charts, overlays, configurations and metrics" "openssl is not installed"
  finish
fi
# An issuer, and a gateway's certificate of it.
key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2)
check "certificates are made" bash -c '
  cd "$1" && openssl req -x509 "${@:2}" -subj /CN=issuer -keyout ca.key -out ca.crt &&
  openssl req -x509 "${@:2}" -subj /CN=gateway -CA ca.crt -CAkey ca.key \
    -addext basicConstraints=CA:FALSE -addext subjectAltName=DNS:localhost -keyout tls.key -out tls.crt' - "$temp" "${key[@]}"

if tools=$(bash "$here/../clients/venv.sh" tests/deploy/requirements.txt deploy-venv); then
  check "hadolint: the Dockerfile is good" "$tools/hadolint" deploy/image/Dockerfile
  run "manifests" "$tools/python" "$here/manifests.py" "$binary" "$temp"
  run "files" "$tools/python" "$here/files.py" "$binary" "$temp"
  run "sidecar and central gateway" "$tools/python" "$here/sidecar.py" "$binary" "$temp"
  run "metrics" "$tools/python" "$here/metrics.py" "$binary" "$temp"
else
  skip "charts, overlays, configurations and metrics" "Python and the packages in requirements.txt cannot be installed here"
fi
echo
finish
