#!/usr/bin/env bash
# deps.sh PACKAGE...: installs the Debian packages that are missing, quietly.
set -euo pipefail

missing=()
for package in "$@"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done
((${#missing[@]} > 0)) || exit 0

if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
  echo "missing packages: ${missing[*]}: install them, or run as root on Debian" >&2
  exit 1
fi
echo "install ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  apt-get -o DPkg::Lock::Timeout=300 update &&
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}"
}
install >"$log" 2>&1 || {
  cat "$log" >&2
  exit 1
}
