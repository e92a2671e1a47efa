#!/usr/bin/env bash
# test.sh NAME GO-TEST-ARGUMENT...: runs go test, prints each test's name and a
# summary with the reason of every skipped test, and leaves the events of the
# run in bin/test/NAME.json. With REQUIRE_ALL=1 a skipped test fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."

name=$1
shift
mkdir -p bin/test
events=bin/test/$name.json
rm -f "$events"

go tool -modfile=tools/go.mod gotestsum --format testname --jsonfile "$events" -- -count=1 "$@"

# A package without test files is also "skipped", but names no test.
mapfile -t skipped < <(sed -n 's/.*"Action":"skip","Package":"\([^"]*\)","Test":"\([^"]*\)".*/\1 \2/p' "$events")
if [[ ${REQUIRE_ALL:-} == 1 ]] && ((${#skipped[@]} > 0)); then
  printf 'skipped: %s\n' "${skipped[@]}" >&2
  echo "test-$name: ${#skipped[@]} tests were skipped; here all must run (root, and a kernel with the features)" >&2
  exit 1
fi
