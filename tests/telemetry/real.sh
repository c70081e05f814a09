#!/usr/bin/env bash
# A real Prometheus scrapes the gateway, and a real OTLP receiver takes its traces: real.sh BINARY
#
# Starts the binary on free ports with a state folder of its own, and stops all that it has started at
# the end. What is not installed here is skipped, and said; the last line says how many checks passed,
# failed and were skipped.
set -uo pipefail
binary=$(realpath "${1:?usage: real.sh BINARY}")
root=$(cd "$(dirname "$0")/../.." && pwd)
temp=$(mktemp -d)
started=()
# All that was started; a drain takes some seconds, and then they have to go.
stop() {
  for process in "${started[@]}"; do kill "$process" 2>/dev/null; done
  for process in "${started[@]}"; do
    for _ in $(seq 150); do kill -0 "$process" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$process" 2>/dev/null
    wait "$process" 2>/dev/null
  done
  started=()
}
trap 'stop; rm -rf "$temp"' EXIT
trap 'exit 130' INT TERM

passed=0 failed=0 skipped=0
ok() { echo "ok: $1"; passed=$((passed + 1)); }
bad() { echo "FAILED: $1"; failed=$((failed + 1)); }
skip() { echo "skipped: $1"; skipped=$((skipped + 1)); }
total() {
  echo
  echo "$passed passed, $failed failed, $skipped skipped"
  exit $((failed > 0))
}
# A port that was free a moment ago.
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# until_true SECONDS COMMAND…
until_true() {
  local tries=$(($1 * 5)); shift
  for _ in $(seq "$tries"); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
  return 1
}

if ! command -v python3 >/dev/null || ! command -v curl >/dev/null; then
  skip 'Prometheus and the OTLP receiver: python3 and curl are not installed'
  total
fi

# The receiver: a package with a program in it.
receiver=''
venv=$root/target/otlp-venv
wanted='rotel==0.0.1a15'
if ! test "$(cat "$venv/installed.txt" 2>/dev/null)" = "$wanted"; then
  rm -rf "$venv"
  mkdir -p "$root/target"
  timeout 120 python3 -m venv "$venv" >"$temp/venv.log" 2>&1 &&
    timeout 120 "$venv/bin/pip" install --quiet --disable-pip-version-check "$wanted" >>"$temp/venv.log" 2>&1 &&
    echo "$wanted" >"$venv/installed.txt"
fi
if test -e "$venv/installed.txt"; then
  receiver=$(find "$venv/lib" -type f -name 'rotel-agent' -perm -u+x | head -1)
fi

endpoint=()
if test -n "$receiver"; then
  otlp=$(port)
  "$receiver" start --debug-log traces --debug-log-verbosity detailed --exporter blackhole \
    --otlp-grpc-endpoint "127.0.0.1:$otlp" --otlp-http-endpoint "127.0.0.1:$(port)" >"$temp/otlp.log" 2>&1 &
  started+=($!)
  endpoint=(--otlp-endpoint "http://127.0.0.1:$otlp")
  printf '[telemetry]\nsample-ratio = 1.0\nbatch-delay = "100ms"\nmetrics = false\n' >"$temp/gateway.toml"
else
  skip 'the OTLP receiver: pip cannot install it here'
  : >"$temp/gateway.toml"
fi

"$binary" --listen 127.0.0.1:0 --aws-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 \
  --config "$temp/gateway.toml" "${endpoint[@]}" \
  --state-dir "$temp/state" --ready-file "$temp/ready.json" >"$temp/log" 2>&1 &
gateway=$!
started+=("$gateway")
if ! until_true 30 test -e "$temp/ready.json"; then
  cat "$temp/log"
  bad 'the gateway did not start'
  total
fi
address() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$temp/ready.json" "$1"; }
aws=$(address aws) admin=$(address admin)
trace=0af7651916cd43dd8448eb211c80319c
call() {
  curl -sS --max-time 10 "http://$aws/" -H 'content-type: application/x-amz-json-1.0' \
    -H 'x-amz-target: AwsProton20200720.ListServices' -H "traceparent: 00-$trace-b7ad6b7169203331-01" -d '{}'
}
if call | grep -q '"services"'; then ok 'a call with a trace context is answered'; else bad 'the call failed'; fi
# Lines reach the log a moment later.
if until_true 5 grep -q "trace_id=$trace" "$temp/log"; then ok 'its line names the trace'; else bad 'its line names no trace'; fi

if test -n "$receiver"; then
  # The receiver prints what it takes.
  if until_true 20 grep -q 'ListServices' "$temp/otlp.log"; then
    ok 'a real OTLP receiver has the span of the call'
  else
    tail -20 "$temp/otlp.log"
    bad 'the OTLP receiver has no span of the call'
  fi
fi

if command -v prometheus >/dev/null; then
  web=$(port)
  cat >"$temp/prometheus.yml" <<CONFIG
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: gateway
    static_configs: [{targets: ["$admin"]}]
CONFIG
  prometheus --config.file="$temp/prometheus.yml" --storage.tsdb.path="$temp/prometheus" \
    --web.listen-address="127.0.0.1:$web" >"$temp/prometheus.log" 2>&1 &
  started+=($!)
  # asked QUERY: whether the answer is not empty.
  asked() {
    curl -sS --max-time 5 "http://127.0.0.1:$web/api/v1/query" --data-urlencode "query=$1" |
      python3 -c 'import json, sys; sys.exit(not json.load(sys.stdin)["data"]["result"])'
  }
  for query in \
    'up{job="gateway"} == 1' \
    'proton_gateway_calls_total{operation="ListServices",outcome="OK"} >= 1' \
    'rpc_server_call_duration_seconds_bucket{rpc_method="proton.v1.ProtonService/ListServices",le="+Inf"} >= 1' \
    'process_resident_memory_bytes > 0' \
    'proton_gateway_build_info == 1'; do
    if until_true 20 asked "$query"; then ok "Prometheus answers: $query"; else bad "Prometheus has no: $query"; fi
  done
  if command -v promtool >/dev/null; then
    if curl -sS --max-time 5 "http://$admin/metrics" >"$temp/metrics" && test -s "$temp/metrics" &&
      promtool check metrics <"$temp/metrics" >"$temp/promtool" 2>&1; then
      ok 'promtool finds nothing wrong with the page'
    elif grep -qi 'error' "$temp/promtool"; then
      cat "$temp/promtool"
      bad 'promtool cannot read the page'
    else
      # Advice on names, of which some are OpenTelemetry's.
      ok "promtool reads the page ($(wc -l <"$temp/promtool") remarks on names)"
    fi
  fi
else
  skip 'Prometheus: the package `prometheus` is not installed'
fi
total
