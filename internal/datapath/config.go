package datapath

import (
	"log/slog"
	"time"
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
	Log               *slog.Logger
}

// Names of Placid's maps, which are also those of their pins.
const (
	EndpointMap   = "endpoint_map"
	IPCacheMap    = "ipcache_map"
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
