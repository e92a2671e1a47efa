#!/usr/bin/env bash
# Run the commands of docs/planning.md on the sample cluster, and write its plan as a
# page. Needs Go alone: no root, no cluster.
set -euo pipefail

cd "$(dirname "$0")/.."
mkdir -p bin
CGO_ENABLED=0 go build -trimpath -o bin/placid ./cmd/placid
PATH=$PWD/bin:$PATH

grep -E '^\$ placid ' docs/planning.md | sed 's/^\$ //' | while IFS= read -r command; do
	printf '\n$ %s\n' "$command"
	status=0
	bash -c "$command" </dev/null || status=$?
	# 1 is an answer: something was found, or would change.
	if ((status > 1)); then
		echo "demo-plan: exit code $status" >&2
		exit "$status"
	fi
done

printf '\n$ placid plan -f examples/cluster --html bin/plan.html\n'
placid plan -f examples/cluster --html bin/plan.html >/dev/null
echo "The page is bin/plan.html."
