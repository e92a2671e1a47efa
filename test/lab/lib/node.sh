# shellcheck shell=bash
# A node: mount, pid, network, uts and cgroup namespaces below the lab's, on an
# overlay of the machine's file system, with its own bpffs, containerd and
# kubelet.

# node_enter NODE COMMAND...: in all of the node's namespaces, and its cgroups:
# what runs there is a process of the node.
node_enter() {
  local node=$1 pid
  pid=$(node_value "$node" pid)
  shift
  (
    cgroups_join "$node" "$(cgroups_leaf)"
    exec nsenter -t "$pid" -m -p -n -C -u -r -- env "PATH=/opt/placid-lab/bin:$PATH" "$@"
  )
}

# node_background NODE NAME COMMAND...: the same, in the node's cgroups, with its
# own log.
node_background() {
  local node=$1 log=$LAB_STATE/log/$1/$2.log pid
  shift 2
  pid=$(node_value "$node" pid)
  (
    cgroups_join "$node" "$(cgroups_leaf)"
    exec setsid nsenter -t "$pid" -m -p -n -C -u -r -- env "PATH=/opt/placid-lab/bin:$PATH" "$@" >"$log" 2>&1 </dev/null
  ) &
}

# node_prepare NUMBER: notes what the node will be.
node_prepare() {
  local node=n$1 directory=$LAB_STATE/nodes/n$1 addresses
  mkdir -p "$directory" "$LAB_STATE/log/$node"
  read -r -a addresses < <(network_node_addresses "$1")
  echo "$1" >"$directory/number"
  echo "${addresses[0]}" >"$directory/address4"
  echo "${addresses[1]}" >"$directory/address6"
  identity_create "$directory/kubelet.conf" "system:node:$node" system:nodes
}

# node_start NODE: namespaces, network, containerd, images.
node_start() {
  local node=$1 directory=$LAB_STATE/nodes/$1 image images
  cgroups_create "$node"
  (
    cgroups_join "$node"
    export NODE=$node NODE_DIR=$directory DATA_DIR=$LAB_STATE/data/$node LOG_DIR=$LAB_STATE/log/$node LAB_BIN
    exec setsid nsenter -t "$(lab_pid)" -m -p -n -- unshare -m -p -n -u -C -f --kill-child \
      bash "$LAB_SRC/lib/node-init.sh" >"$LAB_STATE/log/$node/init.log" 2>&1 </dev/null
  ) &
  wait_for 10 node_find "$node" $! || die "node $node did not start: $(cat "$LAB_STATE/log/$node/init.log")"
  cgroups_settle "$node"
  network_attach "$node"
  node_containerd_config >"$directory/containerd.toml"
  node_background "$node" containerd containerd -c /opt/placid-lab/node/containerd.toml
  wait_for 30 node_enter "$node" ctr version || die "containerd of $node does not answer: see $LAB_STATE/log/$node/containerd.log"
  images=("$LAB_IMAGES"/*.tar "$LAB_STATE"/placid/*.tar)
  [[ $LAB_DNS == no ]] || images+=("$(dns_folder)/coredns.tar")
  for image in "${images[@]}"; do
    [[ ! -e $image ]] || node_import "$node" "$image"
  done
}

# node_find NODE PID: finds the node's pid 1, the grandchild of the process that
# entered the lab: nsenter forks, and then unshare does.
node_find() {
  local pid=$2
  for _ in 1 2; do
    pid=$(pgrep -P "$pid") || return 1
  done
  [[ $(readlink "/proc/$pid/exe") == */pause ]] || return 1
  echo "$pid" >"$LAB_STATE/nodes/$1/pid"
}

# node_import NODE ARCHIVE: gives an image to the node's containerd.
node_import() {
  node_enter "$1" ctr -n k8s.io images import --local - <"$2" >>"$LAB_STATE/log/$1/images.log" 2>&1 ||
    die "import ${2##*/} on $1: $(tail -n 3 "$LAB_STATE/log/$1/images.log")"
}

# lab_import ARCHIVE: gives an image to every node.
lab_import() {
  local node
  while read -r node; do
    node_import "$node" "$1"
  done < <(node_names)
}

node_containerd_config() {
  cat <<END
version = 3
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '$LAB_PAUSE_IMAGE'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/opt/cni/bin']
    conf_dir = '/etc/cni/net.d'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = '/opt/placid-lab/bin/runc'
END
}

node_kubelet_config() {
  cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [10.96.0.10, "fd00:96::a"]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
featureGates: {KubeletInUserNamespace: true}
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: 100Mi}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
maxPods: $LAB_MAX_PODS
syncFrequency: 10s
END
}

# node_kubelet NODE: starts the kubelet, which registers the node.
node_kubelet() {
  local node=$1 directory=$LAB_STATE/nodes/$1
  node_kubelet_config >"$directory/kubelet.yaml"
  node_background "$node" kubelet kubelet --config=/opt/placid-lab/node/kubelet.yaml \
    --kubeconfig=/opt/placid-lab/node/kubelet.conf --hostname-override="$node" \
    --node-ip="$(node_value "$node" address4),$(node_value "$node" address6)"
}

# node_registered NODE: whether the node has pod CIDRs of both families.
node_registered() {
  [[ $(lab_kubectl get node "$1" -o jsonpath='{.spec.podCIDRs}') == *.*:* ]]
}
