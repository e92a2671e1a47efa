package datapath

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
)

// Directions of counters, from the pod's point of view, with Cilium's values.
const (
	DirectionIngress = "INGRESS"
	DirectionEgress  = "EGRESS"
)

// Counter is one exact count of packets, by program and by what became of them.
type Counter struct {
	Program   string
	Direction string
	Reason    string // Cilium's text, where Cilium has the reason
	Drop      bool
	// Event: it counts something beside what became of a packet, which another
	// counter has.
	Event bool
	// PodForward: it counts where a packet of a pod is passed on, once for each
	// direction however many programs the packet crosses.
	PodForward bool
	Packets    uint64
	Bytes      uint64 // of whole frames
}

// hookNames are the programs by their place in the metrics map.
func hookNames() [abi.CHookHOOK_COUNT]struct{ program, direction string } {
	return [...]struct{ program, direction string }{
		abi.CHookHOOK_FROM_POD:     {loader.FromPod, DirectionEgress},
		abi.CHookHOOK_FROM_NETDEV:  {loader.FromNetdev, DirectionIngress},
		abi.CHookHOOK_TO_NETDEV:    {loader.ToNetdev, DirectionEgress},
		abi.CHookHOOK_FROM_OVERLAY: {loader.FromOverlay, DirectionIngress},
		abi.CHookHOOK_TO_OVERLAY:   {loader.ToOverlay, DirectionEgress},
		abi.CHookHOOK_TO_POD:       {loader.ToPod, DirectionIngress},
	}
}

// ReasonText is the text of a reason: Cilium's for those that Cilium has.
func ReasonText(r abi.CReason) string {
	texts := map[abi.CReason]string{
		abi.CReasonREASON_FORWARDED:        "Forwarded",
		abi.CReasonREASON_TO_STACK:         "To stack",
		abi.CReasonREASON_ANSWERED:         "Neighbour request answered",
		abi.CReasonREASON_IGNORED:          "Link-local traffic ignored",
		abi.CReasonREASON_AUDITED:          "Policy would deny, audit mode",
		abi.CReasonREASON_CT_FULL:          "CT: Table full, flow stays embryonic",
		abi.CReasonREASON_CT_RACED:         "CT: Went on without an entry",
		abi.CReasonDROP_INVALID_SOURCE:     "Invalid source ip",
		abi.CReasonDROP_POLICY:             "Policy denied",
		abi.CReasonDROP_POLICY_DENY:        "Policy denied by denylist",
		abi.CReasonDROP_FRAGMENT_UNKNOWN:   "First logical datagram fragment not found",
		abi.CReasonDROP_INVALID_PACKET:     "Invalid packet",
		abi.CReasonDROP_INVALID_L4:         "CT: Truncated or invalid header",
		abi.CReasonDROP_FRAG_NEEDED:        "Fragmentation needed",
		abi.CReasonDROP_UNKNOWN_L3:         "Unsupported L3 protocol",
		abi.CReasonDROP_WRITE_ERROR:        "Error writing to packet",
		abi.CReasonDROP_NO_TUNNEL_KEY:      "Error retrieving tunnel key",
		abi.CReasonDROP_UNKNOWN_TARGET:     "Unknown L3 target address",
		abi.CReasonDROP_STALE_TARGET:       "Stale or unroutable IP",
		abi.CReasonDROP_INVALID_EXT_HEADER: "Invalid IPv6 extension header",
		abi.CReasonDROP_NO_BACKEND:         "Service backend not found",
		abi.CReasonDROP_NAT_EXHAUSTED:      "No mapping for NAT masquerade",
		abi.CReasonDROP_SOURCE_RANGE:       "Not in src range",
		abi.CReasonDROP_NAT_CONFLICT:       "NAT: Another flow has these ends",
		abi.CReasonDROP_NO_LOCAL_BACKEND:   "No service backend on this node",
		abi.CReasonDROP_NO_TUNNEL_ENDPOINT: "No tunnel/encapsulation endpoint",
		abi.CReasonDROP_HOST_UNREACHABLE:   "Local host is unreachable",
		abi.CReasonDROP_FIB_FAILED:         "FIB lookup failed",
		abi.CReasonDROP_VLAN:               "VLAN traffic disallowed by VLAN filter",
		abi.CReasonDROP_INVALID_VNI:        "Incorrect VNI from VTEP",
		abi.CReasonDROP_TTL_EXCEEDED:       "TTL exceeded",
		abi.CReasonDROP_INVALID_MAC:        "Invalid source MAC",
		abi.CReasonDROP_INVALID_ARP:        "Invalid ARP",
		abi.CReasonDROP_INVALID_ND:         "Invalid neighbour discovery",
	}
	if text, ok := texts[r]; ok {
		return text
	}
	return fmt.Sprintf("Reason %d", r)
}

// Counters reads all counts that are not zero, ordered by program and reason.
func (d *Datapath) Counters() ([]Counter, error) {
	return readCounters(d.loader.Map(MetricsMap).Table.Map())
}

func readCounters(table *ebpf.Map) ([]Counter, error) {
	cpus := ebpf.MustPossibleCPU()
	keys := make([]uint32, table.MaxEntries())
	values := make([]abi.CMetricsValue, int(table.MaxEntries())*cpus)
	var cursor ebpf.MapBatchCursor
	n, err := table.BatchLookup(&cursor, keys, values, nil)
	if err != nil && n == 0 {
		return nil, fmt.Errorf("read %s: %w", MetricsMap, err)
	}
	hooks := hookNames()
	var out []Counter
	for i, key := range keys[:n] {
		var sum abi.CMetricsValue
		for _, v := range values[i*cpus : (i+1)*cpus] {
			sum.Packets += v.Packets
			sum.Bytes += v.Bytes
		}
		if sum.Packets == 0 {
			continue
		}
		hook := hooks[key/uint32(abi.CReasonREASON_COUNT)]
		reason := abi.CReason(key % uint32(abi.CReasonREASON_COUNT))
		out = append(out, Counter{
			Program: hook.program, Direction: hook.direction, Reason: ReasonText(reason),
			Drop: reason >= abi.CReasonREASON_FIRST_DROP, Event: isEvent(reason), PodForward: podForward(hook.program, reason), Packets: sum.Packets, Bytes: sum.Bytes,
		})
	}
	return out, nil
}

func isEvent(r abi.CReason) bool {
	return r == abi.CReasonREASON_AUDITED || r == abi.CReasonREASON_CT_FULL || r == abi.CReasonREASON_CT_RACED
}

// podForward is true for all that leaves a pod, and for what reaches one from
// outside of the node.
func podForward(program string, reason abi.CReason) bool {
	switch program {
	case loader.FromPod:
		return reason == abi.CReasonREASON_FORWARDED || reason == abi.CReasonREASON_TO_STACK
	case loader.FromNetdev, loader.FromOverlay:
		return reason == abi.CReasonREASON_FORWARDED
	}
	return false
}
