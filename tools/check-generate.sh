#!/usr/bin/env bash
# check-generate.sh: generates everything anew, in place, and fails when that
# changes a file: then source and generated files do not belong together.
set -euo pipefail
cd "$(dirname "$0")/.."

if (($# > 0)); then
  echo "check-generate.sh: takes no arguments, but got: $*" >&2
  exit 2
fi

sums() {
  find internal/datapath bench/internal api deploy/crd -type f \
    \( -name '*_bpfel.go' -o -name '*_bpfel.o' -o -name 'zz_generated*.go' -o -path 'deploy/crd/*.yaml' \) \
    -exec sha256sum {} + | LC_ALL=C sort -k 2
}

before=$(sums)
make --no-print-directory generate
after=$(sums)
if ! changed=$(diff <(echo "$before") <(echo "$after")); then
  echo "generated files did not match their source; they are written anew, commit them:" >&2
  sed -n 's/^[<>] [0-9a-f]*  /  /p' <<<"$changed" | sort -u >&2
  echo "The BPF objects are built with $(clang --version | head -n 1); Debian 12 has clang 14." >&2
  exit 1
fi
