# shellcheck shell=bash
# The lab's namespaces, its identities, and the Kubernetes control plane.

readonly LAB_API_URL=https://$LAB_API4:6443
readonly LAB_POD_CIDRS=10.244.0.0/16,fd00:244::/56
readonly LAB_SERVICE_CIDRS=10.96.0.0/16,fd00:96::/108

# namespaces_create: the lab's pid 1. All else lives below it and ends with it,
# the bulk of the data too: data/ is kept in memory, and is empty from outside.
namespaces_create() {
  cp "$LAB_BIN/pause" "$LAB_STATE/init"
  setsid unshare -m -p -n -f --kill-child --mount-proc "$LAB_STATE/init" </dev/null >"$LAB_STATE/log/init.log" 2>&1 &
  wait_for 5 namespaces_find $! || die "the lab's namespaces did not start: see $LAB_STATE/log/init.log"
  mkdir "$LAB_STATE/data"
  nsenter -t "$(lab_pid)" -m -- mount -t tmpfs tmpfs "$LAB_STATE/data"
}

namespaces_find() {
  local pid
  pid=$(pgrep -P "$1") || return 1
  echo "$pid" >"$LAB_STATE/lab.pid"
  lab_pid
}

# lab_background NAME COMMAND...: in the lab's namespaces, with its own log, whose
# neighbour NAME.pid holds the id of the process that entered the namespaces.
lab_background() {
  local log=$LAB_STATE/log/$1
  shift
  setsid nsenter -t "$(lab_pid)" -m -p -n -- "$@" >"$log.log" 2>&1 </dev/null &
  echo $! >"$log.pid"
}

# lab_kubectl ARG...: kubectl where it reaches the API server, with the files of here.
lab_kubectl() {
  KUBECONFIG=$LAB_STATE/admin.conf in_netns "$(lab_pid)" "$LAB_BIN/kubectl" "$@"
}

# pki_create: the key of service accounts, and a certificate for the API server
# that is its own authority.
pki_create() {
  local pki=$LAB_STATE/pki
  mkdir -p "$pki"
  openssl ecparam -genkey -name prime256v1 -noout -out "$pki/sa.key"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
    -subj /CN=kube-apiserver -keyout "$pki/apiserver.key" -out "$pki/apiserver.crt" \
    -addext "subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$LAB_API4,IP:$LAB_API6,IP:10.96.0.1,IP:fd00:96::1" \
    2>"$LAB_STATE/log/openssl.log"
}

# identity_create FILE USER GROUP: a static token, and a kubeconfig with it.
identity_create() {
  local file=$1 user=$2 group=$3 token
  token=$(openssl rand -hex 16)
  echo "$token,$user,$user,\"$group\"" >>"$LAB_STATE/pki/tokens.csv"
  cat >"$file" <<END
apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster:
    server: $LAB_API_URL
    certificate-authority-data: $(base64 -w 0 "$LAB_STATE/pki/apiserver.crt")
users:
- name: $user
  user: {token: $token}
contexts:
- name: lab
  context: {cluster: lab, user: "$user"}
current-context: lab
END
}

# controlplane_start: etcd and the API server at once, the rest when it answers.
controlplane_start() {
  local pki=$LAB_STATE/pki
  lab_background etcd "$LAB_BIN/etcd" --data-dir "$LAB_STATE/data/etcd" --unsafe-no-fsync --log-level warn
  lab_background kube-apiserver "$LAB_BIN/kube-apiserver" \
    --etcd-servers=http://127.0.0.1:2379 --bind-address=:: --advertise-address="$LAB_API4" \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --service-cluster-ip-range="$LAB_SERVICE_CIDRS" --token-auth-file="$pki/tokens.csv" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-signing-key-file="$pki/sa.key" --service-account-key-file="$pki/sa.key" \
    --kubelet-preferred-address-types=InternalIP
}

controlplane_finish() {
  wait_for 120 lab_kubectl get --raw /readyz || die "the API server is not ready: see $LAB_STATE/log/kube-apiserver.log"
  lab_background kube-controller-manager "$LAB_BIN/kube-controller-manager" \
    --kubeconfig="$LAB_STATE/admin.conf" --leader-elect=false \
    --service-account-private-key-file="$LAB_STATE/pki/sa.key" --root-ca-file="$LAB_STATE/pki/apiserver.crt" \
    --allocate-node-cidrs --cluster-cidr="$LAB_POD_CIDRS" --service-cluster-ip-range="$LAB_SERVICE_CIDRS" \
    --node-cidr-mask-size-ipv4=24 --node-cidr-mask-size-ipv6=64
  lab_background kube-scheduler "$LAB_BIN/kube-scheduler" --kubeconfig="$LAB_STATE/admin.conf" --leader-elect=false
}
