# shellcheck shell=bash
# Builds Kubernetes, etcd, containerd, runc and the reference CNI plugins from
# the Go modules pinned beside this folder. A binary is built under another name
# and then renamed, so that one that exists is whole.

readonly LAB_MODULES=(k8s containerd runc cni)

# NAME MODULE PACKAGE of each binary.
readonly LAB_BINARIES=(
  "pause k8s ./pause"
  "etcd k8s go.etcd.io/etcd/server/v3"
  "kubectl k8s k8s.io/kubernetes/cmd/kubectl"
  "kube-apiserver k8s k8s.io/kubernetes/cmd/kube-apiserver"
  "kube-controller-manager k8s k8s.io/kubernetes/cmd/kube-controller-manager"
  "kube-scheduler k8s k8s.io/kubernetes/cmd/kube-scheduler"
  "kubelet k8s k8s.io/kubernetes/cmd/kubelet"
  "agnhost k8s k8s.io/kubernetes/test/images/agnhost"
  "containerd containerd github.com/containerd/containerd/v2/cmd/containerd"
  "containerd-shim-runc-v2 containerd github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
  "ctr containerd github.com/containerd/containerd/v2/cmd/ctr"
  "runc runc github.com/opencontainers/runc"
  "cni/loopback cni github.com/containernetworking/plugins/plugins/main/loopback"
  "cni/bandwidth cni github.com/containernetworking/plugins/plugins/meta/bandwidth"
  "cni/portmap cni github.com/containernetworking/plugins/plugins/meta/portmap"
)

# build_key: changes with everything that the binaries are made of.
build_key() {
  local module files=("$LAB_SRC/lib/build.sh" "$LAB_SRC/k8s/pause/main.go")
  for module in "${LAB_MODULES[@]}"; do
    files+=("$LAB_SRC/$module/go.mod" "$LAB_SRC/$module/go.sum")
  done
  { go version && cat "${files[@]}"; } | sha256sum | cut -c 1-12
}

# build_ldflags MODULE: kubectl and kubelet tell the version that is linked in.
build_ldflags() {
  local version package flags='-s -w'
  case $1 in
    k8s)
      version=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" {print $3}' "$LAB_SRC/k8s/go.mod")
      for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$version")"
        flags+=" -X $package.gitTreeState=clean -X $package.gitCommit=$(printf '%040d' 0) -X $package.buildDate=2026-01-01T00:00:00Z"
      done
      ;;
    runc) flags+=' -linkmode external -extldflags -static' ;;
  esac
  echo "$flags"
}

# build_binary NAME MODULE PACKAGE OUTPUT
build_binary() {
  local name=$1 module=$2 package=$3 output=$4 tags='' cgo=0
  case $module in
    containerd) tags='no_btrfs no_devmapper no_zfs no_aufs' ;;
    runc) tags='seccomp netgo osusergo' cgo=1 ;;
  esac
  cd "$LAB_SRC/$module" || return
  GOFLAGS='-mod=readonly -buildvcs=false' GOWORK=off CGO_ENABLED=$cgo \
    nice go build -trimpath -tags "$tags" -ldflags "$(build_ldflags "$module")" -o "$output.part" "$package"
  mv "$output.part" "$output"
}

# build_ensure: builds the binaries that $LAB_BIN lacks. One process at a time;
# a second one waits and then finds the work done.
build_ensure() {
  local row name module package i=0
  mkdir -p "$LAB_BIN/cni"
  exec 9>"$LAB_BIN/.lock"
  flock -n 9 || { say "waiting for another build in $LAB_BIN" && flock 9; }
  for row in "${LAB_BINARIES[@]}"; do
    read -r name module package <<<"$row"
    i=$((i + 1))
    [[ -x $LAB_BIN/$name ]] ||
      step "build $name ($i of ${#LAB_BINARIES[@]})" "$LAB_CACHE/log/build-${name//\//-}.log" \
        build_binary "$name" "$module" "$package" "$LAB_BIN/$name"
  done
  exec 9>&-
}
