# shellcheck shell=bash
# Cluster DNS, which only `lab up --dns` has: CoreDNS from the module in
# `coredns`, its image, and the objects of coredns.yaml.

readonly LAB_DNS_IMAGE=localhost/coredns:dev

# dns_folder: where the program and the image of these sources are.
dns_folder() {
  local key
  key=$({ go version && cat "$LAB_SRC/lib/dns.sh" "$LAB_SRC/lib/build.sh" "$LAB_SRC/lib/images.sh" "$LAB_SRC"/coredns/*; } | sha256sum | cut -c 1-12)
  echo "$LAB_CACHE/dns-$key"
}

# dns_ensure: builds what the cache lacks. One process at a time.
dns_ensure() {
  local folder
  folder=$(dns_folder)
  mkdir -p "$folder"
  exec 9>"$folder/.lock"
  flock -n 9 || { say "waiting for another build in $folder" && flock 9; }
  [[ -x $folder/coredns ]] ||
    step "build coredns" "$LAB_CACHE/log/build-coredns.log" build_binary coredns coredns . "$folder/coredns"
  [[ -s $folder/coredns.tar ]] ||
    step "image coredns" "$LAB_CACHE/log/image-coredns.log" dns_image "$folder"
  exec 9>&-
}

# dns_image FOLDER: packs the program into an image.
dns_image() {
  local root
  root=$(mktemp -d "$1/root.XXXXXX")
  cp "$1/coredns" "$root/"
  image_pack "$root" "$1/coredns.tar" /coredns '' "$LAB_DNS_IMAGE"
  rm -rf "$root"
}

# dns_apply: the objects; pods start when nodes are Ready.
dns_apply() {
  lab_kubectl apply -f "$LAB_SRC/coredns.yaml" >"$LAB_STATE/log/apply-dns.log"
}

# dns_wait: until names are served.
dns_wait() {
  lab_kubectl -n kube-system rollout status deployment/coredns --timeout=120s >>"$LAB_STATE/log/apply-dns.log" ||
    die "cluster DNS is not ready: see $LAB_STATE/log/NODE/pods"
  say "cluster DNS is ready"
}
