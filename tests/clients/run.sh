#!/usr/bin/env bash
# Runs real clients against a gateway: run.sh BINARY
#
# Starts the binary on free ports with a state folder of its own, and stops it at the end. The
# last line says how many checks passed, failed and were skipped; any failure fails the run.
set -uo pipefail
binary=$(realpath "${1:?usage: run.sh BINARY}")
here=$(cd "$(dirname "$0")" && pwd)
examples=$(cd "$here/../../examples" && pwd)
temp=$(mktemp -d)
export PYTHONDONTWRITEBYTECODE=1
gateway=''

stop() {
  if test -n "$gateway"; then
    kill "$gateway" 2>/dev/null
    # Longer than a drain; after that it has to go.
    for _ in $(seq 150); do kill -0 "$gateway" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$gateway" 2>/dev/null
    wait "$gateway" 2>/dev/null
    gateway=''
  fi
}
trap 'stop; rm -rf "$temp"' EXIT
trap 'exit 130' INT TERM

passed=0 failed=0 skipped=0
total() {
  echo
  echo "$passed passed, $failed failed, $skipped skipped"
  exit $((failed > 0))
}

if ! tools=$(bash "$here/venv.sh"); then
  echo "skipped: all clients: Python and the packages in requirements.txt cannot be installed here"
  skipped=1
  total
fi
PATH=$tools:$PATH

"$binary" --listen 127.0.0.1:0 --aws-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 \
  --state-dir "$temp/state" --simulated-step 200ms --ready-file "$temp/ready.json" >"$temp/log" 2>&1 &
gateway=$!
for _ in $(seq 300); do
  test -e "$temp/ready.json" && break
  kill -0 "$gateway" 2>/dev/null || break
  sleep 0.1
done
if ! test -e "$temp/ready.json"; then
  echo "the gateway did not start:"
  cat "$temp/log"
  failed=1
  total
fi
address() { python -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$temp/ready.json" "$1"; }
grpc=$(address grpc) aws=$(address aws) admin=$(address admin)

# run NAME COMMAND…: adds up what the command says in its last line.
run() {
  echo
  echo "== $1"
  local code=0
  "${@:2}" 2>&1 | tee "$temp/said" || code=$?
  if [[ $(tail -n 1 "$temp/said") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
    skipped=$((skipped + BASH_REMATCH[3]))
  else
    echo "$1 ended without a count, with exit code $code"
    failed=$((failed + 1))
  fi
}

run "boto3" python "$here/boto3_walk.py" "http://$aws" "$examples"
run "AWS CLI" bash "$here/aws_cli_walk.sh" "http://$aws" "$examples"
run "grpcio" python "$here/grpc_walk.py" "$grpc"
if grpcurl --version >/dev/null 2>&1; then
  run "grpcurl" bash "$here/grpcurl_walk.sh" "$grpc"
else
  echo
  echo "skipped: grpcurl: the program of its package does not run here"
  skipped=$((skipped + 1))
fi
run "docs/recipes.md" bash "$here/console.sh" "$binary" "$here/../../docs/recipes.md" 200ms
# Steps so short that each command finds what the one before began.
run "README.md" bash "$here/console.sh" "$binary" "$here/../../README.md" 1ms
run "OpenID provider" bash "$here/oidc.sh" "$binary"
run "gRPC-Web" bash "$here/web.sh" "$binary"
run "bad input" python "$here/bad_input.py" "$aws" "$admin"

echo
echo "== end"
if kill -0 "$gateway" 2>/dev/null; then
  echo "  ok:      the gateway has lived through all of it"
  passed=$((passed + 1))
  kill "$gateway"
  wait "$gateway"
  code=$?
  gateway=''
  if test "$code" = 0; then
    echo "  ok:      told to stop, it ends with exit code 0"
    passed=$((passed + 1))
  else
    echo "  FAILED:  told to stop, it ends with exit code $code"
    failed=$((failed + 1))
  fi
else
  echo "  FAILED:  the gateway ended by itself"
  failed=$((failed + 1))
fi
if grep -n 'panicked' "$temp/log"; then
  echo "  FAILED:  nothing panics"
  failed=$((failed + 1))
else
  echo "  ok:      nothing panics"
  passed=$((passed + 1))
fi
test "$failed" = 0 || { echo "the end of the gateway's log:"; tail -n 20 "$temp/log"; }
total
