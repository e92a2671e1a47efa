# shellcheck shell=bash
# The lab's network, all of it in the lab's own network namespace, which is that
# of the control plane too:
#   flat     lab0, a bridge, with the nodes and the outside host on one segment
#   routed   the outside host on lab0, each node on a segment of its own; the
#            lab's namespace is the router between them
# The outside host is a machine that is no node. Pods reach it by routing.

readonly LAB_API4=172.30.0.1 LAB_API6=fd00:30::1
readonly LAB_OUTSIDE4=172.30.0.100 LAB_OUTSIDE6=fd00:30::100
# Marks the routes to pods, so that they can be taken away again.
readonly LAB_ROUTE_PROTOCOL=200

# network_sysctls: no waiting for duplicate addresses, forwarding, and no filter
# on the way back. Run in each namespace before it has interfaces.
network_sysctls() {
  sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
    net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 \
    net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0 \
    net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
}

# in_netns PID COMMAND...: in the process's network namespace, and otherwise here.
in_netns() {
  local pid=$1
  shift
  nsenter -t "$pid" -n -- "$@"
}

# network_prepare PID: a namespace with its sysctls and loopback.
network_prepare() {
  in_netns "$1" bash -euc "$(declare -f network_sysctls); network_sysctls; ip link set lo up"
}

# network_create: the namespace's bridge with the control plane's addresses.
network_create() {
  local pid
  pid=$(lab_pid)
  network_prepare "$pid"
  in_netns "$pid" ip link add lab0 type bridge
  in_netns "$pid" ip addr add "$LAB_API4/24" dev lab0
  in_netns "$pid" ip addr add "$LAB_API6/64" dev lab0 nodad
  in_netns "$pid" ip link set lab0 up
}

# network_plug PID PORT: a veth pair between the lab and another namespace, where
# it is eth0.
network_plug() {
  in_netns "$(lab_pid)" ip link add "$2" type veth peer name eth0 netns "$1"
  in_netns "$(lab_pid)" ip link set "$2" up
}

# network_address PID ADDRESS4 ADDRESS6 GATEWAY4 GATEWAY6
network_address() {
  in_netns "$1" ip addr add "$2/24" dev eth0
  in_netns "$1" ip addr add "$3/64" dev eth0 nodad
  in_netns "$1" ip link set eth0 up
  in_netns "$1" ip route add default via "$4"
  in_netns "$1" ip route add default via "$5"
}

# outside_create: the outside host. It has only a network namespace of its own.
outside_create() {
  local pid
  lab_background outside unshare -n "$LAB_BIN/pause"
  wait_for 5 outside_find || die "the outside host did not start: see $LAB_STATE/log/outside.log"
  pid=$(cat "$LAB_STATE/outside.pid")
  network_prepare "$pid"
  network_plug "$pid" outside
  in_netns "$(lab_pid)" ip link set outside master lab0
  network_address "$pid" "$LAB_OUTSIDE4" "$LAB_OUTSIDE6" "$LAB_API4" "$LAB_API6"
}

outside_find() {
  local pid
  for pid in $(pgrep -P "$(cat "$LAB_STATE/log/outside.pid")"); do
    [[ $(readlink "/proc/$pid/exe") == "$LAB_BIN/pause" ]] || continue
    echo "$pid" >"$LAB_STATE/outside.pid"
    return 0
  done
  return 1
}

# network_attach NODE: plugs a node in, as the topology says.
network_attach() {
  local node=$1 number pid port gateway4=$LAB_API4 gateway6=$LAB_API6
  number=$(node_value "$node" number)
  pid=$(node_value "$node" pid)
  port=port-$number
  network_prepare "$pid"
  network_plug "$pid" "$port"
  if [[ $LAB_TOPOLOGY == routed ]]; then
    gateway4=172.30.$number.1 gateway6=fd00:30:$number::1
    in_netns "$(lab_pid)" ip addr add "$gateway4/24" dev "$port"
    in_netns "$(lab_pid)" ip addr add "$gateway6/64" dev "$port" nodad
  else
    in_netns "$(lab_pid)" ip link set "$port" master lab0
  fi
  network_address "$pid" "$(node_value "$node" address4)" "$(node_value "$node" address6)" "$gateway4" "$gateway6"
}

# network_node_addresses NUMBER: the IPv4 and the IPv6 address of a node.
network_node_addresses() {
  if [[ $LAB_TOPOLOGY == routed ]]; then
    echo "172.30.$1.2 fd00:30:$1::2"
  else
    echo "172.30.0.$((1 + $1)) fd00:30::$((1 + $1))"
  fi
}

# pod_cidrs: a line for each node with its name and its pod CIDRs: Placid's own
# if Placid is there, else those of the Node objects.
pod_cidrs() {
  local kind=nodes
  lab_kubectl get crd placidnodes.placid.io >/dev/null 2>&1 && kind=placidnodes
  lab_kubectl get "$kind" -o jsonpath='{range .items[*]}{.metadata.name}{range .spec.podCIDRs[*]}{" "}{@}{end}{"\n"}{end}'
}

# routes_write: tells the control plane and the outside host which node has
# which pod CIDRs, as the network around a real cluster would know.
routes_write() {
  local node cidrs cidr via
  routes_clear
  while read -r node cidrs; do
    for cidr in $cidrs; do
      via=$(node_value "$node" address4)
      [[ $cidr != *:* ]] || via=$(node_value "$node" address6)
      in_netns "$(lab_pid)" ip route replace "$cidr" via "$via" proto "$LAB_ROUTE_PROTOCOL"
      # On routed topologies the default route of the outside host does it.
      [[ $LAB_TOPOLOGY == routed ]] ||
        in_netns "$(cat "$LAB_STATE/outside.pid")" ip route replace "$cidr" via "$via" proto "$LAB_ROUTE_PROTOCOL"
    done
  done < <(pod_cidrs)
}

routes_clear() {
  local pid family
  for pid in "$(lab_pid)" "$(cat "$LAB_STATE/outside.pid")"; do
    for family in -4 -6; do
      in_netns "$pid" ip "$family" route flush proto "$LAB_ROUTE_PROTOCOL"
    done
  done
}
