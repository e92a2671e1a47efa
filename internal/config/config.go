package config

import (
	"net/netip"
	"time"
)

// Config is the whole configuration of the agent and the operator, one field a
// key. It is built by Load and not changed afterwards. The tags are the single
// declaration of every key:
//
//	key      its name; Cilium's, where Cilium has the key
//	default  its default, as text
//	oneof    the values that a string can have, separated by spaces
//	min, max the range of a number or a duration, both included
//	unset    a value outside the range that is allowed too and means "not set"
//	notyet   values of Cilium that a later version will have; refused by name
//	format   what a string, or each string of a list, must look like: see formats.go
//	family   the address family of a CIDR, or of each CIDR of a list: ipv4 or ipv6
//	empty    "ok" when a string that has a default can be emptied
//	later    the part of Placid that will use the key; until then it is checked only
//	live     "true" when a change is followed without a restart
//	doc      what `placid config` and the flag help show
type Config struct {
	// General.
	Debug       bool   `key:"debug" default:"false" doc:"log at debug level"`
	LogFormat   string `key:"log-format" default:"text" oneof:"text json" doc:"format of log lines"`
	ClusterName string `key:"cluster-name" default:"default" format:"cluster-name" doc:"name of the cluster, at most 32 characters of a-z, 0-9 and -"`
	ClusterID   int    `key:"cluster-id" default:"0" min:"0" max:"511" doc:"number of the cluster in a mesh; 0 is unset"`
	NodeName    string `key:"node-name" default:"" format:"node-name" doc:"name of this node's Node object; empty takes the environment's K8S_NODE_NAME, then the host name"`

	// Kubernetes.
	KubeconfigPath      string  `key:"k8s-kubeconfig-path" default:"" format:"path" doc:"kubeconfig to use instead of the in-cluster service account"`
	APIServerURL        string  `key:"k8s-api-server" default:"" format:"url" doc:"URL of the API server, e.g. https://192.0.2.1:6443; empty takes the kubeconfig's or the cluster's own"`
	ClientQPS           float64 `key:"k8s-client-qps" default:"10" min:"0.1" max:"10000" doc:"sustained requests per second to the API server"`
	ClientBurst         int     `key:"k8s-client-burst" default:"20" min:"1" max:"10000" doc:"burst of requests to the API server"`
	OperatorClientQPS   float64 `key:"operator-k8s-client-qps" default:"100" min:"0.1" max:"10000" doc:"sustained requests per second of the operator to the API server"`
	OperatorClientBurst int     `key:"operator-k8s-client-burst" default:"200" min:"1" max:"10000" doc:"burst of requests of the operator to the API server"`

	// Datapath.
	EnableIPv4           bool     `key:"enable-ipv4" default:"true" doc:"give pods IPv4 addresses"`
	EnableIPv6           bool     `key:"enable-ipv6" default:"true" doc:"give pods IPv6 addresses when the node has an IPv6 pod CIDR"`
	RoutingMode          string   `key:"routing-mode" default:"native" oneof:"native tunnel" doc:"how packets reach pods of other nodes: native (the network, or direct routes, carry pod addresses) or tunnel"`
	TunnelProtocol       string   `key:"tunnel-protocol" default:"vxlan" oneof:"vxlan" doc:"encapsulation of routing-mode tunnel"`
	TunnelPort           int      `key:"tunnel-port" default:"8472" min:"1" max:"65535" doc:"UDP port of the tunnel"`
	AutoDirectNodeRoutes bool     `key:"auto-direct-node-routes" default:"true" doc:"in native mode, install routes to the pod CIDRs of nodes that share a segment with this one; others are left to the network"`
	Devices              []string `key:"devices" default:"" format:"device" doc:"native devices, comma separated; empty takes the one that carries the node's address"`
	MTU                  int      `key:"mtu" default:"0" unset:"0" min:"576" max:"65520" doc:"MTU of the underlay in bytes; 0 takes the smallest of the native devices"`
	UnreachableRoutes    bool     `key:"enable-unreachable-routes" default:"false" doc:"a pod address that was given back answers host unreachable until it is used again; off drops silently"`
	BPFRoot              string   `key:"bpf-root" default:"/sys/fs/bpf" format:"path" doc:"mount point of the BPF file system"`
	CgroupRoot           string   `key:"cgroup-root" default:"" format:"path" doc:"cgroup2 hierarchy of the node, or the part of it whose processes and pods have Services translated at their sockets; empty takes the one that the node's first process has mounted, and so does Cilium's /run/cilium/cgroupv2 where that is not mounted"`

	// Services. NodePortRange holds both ends.
	KubeProxyReplacement  bool           `key:"kube-proxy-replacement" default:"true" doc:"serve Services in place of kube-proxy: cluster, external and load balancer addresses, node ports and host ports; false serves none of them and leaves all to kube-proxy"`
	LBAlgorithm           string         `key:"bpf-lb-algorithm" default:"random" oneof:"random maglev" doc:"how a backend is chosen for a new flow from outside the cluster; clients inside always get a random one"`
	LBAlgorithmAnnotation bool           `key:"bpf-lb-algorithm-annotation" default:"false" doc:"let a Service choose its algorithm with the annotation service.cilium.io/lb-algorithm"`
	LBMaglevTableSize     int            `key:"bpf-lb-maglev-table-size" default:"16381" oneof:"251 509 1021 2039 4093 8191 16381 32749 65521 131071" doc:"entries of the Maglev table of one Service port, at 4 bytes each; take more than 100 times the backends"`
	LBMaglevHashSeed      string         `key:"bpf-lb-maglev-hash-seed" default:"JLfvgnHc2kaSUFaI" format:"maglev-seed" doc:"seed of Maglev; all nodes must have the same one to choose the same backends"`
	LBMode                string         `key:"bpf-lb-mode" default:"snat" oneof:"snat" notyet:"dsr hybrid" doc:"how a flow from outside gets to a backend on another node: snat (from this node's address, so that the answer comes back here)"`
	LBAcceleration        string         `key:"bpf-lb-acceleration" default:"disabled" oneof:"disabled" notyet:"native best-effort testing-only" doc:"where flows from outside are balanced in the driver of the device (XDP): disabled (nowhere)"`
	LBExternalClusterIP   bool           `key:"bpf-lb-external-clusterip" default:"false" doc:"serve cluster addresses of Services to clients outside the cluster too"`
	LBSourceRangeAllTypes bool           `key:"bpf-lb-source-range-all-types" default:"false" doc:"apply loadBalancerSourceRanges to every address of a Service, not to its load balancer addresses alone"`
	LBSock                bool           `key:"bpf-lb-sock" default:"true" doc:"translate the addresses of Services at sockets; kube-proxy-replacement=true always does, as in Cilium, and false never does"`
	LBSockHostnsOnly      bool           `key:"bpf-lb-sock-hostns-only" default:"false" doc:"translate at the sockets of the node itself only, and what pods send packet by packet"`
	NodePortRange         PortRange      `key:"node-port-range" default:"30000-32767" doc:"ports that node ports can have, as the API server's service-node-port-range"`
	NodePortAddresses     []netip.Prefix `key:"nodeport-addresses" default:"" doc:"ranges of the node addresses that node ports are served at; empty takes all addresses of the native devices"`
	ServiceProxyName      string         `key:"k8s-service-proxy-name" default:"" format:"label-value" doc:"serve only Services whose label service.kubernetes.io/service-proxy-name has this value; empty serves those without the label"`
	ServiceNoBackend      string         `key:"service-no-backend-response" default:"reject" oneof:"reject drop" doc:"what a client gets from a Service without backends: an answer that nobody is there (reject) or nothing (drop)"`
	ServiceTopology       bool           `key:"enable-service-topology" default:"false" doc:"prefer backends that EndpointSlices hint at for this node or its zone"`
	HealthCheckNodePort   bool           `key:"enable-health-check-nodeport" default:"true" doc:"serve healthCheckNodePort of Services, for load balancers outside"`
	LBMapMax              int            `key:"bpf-lb-map-max" default:"65536" min:"1" max:"16777216" live:"true" doc:"entries of each table of Services that has no size of its own; 65536 counts as not set, so that these tables follow bpf-map-autosize"`
	LBServiceMapMax       int            `key:"bpf-lb-service-map-max" default:"0" unset:"0" min:"1" max:"16777216" live:"true" doc:"entries of the table of frontends: addresses and ports where Services are reached; 0 takes bpf-lb-map-max"`
	LBBackendMapMax       int            `key:"bpf-lb-service-backend-map-max" default:"0" unset:"0" min:"1" max:"16777216" live:"true" doc:"entries of the table of backends: one for each backend of each Service port, and one more with session affinity; 0 takes bpf-lb-map-max"`
	LBAffinityMapMax      int            `key:"bpf-lb-affinity-map-max" default:"0" unset:"0" min:"1" max:"16777216" live:"true" doc:"entries of the table of clients with session affinity; 0 takes bpf-lb-map-max"`
	LBSourceRangeMapMax   int            `key:"bpf-lb-source-range-map-max" default:"0" unset:"0" min:"1" max:"16777216" live:"true" doc:"entries of the table of loadBalancerSourceRanges; 0 takes bpf-lb-map-max"`
	LBMaglevMapMax        int            `key:"bpf-lb-maglev-map-max" default:"0" unset:"0" min:"1" max:"16777216" live:"true" doc:"how many Service ports can have a Maglev table; 0 takes bpf-lb-map-max"`
	SockRevMapMax         int            `key:"bpf-sock-rev-map-max" default:"0" unset:"0" min:"1024" max:"16777216" live:"true" doc:"entries of the table of sockets that talk to a backend; 0 follows bpf-map-dynamic-size-ratio"`

	// Masquerading. See also NativeCIDRs and MasqueradeExclusions.
	EnableIPv4Masquerade  bool         `key:"enable-ipv4-masquerade" default:"true" doc:"what pods send out of the native routing range over IPv4 gets the node's address"`
	EnableIPv6Masquerade  bool         `key:"enable-ipv6-masquerade" default:"true" doc:"what pods send out of the native routing range over IPv6 gets the node's address"`
	NativeRoutingCIDR4    netip.Prefix `key:"ipv4-native-routing-cidr" default:"" family:"ipv4" doc:"destinations that pods reach with their own address; empty takes the pools of ipam cluster-pool"`
	NativeRoutingCIDR6    netip.Prefix `key:"ipv6-native-routing-cidr" default:"" family:"ipv6" doc:"destinations that pods reach with their own address; empty takes the pools of ipam cluster-pool"`
	EnableIPMasqAgent     bool         `key:"enable-ip-masq-agent" default:"false" doc:"take more destinations that pods reach with their own address from ip-masq-agent-config-path"`
	IPMasqAgentConfigPath string       `key:"ip-masq-agent-config-path" default:"/etc/config/ip-masq-agent" format:"path" doc:"file with nonMasqueradeCIDRs, masqLinkLocal and masqLinkLocalIPv6 in YAML or JSON; without it the private and reserved ranges are meant"`

	// Addresses.
	IPAM                string         `key:"ipam" default:"cluster-pool" oneof:"kubernetes cluster-pool" doc:"where pod CIDRs come from: the Node object (kubernetes) or the operator's pools (cluster-pool)"`
	ClusterPoolIPv4CIDR []netip.Prefix `key:"cluster-pool-ipv4-cidr" default:"10.0.0.0/8" family:"ipv4" doc:"pools that IPv4 pod CIDRs are carved from"`
	ClusterPoolIPv4Mask int            `key:"cluster-pool-ipv4-mask-size" default:"24" min:"8" max:"30" doc:"prefix length of a node's IPv4 pod CIDR"`
	ClusterPoolIPv6CIDR []netip.Prefix `key:"cluster-pool-ipv6-cidr" default:"fd00::/104" family:"ipv6" doc:"pools that IPv6 pod CIDRs are carved from"`
	ClusterPoolIPv6Mask int            `key:"cluster-pool-ipv6-mask-size" default:"120" min:"16" max:"126" doc:"prefix length of a node's IPv6 pod CIDR"`
	AddressReuseDelay   time.Duration  `key:"ipam-address-reuse-delay" default:"60s" min:"0s" max:"24h" doc:"how long an address that was given back rests before another pod can get it"`
	EndpointGCInterval  time.Duration  `key:"endpoint-gc-interval" default:"5m" min:"10s" max:"24h" doc:"how often endpoints are compared with the pods that exist; a pod that is missing twice in a row gives its address back"`
	ReconcileInterval   time.Duration  `key:"reconcile-interval" default:"1m" min:"1s" max:"24h" doc:"how often what the kernel holds is compared with what it should hold"`

	// Identities and policy. What a filter of labels looks like, internal/identity
	// checks when a program starts.
	Labels                               string        `key:"labels" default:"" doc:"labels that make a pod's identity, besides the built-in ones: [source:][!]pattern, separated by spaces; the pattern is a regular expression for the beginning of the key, one with ! leaves labels out, one without leaves out all that no pattern includes"`
	IdentityGCInterval                   time.Duration `key:"identity-gc-interval" default:"15m" unset:"0s" min:"1s" max:"24h" doc:"how long an identity that no pod has is kept; 0s keeps it for ever"`
	EnablePolicy                         string        `key:"enable-policy" default:"default" oneof:"default always never" doc:"which pods are isolated: those that a policy selects (default), all (always) or none (never)"`
	EnableK8sNetworkPolicy               bool          `key:"enable-k8s-networkpolicy" default:"true" doc:"enforce Kubernetes NetworkPolicies"`
	EnableCiliumNetworkPolicy            bool          `key:"enable-cilium-network-policy" default:"true" doc:"enforce CiliumNetworkPolicies; the operator installs their definition unless the cluster has it"`
	EnableCiliumClusterwideNetworkPolicy bool          `key:"enable-cilium-clusterwide-network-policy" default:"true" doc:"enforce CiliumClusterwideNetworkPolicies, as above"`
	PolicyAuditMode                      bool          `key:"policy-audit-mode" default:"false" live:"true" doc:"let through what policy would drop, and count it"`
	PolicyMapMax                         int           `key:"bpf-policy-map-max" default:"1048576" min:"256" max:"16777216" live:"true" doc:"entries of the policy table, which all pods of the node share (Cilium has one for each pod); 1048576, and 16384, which is Cilium's default for one pod, count as not set: the table follows bpf-map-autosize then"`
	CTGlobalTCPMax                       int           `key:"bpf-ct-global-tcp-max" default:"0" unset:"0" min:"1024" max:"16777216" live:"true" doc:"entries of the TCP conntrack table; 0 follows bpf-map-dynamic-size-ratio"`
	CTGlobalAnyMax                       int           `key:"bpf-ct-global-any-max" default:"0" unset:"0" min:"1024" max:"16777216" live:"true" doc:"entries of the non-TCP conntrack table; 0 follows bpf-map-dynamic-size-ratio"`
	NATGlobalMax                         int           `key:"bpf-nat-global-max" default:"0" unset:"0" min:"1024" max:"16777216" live:"true" doc:"checked as Cilium does: at most the entries of both conntrack tables. There is no NAT table: a flow that is translated has two entries in its conntrack table"`
	CTEmbryonicMax                       int           `key:"bpf-ct-embryonic-max" default:"65536" min:"1024" max:"16777216" live:"true" doc:"entries of the table of flows that are half open or one way so far; 65536 counts as not set, so that the table follows bpf-map-autosize"`
	CTTimeoutRegularAny                  time.Duration `key:"bpf-ct-timeout-regular-any" default:"60s" min:"1s" max:"720h" live:"true" doc:"lifetime of idle non-TCP flows"`
	CTTimeoutRegularTCP                  time.Duration `key:"bpf-ct-timeout-regular-tcp" default:"8000s" min:"1s" max:"720h" live:"true" doc:"lifetime of idle established TCP flows"`
	CTTimeoutRegularFin                  time.Duration `key:"bpf-ct-timeout-regular-tcp-fin" default:"10s" min:"1s" max:"720h" live:"true" doc:"lifetime of closing TCP flows"`
	CTTimeoutRegularSyn                  time.Duration `key:"bpf-ct-timeout-regular-tcp-syn" default:"60s" min:"1s" max:"720h" live:"true" doc:"lifetime of half-open TCP flows"`
	CTTimeoutServiceAny                  time.Duration `key:"bpf-ct-timeout-service-any" default:"60s" min:"1s" max:"720h" live:"true" doc:"lifetime of idle non-TCP flows through a Service"`
	CTTimeoutServiceTCP                  time.Duration `key:"bpf-ct-timeout-service-tcp" default:"8000s" min:"1s" max:"720h" live:"true" doc:"lifetime of idle established TCP flows through a Service"`
	ConntrackGCInterval                  time.Duration `key:"conntrack-gc-interval" default:"0s" unset:"0s" min:"1s" max:"24h" live:"true" doc:"how often dead conntrack entries are collected; 0s follows how many there are"`
	ConntrackGCMaxInterval               time.Duration `key:"conntrack-gc-max-interval" default:"0s" unset:"0s" min:"1s" max:"24h" live:"true" doc:"the longest time between collections when conntrack-gc-interval is 0s; 0s sets no limit of its own"`

	// CNI and local files.
	CNIConfPath  string `key:"write-cni-conf-when-ready" default:"/etc/cni/net.d/05-placid.conflist" empty:"ok" format:"conflist" doc:"CNI configuration that the agent writes once it is ready; empty writes none"`
	CNIExclusive bool   `key:"cni-exclusive" default:"true" doc:"rename other CNI configurations in the same folder to *.placid_bak so that only Placid's is used"`
	CNIBinDir    string `key:"cni-bin-dir" default:"/opt/cni/bin" empty:"ok" format:"path" doc:"where the agent installs placid-cni; empty installs none"`
	SocketPath   string `key:"socket-path" default:"/run/placid/agent.sock" format:"socket" doc:"unix socket for the CNI plugin and the command line"`
	StateDir     string `key:"state-dir" default:"/run/placid" format:"path" doc:"folder of the agent's run-time state; must not outlive a reboot"`

	// Servers.
	PrometheusAddr         string `key:"prometheus-serve-addr" default:":9962" empty:"ok" format:"address" doc:"address of the agent's metrics; empty switches them off"`
	HealthPort             int    `key:"agent-health-port" default:"9879" min:"1" max:"65535" doc:"port of the agent's /healthz and /readyz on the loopback address"`
	OperatorPrometheusAddr string `key:"operator-prometheus-serve-addr" default:":9963" empty:"ok" format:"address" doc:"address of the operator's metrics; empty switches them off"`
	OperatorHealthAddr     string `key:"operator-api-serve-addr" default:"127.0.0.1:9234" format:"address" doc:"address of the operator's /healthz and /readyz"`

	// Sizes of tables. See also Config.SizeInput.
	MapDynamicSizeRatio float64 `key:"bpf-map-dynamic-size-ratio" default:"0.0025" min:"0" max:"1" live:"true" doc:"share of the node's memory that the tables of flows and sockets get, as Cilium counts it; 0 takes their default sizes. A table whose size is set has that size"`
	MapAutosize         bool    `key:"bpf-map-autosize" default:"true" live:"true" doc:"give tables whose size is not set another one while they are used, as they fill and empty"`
	MapMemoryBudget     Bytes   `key:"bpf-map-memory-budget" default:"0" live:"true" doc:"memory that all tables together may take while bpf-map-autosize is on, entries that move included; 0 takes a 64th of the node's, at least 128MiB, at most 1GiB, and at least twice what the tables take at first"`
}
