package config

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// stockConfigMap is what Cilium's chart makes of its own defaults, with
// kubeProxyReplacement=true; one key a line.
const stockConfigMap = `
agent-not-ready-taint-key=node.cilium.io/agent-not-ready
auto-direct-node-routes=false
bpf-distributed-lru=false
bpf-events-drop-enabled=true
bpf-events-policy-verdict-enabled=true
bpf-events-trace-enabled=true
bpf-lb-acceleration=disabled
bpf-lb-algorithm-annotation=false
bpf-lb-external-clusterip=false
bpf-lb-map-max=65536
bpf-lb-mode-annotation=false
bpf-lb-sock=false
bpf-lb-source-range-all-types=false
bpf-map-dynamic-size-ratio=0.0025
bpf-policy-map-max=16384
bpf-policy-stats-map-max=65536
bpf-root=/sys/fs/bpf
cgroup-root=/run/cilium/cgroupv2
cilium-endpoint-gc-interval=5m0s
cluster-id=0
cluster-name=default
cluster-pool-ipv4-cidr=10.0.0.0/8
cluster-pool-ipv4-mask-size=24
clustermesh-cache-ttl=0s
clustermesh-enable-endpoint-sync=false
clustermesh-enable-mcs-api=false
clustermesh-mcs-api-install-crds=true
cni-exclusive=true
cni-log-file=/var/run/cilium/cilium-cni.log
custom-cni-conf=false
datapath-mode=veth
debug=false
debug-verbose=
default-lb-service-ipam=lbipam
direct-routing-skip-unreachable=false
dnsproxy-enable-transparent-mode=true
dnsproxy-socket-linger-timeout=10
egress-gateway-reconciliation-trigger-interval=1s
enable-auto-protect-node-port-range=true
enable-bpf-clock-probe=false
enable-drift-checker=true
enable-dynamic-config=true
enable-endpoint-health-checking=true
enable-endpoint-lockdown-on-policy-overflow=false
enable-health-check-loadbalancer-ip=false
enable-health-check-nodeport=true
enable-health-checking=true
enable-hubble=true
enable-ipv4=true
enable-ipv4-big-tcp=false
enable-ipv4-masquerade=true
enable-ipv6=false
enable-ipv6-big-tcp=false
enable-ipv6-masquerade=true
enable-k8s-networkpolicy=true
enable-l2-neigh-discovery=false
enable-l7-proxy=true
enable-lb-ipam=true
enable-masquerade-to-route-source=false
enable-metrics=true
enable-no-service-endpoints-routable=true
enable-node-selector-labels=false
enable-non-default-deny-policies=true
enable-policy=default
enable-policy-secrets-sync=true
enable-sctp=false
enable-service-topology=false
enable-source-ip-verification=true
enable-tcx=true
enable-tunnel-big-tcp=false
enable-vtep=false
enable-well-known-identities=false
enable-xt-socket-fallback=true
envoy-access-log-buffer-size=4096
envoy-base-id=0
envoy-keep-cap-netbindservice=false
external-envoy-proxy=true
health-check-icmp-failure-threshold=3
http-retry-count=3
http-stream-idle-timeout=300
hubble-disable-tls=false
hubble-listen-address=:4244
hubble-network-policy-correlation-enabled=true
hubble-socket-path=/var/run/cilium/hubble.sock
hubble-tls-cert-file=/var/lib/cilium/tls/hubble/server.crt
hubble-tls-client-ca-files=/var/lib/cilium/tls/hubble/client-ca.crt
hubble-tls-key-file=/var/lib/cilium/tls/hubble/server.key
identity-allocation-mode=crd
identity-gc-interval=15m0s
identity-heartbeat-timeout=30m0s
identity-management-mode=agent
install-no-conntrack-iptables-rules=false
ipam=cluster-pool
ipam-cilium-node-update-rate=15s
iptables-random-fully=false
k8s-require-ipv4-pod-cidr=false
k8s-require-ipv6-pod-cidr=false
kube-proxy-replacement=true
kube-proxy-replacement-healthz-bind-address=
max-connected-clusters=255
mesh-auth-enabled=false
mesh-auth-gc-interval=5m0s
mesh-auth-queue-size=1024
mesh-auth-rotated-identities-queue-size=1024
metrics-sampling-interval=5m
monitor-aggregation=medium
monitor-aggregation-flags=all
monitor-aggregation-interval=5s
nat-map-stats-entries=32
nat-map-stats-interval=30s
node-port-bind-protection=true
nodeport-addresses=
nodes-gc-interval=5m0s
operator-api-serve-addr=127.0.0.1:9234
operator-prometheus-serve-addr=:9963
packetization-layer-pmtud-mode=blackhole
policy-cidr-match-mode=
policy-default-local-cluster=true
policy-deny-response=none
policy-secrets-namespace=cilium-secrets
policy-secrets-only-from-secrets-namespace=true
preallocate-bpf-maps=false
procfs=/host/proc
proxy-cluster-max-connections=1024
proxy-cluster-max-requests=1024
proxy-connect-timeout=2
proxy-idle-timeout-seconds=60
proxy-initial-fetch-timeout=30
proxy-max-active-downstream-connections=50000
proxy-max-concurrent-retries=128
proxy-max-connection-duration-seconds=0
proxy-max-requests-per-connection=0
proxy-use-original-source-address=true
proxy-xff-num-trusted-hops-egress=0
proxy-xff-num-trusted-hops-ingress=0
remove-cilium-node-taints=true
routing-mode=tunnel
service-no-backend-response=reject
set-cilium-is-up-condition=true
set-cilium-node-taints=true
synchronize-k8s-nodes=true
tofqdns-dns-reject-response-code=refused
tofqdns-enable-dns-compression=true
tofqdns-endpoint-max-ip-per-hostname=1000
tofqdns-idle-connection-grace-period=0s
tofqdns-max-deferred-connection-deletes=10000
tofqdns-preallocate-identities=true
tofqdns-proxy-response-max-delay=100ms
tunnel-protocol=vxlan
tunnel-source-port-range=0-0
unmanaged-pod-watcher-interval=15s
vtep-cidr=
vtep-endpoint=
vtep-mac=
vtep-mask=
write-cni-conf-when-ready=/host/etc/cni/net.d/05-cilium.conflist
`

func stockFiles() map[string]string {
	files := map[string]string{}
	for line := range strings.Lines(strings.TrimSpace(stockConfigMap)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		files[key] = value
	}
	return files
}

// A cluster's ConfigMap is kept when Placid takes Cilium's place.
func TestStockConfigMap(t *testing.T) {
	for _, tc := range []struct {
		name    string
		changed map[string]string
		native  string
	}{
		{name: "the chart's defaults", native: "10.0.0.0/8"},
		{
			name: "native routing and Maglev", native: "10.64.0.0/10",
			changed: map[string]string{
				"routing-mode": "native", "ipv4-native-routing-cidr": "10.64.0.0/10", "bpf-lb-algorithm": "maglev", "bpf-lb-mode": "snat",
				"node-port-range": "30000,32767", "enable-bpf-masquerade": "true", "bpf-lb-sock-hostns-only": "true", "k8s-service-proxy-name": "",
			},
		},
		{name: "with kube-proxy", native: "10.0.0.0/8", changed: map[string]string{"kube-proxy-replacement": "false"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := stockFiles()
			maps.Copy(files, tc.changed)
			l, err := Load(Sources{Dir: dirWith(t, files)})
			if err != nil {
				t.Fatal(err)
			}
			c := l.Config
			if c.KubeProxyReplacement != (files["kube-proxy-replacement"] == "true") || !c.EnableIPv4Masquerade || c.EnableIPv6 || c.RoutingMode != files["routing-mode"] {
				t.Errorf("%+v", c)
			}
			if got := c.NativeCIDRs(); !slices.Equal(got, []netip.Prefix{netip.MustParsePrefix(tc.native)}) {
				t.Errorf("native routing ranges %v, want %s", got, tc.native)
			}
			for _, key := range []string{"kube-proxy-replacement=", "enable-ipv4-masquerade", "bpf-lb-map-max", "service-no-backend-response"} {
				if slices.ContainsFunc(l.Warnings, func(w string) bool { return strings.HasPrefix(w, key) }) {
					t.Errorf("%s is warned of:\n%s", key, strings.Join(l.Warnings, "\n"))
				}
			}
		})
	}
}

// What asks for more than Placid does is refused by name.
func TestStockConfigMapWithWishes(t *testing.T) {
	files := stockFiles()
	files["bpf-lb-mode"], files["bpf-lb-acceleration"], files["kube-proxy-replacement-healthz-bind-address"] = "dsr", "native", "0.0.0.0:10256"
	_, err := Load(Sources{Dir: dirWith(t, files)})
	wantLines(
		t, err,
		[]string{`bpf-lb-mode="dsr"`, "is not part of this version; allowed: snat"},
		[]string{`bpf-lb-acceleration="native"`, "is not part of this version; allowed: disabled"},
		[]string{"kube-proxy-replacement-healthz-bind-address", "agent-health-port"},
	)
}
