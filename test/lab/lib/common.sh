# shellcheck shell=bash
# What every part of the lab uses: messages, waiting, and steps that show
# progress. Everything is written to stderr; stdout is for results.

# die MESSAGE...: ends the command with an error.
die() {
  echo "lab: $*" >&2
  exit 1
}

# say MESSAGE...: one line, with the seconds since the command started.
say() {
  printf '%7s  %s\n' "$(elapsed "$LAB_STARTED_MS")" "$*" >&2
}

now_ms() {
  local us=${EPOCHREALTIME//[.,]/}
  echo "${us%???}"
}

# elapsed START_MS: the time since then, such as 12.3s.
elapsed() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%ds' $((ms / 1000)) $((ms % 1000 / 100))
}

# wait_for SECONDS COMMAND...: runs the command until it succeeds.
wait_for() {
  local deadline=$(($(now_ms) + $1 * 1000))
  shift
  until "$@" >/dev/null 2>&1; do
    (($(now_ms) < deadline)) || return 1
    sleep 0.1
  done
}

# step NAME LOG COMMAND...: runs the command with its output in the log, tells
# every 10 seconds that it still runs, and shows the end of the log if it fails.
step() {
  local name=$1 log=$2 start ticker status=0
  shift 2
  start=$(now_ms)
  mkdir -p "${log%/*}"
  # Without 9, which may be a lock: it must not outlive this command.
  step_ticker "$name" "$start" 9>&- &
  ticker=$!
  # Not `("$@") || status=$?`: bash ignores errexit in the left side of ||.
  set +e
  (
    set -e
    "$@"
  ) >"$log" 2>&1
  status=$?
  set -e
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  if ((status != 0)); then
    tail -n 30 "$log" >&2
    die "$name: ended with status $status; the whole output is in $log"
  fi
  say "$name: $(elapsed "$start")"
}

step_ticker() {
  local name=$1 start=$2 pause=''
  trap 'kill "$pause" 2>/dev/null; exit 0' TERM
  # $$ is the process of the command, here too: a killed command is followed.
  while kill -0 $$ 2>/dev/null; do
    sleep 10 &
    pause=$!
    wait "$pause"
    say "$name: $(elapsed "$start") so far"
  done
}
