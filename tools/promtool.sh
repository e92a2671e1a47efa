#!/usr/bin/env bash
# promtool.sh ARG...: runs promtool, of this machine or of Debian's package
# prometheus, which is unpacked and not installed: it would start a server.
set -euo pipefail

if command -v promtool >/dev/null; then
  exec promtool "$@"
fi
folder=$(cd "$(dirname "$0")/.." && pwd)/bin/tools/prometheus
if [[ ! -x $folder/usr/bin/promtool ]]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  apt-get -qq -o DPkg::Lock::Timeout=300 update
  apt-get -qq download prometheus
  mkdir -p "$folder"
  dpkg-deb --extract prometheus_*.deb "$folder"
  cd - >/dev/null
fi
"$folder/usr/bin/promtool" "$@"
