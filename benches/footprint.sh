#!/usr/bin/env bash
# Start-up time and idle memory: footprint.sh BINARY [RUNS]
#
# Start-up is from just before the process is made until its ready file is written. Memory is read
# after two idle seconds. Each run has an empty state folder of its own, made anew.
set -euo pipefail
binary=$(realpath "${1:?usage: footprint.sh BINARY [RUNS]}")
runs=${2:-7}
temp=$(mktemp -d)
gateway=''
trap 'if test -n "$gateway"; then kill "$gateway" 2>/dev/null || true; fi; rm -rf "$temp"' EXIT

for run in $(seq "$runs"); do
  folder=$temp/$run
  mkdir "$folder"
  begin=$EPOCHREALTIME
  "$binary" --listen 127.0.0.1:0 --aws-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 \
    --state-dir "$folder/state" --ready-file "$folder/ready.json" >"$folder/log" 2>&1 &
  gateway=$!
  for _ in $(seq 300); do test -e "$folder/ready.json" && break; sleep 0.1; done
  # The time of the file and not of our noticing it: asking more often would take a core away.
  ready=$(stat -c %.6Y "$folder/ready.json")
  echo $((${ready/[.,]/} - ${begin/[.,]/})) >>"$temp/start"
  sleep 2
  awk '$1 == "VmRSS:" { print $2 }' "/proc/$gateway/status" >>"$temp/resident"
  awk '$1 == "RssAnon:" { print $2 }' "/proc/$gateway/status" >>"$temp/private"
  kill "$gateway"
  wait "$gateway"
  gateway=''
done

# Of one number a line: the least, the middle and the greatest, divided by $3.
row() {
  sort -n "$2" | awk -v name="$1" -v by="$3" -v unit="$4" '
    { value[NR] = $1 / by }
    END { printf "%-34s %8.1f %8.1f %8.1f %s\n", name, value[1], value[int((NR + 1) / 2)], value[NR], unit }'
}
printf '%-34s %8s %8s %8s   (%d runs)\n' '' min median max "$runs"
row 'start to ready' "$temp/start" 1000 ms
row 'idle memory (VmRSS)' "$temp/resident" 1024 MiB
row 'of it not shared (RssAnon)' "$temp/private" 1024 MiB
row 'size of the binary' <(stat -c %s "$binary") 1048576 MiB
