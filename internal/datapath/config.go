package datapath

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/loader"
)

// Config is what the datapath needs to know about the node's configuration.
type Config struct {
	NodeName string
	BPFRoot  string
	// CgroupRoot is the cgroup whose sockets are balanced: see FindCgroup. Empty: none.
	CgroupRoot        string
	IPv4, IPv6        bool
	Tunnel            bool // routing-mode tunnel
	TunnelPort        int
	AutoDirectRoutes  bool
	UnreachableRoutes bool
	Devices           []string // native devices; empty finds them
	MTU               int      // of the underlay, bytes; 0 takes the devices'
	ReconcileInterval time.Duration
	Timeouts          Timeouts
	CTSchedule        conntrack.Schedule // of the collection of expired flows
	Tables            TableSizes
	// FixedTables are maps whose tables get their size of Tables also when they are
	// found with another one.
	FixedTables []string
	Services    ServiceConfig
	Masquerade  MasqueradeConfig
	Log         *slog.Logger
}

// ServiceConfig says how services are served.
type ServiceConfig struct {
	Enabled bool // kube-proxy-replacement
	Reject  bool // service-no-backend-response reject: a client that nobody serves is told
	// SocketsOfHostOnly leaves sockets of pods to the translation of packets:
	// bpf-lb-sock-hostns-only.
	SocketsOfHostOnly bool
	MaglevSize        uint32   // bpf-lb-maglev-table-size, one of loadbalance's sizes
	MaglevSeed        [12]byte // bpf-lb-maglev-hash-seed, decoded
	// NodePortFirst and NodePortLast are the range of node ports, both included.
	NodePortFirst, NodePortLast uint16
	// NodePortAddresses are the prefixes whose addresses on this node serve node
	// ports; empty: all addresses of the native devices.
	NodePortAddresses []netip.Prefix
}

// MasqueradeConfig says what pods send with the node's address.
type MasqueradeConfig struct {
	IPv4, IPv6 bool
	// Native are destinations that pods reach with their own address: the native
	// routing ranges, and what ip-masq-agent's file excludes.
	Native []netip.Prefix
}

// TableSizes are the entries of tables; 0 is what the program has.
type TableSizes struct {
	TCP, Any, Embryonic uint32 // of conntrack
	Policy              uint32
	Service             uint32 // frontends
	Backend             uint32
	Maglev              uint32
	Affinity            uint32
	SourceRange         uint32
	Sock                uint32
}

// sizes names the maps that the sizes are of.
func (t TableSizes) sizes() loader.Sizes {
	return loader.Sizes{
		CTTCPMap: t.TCP, CTAnyMap: t.Any, CTNewMap: t.Embryonic, PolicyMap: t.Policy,
		FrontendMap: t.Service, BackendMap: t.Backend, MaglevMap: t.Maglev, AffinityMap: t.Affinity,
		SourceRangeMap: t.SourceRange, SockMap: t.Sock,
	}
}

// Names of Placid's maps, which are also those of their pins.
const (
	EndpointMap    = "endpoint_map"
	IPCacheMap     = "ipcache_map"
	IdentityMap    = "identity_map"
	CIDRMap        = "cidr_map"
	PolicyMap      = "policy_map"
	PortMap        = "port_map"
	CTTCPMap       = "ct_tcp_map"
	CTAnyMap       = "ct_any_map"
	CTNewMap       = "ct_new_map"
	FrontendMap    = "frontend_map"
	BackendMap     = "backend_map"
	MaglevMap      = "maglev_map"
	AffinityMap    = "affinity_map"
	SourceRangeMap = "source_range_map"
	NativeMap      = "native_map"
	SockMap        = "sock_map"
	FragmentMap    = "fragment_map"
	SettingsMap    = "settings_map"
	MetricsMap     = "metrics_map"
	ICMPBudgetMap  = "icmp_budget_map"
	TableStatsMap  = "table_stats_map"
)

// OverlayDevice is the name of the VXLAN device.
const OverlayDevice = "placid_vxlan"

// TunnelVNI is the network identifier of Placid's VXLAN.
const TunnelVNI = 2

// Bytes that VXLAN adds to a packet: Ethernet, VXLAN, UDP and the outer IP header.
const (
	vxlanOverhead4 = 50
	vxlanOverhead6 = 70
)
