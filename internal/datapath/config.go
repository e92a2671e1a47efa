package datapath

import (
	"log/slog"
	"time"

	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/loader"
)

// Config is what the datapath needs to know about the node's configuration.
type Config struct {
	NodeName          string
	BPFRoot           string
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
	Log               *slog.Logger
}

// TableSizes are the entries of tables; 0 is what the program has.
type TableSizes struct {
	TCP, Any, Embryonic uint32 // of conntrack
	Policy              uint32
}

// sizes names the maps that the sizes are of.
func (t TableSizes) sizes() loader.Sizes {
	return loader.Sizes{CTTCPMap: t.TCP, CTAnyMap: t.Any, CTNewMap: t.Embryonic, PolicyMap: t.Policy}
}

// Names of Placid's maps, which are also those of their pins.
const (
	EndpointMap   = "endpoint_map"
	IPCacheMap    = "ipcache_map"
	IdentityMap   = "identity_map"
	CIDRMap       = "cidr_map"
	PolicyMap     = "policy_map"
	PortMap       = "port_map"
	CTTCPMap      = "ct_tcp_map"
	CTAnyMap      = "ct_any_map"
	CTNewMap      = "ct_new_map"
	FragmentMap   = "fragment_map"
	SettingsMap   = "settings_map"
	MetricsMap    = "metrics_map"
	ICMPBudgetMap = "icmp_budget_map"
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
