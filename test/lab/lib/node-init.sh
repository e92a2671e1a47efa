#!/bin/bash
# The first thing that runs in a node's namespaces. It builds the node's file
# system, an overlay of the machine's, and becomes its pid 1.
# Environment: NODE, and the folders NODE_DIR (configuration), DATA_DIR (in
# memory), LOG_DIR and LAB_BIN.
set -euo pipefail

# The machine's folders that a node must not see: each has its own, empty.
readonly OWN_FOLDERS=(/run /etc/cni /opt/cni /var/lib/cni)
# Values that the kubelet wants. They are shown to it; the machine's stay.
readonly KUBELET_SYSCTLS=(
  vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000
)

mount_root() {
  local overlay=$DATA_DIR/overlay
  mkdir -p "$overlay"/{upper,work,root}
  mount -t overlay overlay -o "lowerdir=/,upperdir=$overlay/upper,workdir=$overlay/work" "$overlay/root"
  cd "$overlay/root"
}

mount_kernel() {
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  mount -t bpf bpf sys/fs/bpf
  mount --rbind /dev dev
}

mount_cgroups() {
  local v1 v2 path name
  v1=$(awk '$3 == "cgroup" {print $2}' /proc/mounts)
  v2=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
  [[ -z $v1 ]] || mount -t tmpfs tmpfs sys/fs/cgroup
  for path in $v1; do
    name=${path##*/}
    mkdir -p ".$path"
    mount -t cgroup -o "$([[ $name != systemd ]] && echo "$name" || echo none,name=systemd)" cgroup ".$path"
  done
  [[ -z $v2 ]] || {
    mkdir -p ".$v2"
    mount -t cgroup2 cgroup2 ".$v2"
  }
}

mount_folders() {
  local path
  for path in "${OWN_FOLDERS[@]}"; do
    mkdir -p ".$path"
    mount -t tmpfs tmpfs ".$path"
  done
  mkdir -p run/lock etc/cni/net.d opt/cni/bin opt/placid-lab/{bin,node} var/lib/{containerd,kubelet} "$DATA_DIR"/{containerd,kubelet}
  cp "$LAB_BIN"/cni/* opt/cni/bin/
  mount --bind "$DATA_DIR/containerd" var/lib/containerd
  mount --bind "$DATA_DIR/kubelet" var/lib/kubelet
  mount --bind "$NODE_DIR" opt/placid-lab/node
  mount --bind "$LAB_BIN" opt/placid-lab/bin
  mount --bind "$LOG_DIR" var/log
}

mount_sysctls() {
  local setting file
  for setting in "${KUBELET_SYSCTLS[@]}"; do
    file=run/sysctl.${setting//\//.}
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "proc/sys/${setting%=*}"
  done
}

write_names() {
  rm -f etc/resolv.conf etc/hosts
  echo 'options ndots:1' >etc/resolv.conf
  printf '%s\n' "127.0.0.1 localhost" "::1 localhost" "$(cat "$NODE_DIR/address4") $NODE" "$(cat "$NODE_DIR/address6") $NODE" >etc/hosts
  hostname "$NODE"
}

mount_root
mount_kernel
mount_cgroups
mount_folders
mount_sysctls
write_names
mkdir .old
pivot_root . .old
umount -l /.old
mount --make-rshared /
exec /opt/placid-lab/bin/pause
