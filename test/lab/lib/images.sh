# shellcheck shell=bash
# Container images as docker archives, made with tar alone: the sandbox image,
# and the test image with agnhost and the network tools of Debian.

readonly LAB_PAUSE_IMAGE=localhost/pause:1
readonly LAB_TEST_IMAGE=localhost/agnhost:dev

# Programs of the test image besides agnhost and busybox.
readonly LAB_IMAGE_TOOLS=(bash curl ip ss tc getent ping iperf3 tcpdump nc.openbsd)

# images_key: changes with everything that the images are made of.
images_key() {
  local tool
  {
    build_key
    cat "$LAB_SRC/lib/images.sh"
    for tool in "${LAB_IMAGE_TOOLS[@]}" busybox; do
      stat -L -c '%n %s %Y' "$(command -v "$tool")"
    done
  } | sha256sum | cut -c 1-12
}

# image_pack ROOT OUTPUT ENTRYPOINT COMMAND NAME...: one layer of ROOT as an
# archive for `ctr images import`. COMMAND may be empty.
image_pack() {
  local root=$1 output=$2 entrypoint=$3 command='' work digest names
  [[ -z $4 ]] || command="\"$4\""
  shift 4
  work=$(mktemp -d "$output.XXXXXX")
  tar --owner=0 --group=0 --numeric-owner --sort=name --mtime=@0 -C "$root" -cf "$work/layer.tar" .
  digest=$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)
  names=$(printf ',"%s"' "$@")
  cat >"$work/config.json" <<END
{"architecture": "$(dpkg --print-architecture)", "os": "linux",
 "config": {"Entrypoint": ["$entrypoint"], "Cmd": [$command],
            "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin:/"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$digest"]}}
END
  echo "[{\"Config\": \"config.json\", \"RepoTags\": [${names#,}], \"Layers\": [\"layer.tar\"]}]" >"$work/manifest.json"
  tar -C "$work" -cf "$output.part" manifest.json config.json layer.tar
  rm -rf "$work"
  mv "$output.part" "$output"
}

# image_copy_program ROOT PROGRAM NAME: the program as /bin/NAME, with the
# libraries that it is linked to.
image_copy_program() {
  local root=$1 program=$2 name=$3 library
  rm -f "$root/bin/$name"
  cp -L "$program" "$root/bin/$name"
  for library in $(ldd "$program" | grep -o '/[^ ]*'); do
    mkdir -p "$root${library%/*}"
    cp -L "$library" "$root$library"
  done
}

image_build_pause() {
  local root
  root=$(mktemp -d "$LAB_IMAGES/pause.XXXXXX")
  cp "$LAB_BIN/pause" "$root/"
  image_pack "$root" "$LAB_IMAGES/pause.tar" /pause '' "$LAB_PAUSE_IMAGE"
  rm -rf "$root"
}

image_build_agnhost() {
  local root
  root=$(mktemp -d "$LAB_IMAGES/agnhost.XXXXXX")
  image_root_agnhost "$root"
  image_pack "$root" "$LAB_IMAGES/agnhost.tar" /agnhost pause "$LAB_TEST_IMAGE"
  rm -rf "$root"
}

# image_root_agnhost ROOT: fills the folder with what the test image has.
image_root_agnhost() {
  local root=$1 tool applet kubernetes
  kubernetes=$(cd "$LAB_SRC/k8s" && GOFLAGS=-mod=readonly GOWORK=off go list -m -f '{{.Dir}}' k8s.io/kubernetes)
  mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,tmp,etc,uploads,proc,sys,dev,run,var/run}
  chmod 1777 "$root/tmp"
  cp -L "$(command -v busybox)" "$root/bin/busybox"
  for applet in $(busybox --list); do
    [[ -e $root/bin/$applet ]] || ln -s busybox "$root/bin/$applet"
  done
  for tool in "${LAB_IMAGE_TOOLS[@]}"; do
    image_copy_program "$root" "$(command -v "$tool")" "${tool%.openbsd}"
  done
  # Not busybox: its shell would run its own ip and nc.
  ln -sf bash "$root/bin/sh"
  printf '%s\n' root:x:0:0:root:/:/bin/sh nobody:x:65534:65534::/:/bin/sh tcpdump:x:65533:65533::/:/bin/sh >"$root/etc/passwd"
  printf '%s\n' root:x:0: nogroup:x:65534: tcpdump:x:65533: >"$root/etc/group"
  cp "$LAB_BIN/agnhost" "$root/agnhost"
  cp "$kubernetes"/test/images/agnhost/porter/localhost.{crt,key} "$root/"
}

# images_ensure: builds the images that $LAB_IMAGES lacks.
images_ensure() {
  local name
  mkdir -p "$LAB_IMAGES"
  exec 9>"$LAB_IMAGES/.lock"
  flock 9
  for name in pause agnhost; do
    [[ -s $LAB_IMAGES/$name.tar ]] ||
      step "image $name" "$LAB_CACHE/log/image-$name.log" "image_build_$name"
  done
  exec 9>&-
}
