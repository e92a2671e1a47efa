# shellcheck shell=bash
# A cgroup for each node in every hierarchy of the machine. The node's cgroup
# namespace has it as its root. Works with version 1, version 2, and both.

# cgroup_mounts TYPE: where hierarchies of the type (cgroup or cgroup2) are.
cgroup_mounts() {
  awk -v type="$1" '$3 == type {print $2}' /proc/mounts
}

# cgroup_parent MOUNT: the cgroup that the nodes' are made in. With version 1
# that is the one of this process; with version 2 alone it is the root, since
# a cgroup with processes cannot give controllers to its children.
cgroup_parent() {
  local mount=$1 name=${1##*/}
  if cgroup_v2_only; then
    echo "$mount"
    return
  fi
  [[ $(stat -f -c %T "$mount") != cgroup2fs ]] || name=''
  echo "$mount$(awk -F : -v name="$name" '$2 == name || $2 == "name=" name {sub(/^\/$/, "", $3); print $3; exit}' /proc/$$/cgroup)"
}

cgroup_v2_only() {
  [[ -z $(cgroup_mounts cgroup) ]]
}

# cgroup_delegate DIR: gives the children of a version 2 cgroup every controller.
cgroup_delegate() {
  local controller controllers
  read -r -a controllers <"$1/cgroup.controllers" || true
  for controller in "${controllers[@]}"; do
    echo "+$controller" >"$1/cgroup.subtree_control" || true
  done
}

# cgroups_create NODE: makes the node's cgroups and notes them.
cgroups_create() {
  local node=$1 mount parent directory file
  for mount in $(cgroup_mounts cgroup) $(cgroup_mounts cgroup2); do
    parent=$(cgroup_parent "$mount")
    directory=$parent/placid-lab-$LAB_NAME-$(lab_pid)-$node
    echo "$directory" >>"$LAB_STATE/cgroups"
    echo "$directory" >>"$LAB_STATE/nodes/$node/cgroups"
    ! cgroup_v2_only || cgroup_delegate "$parent"
    mkdir -p "$directory"
    # A cpuset of version 1 is empty until it is filled, and takes no process.
    for file in cpuset.cpus cpuset.mems; do
      cgroup_v2_only || [[ ! -e $directory/$file ]] || cat "$parent/$file" >"$directory/$file"
    done
  done
}

# cgroups_join NODE [CHILD]: moves this process into the node's cgroups.
cgroups_join() {
  local directory
  while read -r directory; do
    echo "$BASHPID" >"$directory${2:+/$2}/cgroup.procs"
  done <"$LAB_STATE/nodes/$1/cgroups"
}

# cgroups_leaf: the child that a node's own processes live in; none with
# version 1. With version 2 only leaves may hold processes.
cgroups_leaf() {
  ! cgroup_v2_only || echo node
}

# cgroups_settle NODE: with version 2 alone, moves the processes that made the
# node's namespaces to the leaf, so that its root can have children with
# controllers.
cgroups_settle() {
  local directory pid pids
  cgroup_v2_only || return 0
  directory=$(cat "$LAB_STATE/nodes/$1/cgroups")
  mkdir -p "$directory/$(cgroups_leaf)"
  # A list that is read while processes leave it can miss some: read it again.
  while mapfile -t pids <"$directory/cgroup.procs" && ((${#pids[@]} > 0)); do
    for pid in "${pids[@]}"; do
      echo "$pid" >"$directory/$(cgroups_leaf)/cgroup.procs" || true
    done
  done
  cgroup_delegate "$directory"
}

# cgroups_remove: removes every cgroup that the lab made. Their processes have
# been killed, but may take a moment to leave.
cgroups_remove() {
  local directory left
  for _ in {1..50}; do
    left=()
    while read -r directory; do
      [[ ! -d $directory ]] || left+=("$directory")
    done < <(cat "$LAB_STATE/cgroups" 2>/dev/null)
    ((${#left[@]} > 0)) || return 0
    find "${left[@]}" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
  done
  die "cgroup ${left[0]} is still in use: see its cgroup.procs"
}
