# Counts what holds and what does not, as checks.py does. For sourcing.

passed=0 failed=0 skipped=0

# check SENTENCE COMMAND…: passes if the command succeeds; shows what it said if not.
check() {
  local said
  if said=$("${@:2}" 2>&1); then
    passed=$((passed + 1))
    echo "  ok:      $1"
  else
    failed=$((failed + 1))
    echo "  FAILED:  $1"
    echo "           ${said:-said nothing}" | head -n 12
  fi
}

# skip SENTENCE REASON
skip() {
  skipped=$((skipped + 1))
  echo "  skipped: $1: $2"
}

finish() {
  echo "$passed passed, $failed failed, $skipped skipped"
  exit $((failed > 0))
}
