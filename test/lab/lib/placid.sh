# shellcheck shell=bash
# Placid in the lab: its binaries, its image, and its roll-out.

readonly LAB_PLACID_PROGRAMS=(placid-agent placid-operator placid-cni placid)

# placid_build VERSION TAG...: builds the programs of this checkout and packs
# them into an archive, placid/VERSION.tar, of an image with the tags.
placid_build() {
  local version=$1 directory=$LAB_STATE/placid root
  shift
  root=$directory/root-$version
  rm -rf "$root"
  mkdir -p "$root/usr/bin" "$root/etc" "$root/tmp"
  (
    cd "$LAB_SRC/../.." || exit
    GOFLAGS=-buildvcs=false GOWORK=off CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$version" \
      -o "$root/usr/bin/" "${LAB_PLACID_PROGRAMS[@]/#/./cmd/}"
  )
  echo root:x:0:0:root:/:/ >"$root/etc/passwd"
  image_pack "$root" "$directory/$version.tar" /usr/bin/placid-agent '' "${@/#/localhost/placid:}"
  rm -rf "$root"
}

# json_string VALUE
json_string() {
  local value=${1//\\/\\\\}
  echo "\"${value//\"/\\\"}\""
}

# placid_config_patch KEY=VALUE...: the ConfigMap's keys as a merge patch.
placid_config_patch() {
  local setting separator=''
  printf '{"data": {'
  for setting in "$@"; do
    printf '%s%s: %s' "$separator" "$(json_string "${setting%%=*}")" "$(json_string "${setting#*=}")"
    separator=', '
  done
  echo '}}'
}

# placid_defaults KEY=VALUE...: the lab's own settings, a line each, for what these
# leave open. The API server is not reached at the address of its Service by those
# that serve Services. Pod CIDRs of Node objects come from a range that only
# Kubernetes knows.
placid_defaults() {
  local given=" $* "
  [[ $given == *" k8s-api-server="* ]] || echo "k8s-api-server=$LAB_API_URL"
  [[ $given == *" ipam=kubernetes "* ]] || return 0
  [[ $given == *" ipv4-native-routing-cidr="* ]] || echo "ipv4-native-routing-cidr=${LAB_POD_CIDRS%,*}"
  [[ $given == *" ipv6-native-routing-cidr="* ]] || echo "ipv6-native-routing-cidr=${LAB_POD_CIDRS#*,}"
}

# placid_apply KEY=VALUE...: the manifests, with keys of the configuration changed.
# The configuration is there before the first agent starts.
placid_apply() {
  local deploy=$LAB_SRC/../../deploy
  lab_kubectl apply -f "$deploy/crd"
  lab_kubectl apply -f "$deploy/placid.yaml" -l app.kubernetes.io/component=config
  lab_kubectl -n kube-system patch configmap placid-config --type=merge -p "$(placid_config_patch "$@")"
  lab_kubectl apply -f "$deploy/placid.yaml" -l app.kubernetes.io/component!=config
}

# placid_wait: until every node is Ready; tells how long that took from the start
# of its agent.
placid_wait() {
  local node jobs=() job status=0
  while read -r node; do
    placid_wait_node "$node" &
    jobs+=($!)
  done < <(node_names)
  for job in "${jobs[@]}"; do
    wait "$job" || status=1
  done
  if ((status != 0)); then
    lab_kubectl -n kube-system get pods -o wide >&2
    lab_kubectl -n kube-system logs -l app.kubernetes.io/name=placid --tail=20 --prefix >&2 || true
    die "not all nodes are Ready; container logs are in $LAB_STATE/log/NODE/pods"
  fi
}

placid_wait_node() {
  local ready started
  lab_kubectl wait --for=condition=Ready "node/$1" --timeout="${LAB_READY_TIMEOUT:-120s}" >/dev/null || return 1
  ready=$(now_ms)
  if started=$(agent_started_ms "$1"); then
    say "$1 is Ready, $((ready - started)) ms after its agent started"
  else
    say "$1 is Ready"
  fi
}

# agent_started_ms NODE: when the node's agent process was started.
agent_started_ms() {
  local pid stat ticks hz uptime
  pid=$(node_enter "$1" pgrep -o -x placid-agent) || return 1
  stat=$(node_enter "$1" cat "/proc/$pid/stat") || return 1
  ticks=$(cut -d ' ' -f 20 <<<"${stat##*) }")
  hz=$(getconf CLK_TCK)
  uptime=$(cut -d ' ' -f 1 /proc/uptime)
  echo $(($(now_ms) - 10#${uptime/./} * 10 + ticks * 1000 / hz))
}

# placid_routed: whether every node has got its pod CIDRs.
placid_routed() {
  [[ $(pod_cidrs | awk 'NF > 1' | wc -l) == "$(node_names | wc -l)" ]]
}

# placid_roll VERSION: replaces the running Placid by an imported image.
placid_roll() {
  local image=localhost/placid:$1
  lab_kubectl -n kube-system set image daemonset/placid-agent "*=$image"
  lab_kubectl -n kube-system set image deployment/placid-operator "*=$image"
  lab_kubectl -n kube-system rollout status daemonset/placid-agent --timeout=180s
  lab_kubectl -n kube-system rollout status deployment/placid-operator --timeout=180s
}
