# shellcheck shell=bash
# The Debian packages that the lab needs, and their installation.

readonly LAB_PACKAGES=(
  # to build runc
  libseccomp-dev pkg-config libc6-dev
  # to make the namespaces, identities and routes
  iproute2 openssl procps util-linux
  # what the test images are made of
  bash bind9-dnsutils busybox-static curl iperf3 iputils-ping netcat-openbsd tcpdump wget
)

# packages_missing: the names of those that are not installed.
packages_missing() {
  local name
  for name in "${LAB_PACKAGES[@]}"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || echo "$name"
  done
}

packages_install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q
  apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

# packages_ensure: installs what is missing.
packages_ensure() {
  local missing
  mapfile -t missing < <(packages_missing)
  ((${#missing[@]} == 0)) ||
    step "install ${missing[*]}" "$LAB_CACHE/log/apt.log" packages_install "${missing[@]}"
}
