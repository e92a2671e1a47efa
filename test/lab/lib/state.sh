# shellcheck shell=bash
# What is known of a lab while it lives, in $LAB_STATE:
#   init         pid 1 of the lab; its own copy, so that the path tells the lab
#   lab.pid      its process id
#   cgroups      every cgroup that the lab made
#   admin.conf   kubeconfig of the administrator
#   settings     the options of `lab up`
#   nodes/NAME/  pid, addresses and configuration of a node
#   data/        etcd's and the nodes' data; visible inside the lab alone
#   log/         logs of everything
# Every process that `lab up` starts has PLACID_LAB_MARK in its environment, so
# that the remains of a killed run are found too.

# lab_pid: the process id of the lab's pid 1, if it lives.
lab_pid() {
  local pid
  pid=$(cat "$LAB_STATE/lab.pid" 2>/dev/null) || return 1
  [[ $(readlink "/proc/$pid/exe") == "$LAB_STATE/init" ]] || return 1
  echo "$pid"
}

lab_require() {
  lab_pid >/dev/null || die "lab \"$LAB_NAME\" is not up: run \"lab up\""
}

# node_names: the nodes of the lab, one a line, in the order of their numbers.
node_names() {
  local path
  for path in "$LAB_STATE"/nodes/*/pid; do
    [[ -e $path ]] || continue
    path=${path%/pid}
    echo "${path##*/}"
  done | sort -V
}

# node_value NAME KEY: one of the files of nodes/NAME.
node_value() {
  cat "$LAB_STATE/nodes/$1/$2" 2>/dev/null || die "node \"$1\" is none of the lab's: $(node_names | paste -s -d ' ')"
}

# process_stat PID: sets PROCESS_STAT to the fields of /proc/PID/stat that follow
# the name, which may hold spaces: 0 is the state, 1 the parent, 19 the start.
process_stat() {
  local line
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
  read -r -a PROCESS_STAT <<<"${line##*) }"
}

# process_identity PID: something that no later process with this id has.
process_identity() {
  process_stat "$1" && echo "$1 ${PROCESS_STAT[19]}"
}

# up_claim: makes this process the one that brings the lab up, or ends it if
# there is another.
up_claim() {
  local owner pid
  mkdir -p "$LAB_CACHE/labs"
  exec 9>"$LAB_CACHE/labs/.lock"
  flock 9
  owner=$(cat "$LAB_STATE.up" 2>/dev/null) || true
  pid=${owner%% *}
  if [[ -n $pid && $pid != "$$" && $(process_identity "$pid") == "$owner" ]]; then
    die "lab \"$LAB_NAME\" is being brought up by process $pid: wait for it, run \"lab down\", or set PLACID_LAB to another name"
  fi
  process_identity $$ >"$LAB_STATE.up"
  exec 9>&-
}

# marked_processes: the processes with the lab's mark, save this command's own.
marked_processes() {
  local pid
  grep -lszxF "PLACID_LAB_MARK=$LAB_STATE" /proc/[0-9]*/environ | cut -d / -f 3 |
    while read -r pid; do
      process_own "$pid" || echo "$pid"
    done
}

# process_own PID: whether it is this command or below it, or ended meanwhile.
process_own() {
  local pid=$1
  while [[ $pid != "$$" ]]; do
    process_stat "$pid" || return 0
    pid=${PROCESS_STAT[1]}
    ((pid > 1)) || return 1
  done
}

# state_clean: ends what there is of the lab, whole or not, and removes its
# traces. Does nothing if there is none.
state_clean() {
  local pid pids
  if pid=$(lab_pid); then
    kill -9 "$pid"
    wait_for 10 process_ended "$pid" || die "process $pid, pid 1 of lab \"$LAB_NAME\", does not end"
  fi
  # What is left was outside its namespaces: a command that is still at work.
  for _ in {1..50}; do
    mapfile -t pids < <(marked_processes)
    ((${#pids[@]} > 0)) || break
    kill -9 "${pids[@]}" 2>/dev/null || true
    sleep 0.05
  done
  cgroups_remove
  rm -rf --one-file-system "$LAB_STATE"
}

# process_ended PID: also true of one that only waits for its parent. Its first
# thread may be done while others still end the namespace.
process_ended() {
  local threads=("/proc/$1/task/"*)
  process_stat "$1" || return 0
  [[ ${PROCESS_STAT[0]} == Z ]] && ((${#threads[@]} == 1))
}
