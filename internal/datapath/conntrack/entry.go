package conntrack

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

var (
	// ErrUnknownPod is returned for a pod that is not on this node.
	ErrUnknownPod = errors.New("no such pod on this node")
	// ErrBadFilter is returned for a filter with a condition that nothing can meet.
	ErrBadFilter = errors.New("invalid conntrack filter")
)

// Pods tells which addresses pods of this node have.
type Pods interface {
	// NameOf returns "namespace/name" of the pod with that address, or "".
	NameOf(addr netip.Addr) string
	// AddrsOf returns the addresses of the pod "namespace/name": at most two.
	AddrsOf(name string) []netip.Addr
}

// phaseOf tells how far a flow has come.
func phaseOf(proto uint8, flags abi.CCtFlags) bpf.TablesCtPhase {
	switch {
	case proto == unix.IPPROTO_TCP && closing(flags):
		return bpf.TablesCtPhaseCT_PHASE_CLOSING
	case flags&abi.CCtFlagsCT_ASSURED != 0:
		return bpf.TablesCtPhaseCT_PHASE_ESTABLISHED
	case flags&abi.CCtFlagsCT_REPLIED != 0:
		return bpf.TablesCtPhaseCT_PHASE_REPLIED
	}
	return bpf.TablesCtPhaseCT_PHASE_NEW
}

func closing(flags abi.CCtFlags) bool {
	const both = abi.CCtFlagsCT_FIN_ORIGIN | abi.CCtFlagsCT_FIN_REPLY
	return flags&abi.CCtFlagsCT_RESET != 0 || flags&both == both
}

func timeoutOf(proto uint8, flags abi.CCtFlags) abi.CCtTimeout {
	service := flags&abi.CCtFlagsCT_SERVICE != 0
	switch {
	case proto != unix.IPPROTO_TCP && service:
		return abi.CCtTimeoutCT_TIMEOUT_SERVICE_ANY
	case proto != unix.IPPROTO_TCP:
		return abi.CCtTimeoutCT_TIMEOUT_ANY
	case closing(flags):
		return abi.CCtTimeoutCT_TIMEOUT_TCP_FIN
	case flags&abi.CCtFlagsCT_NON_SYN == 0:
		return abi.CCtTimeoutCT_TIMEOUT_TCP_SYN
	case service:
		return abi.CCtTimeoutCT_TIMEOUT_SERVICE_TCP
	}
	return abi.CCtTimeoutCT_TIMEOUT_TCP
}

// stateName gives a phase the name that operators see.
func stateName(phase bpf.TablesCtPhase) string {
	switch phase {
	case bpf.TablesCtPhaseCT_PHASE_REPLIED:
		return agentapi.CTStateReplied
	case bpf.TablesCtPhaseCT_PHASE_ESTABLISHED:
		return agentapi.CTStateEstablished
	case bpf.TablesCtPhaseCT_PHASE_CLOSING:
		return agentapi.CTStateClosing
	case bpf.TablesCtPhaseCT_PHASE_NEW:
	}
	return agentapi.CTStateNew
}

// flagNames leaves out CT_ORIGIN, which the order of the sides tells.
func flagNames(flags abi.CCtFlags) []string {
	var out []string
	for _, f := range []struct {
		flag abi.CCtFlags
		name string
	}{
		{abi.CCtFlagsCT_REPLIED, "replied"},
		{abi.CCtFlagsCT_ASSURED, "assured"},
		{abi.CCtFlagsCT_NON_SYN, "non-syn"},
		{abi.CCtFlagsCT_FIN_ORIGIN, "fin-origin"},
		{abi.CCtFlagsCT_FIN_REPLY, "fin-reply"},
		{abi.CCtFlagsCT_RESET, "reset"},
		{abi.CCtFlagsCT_AUDITED, "audited"},
		{abi.CCtFlagsCT_FROM_HOST, "from-host"},
		{abi.CCtFlagsCT_NAT, "translated"},
		{abi.CCtFlagsCT_SERVICE, "service"},
		{abi.CCtFlagsCT_DEAD, "dead"},
		{abi.CCtFlagsCT_MOVED, "moved"},
	} {
		if flags&f.flag != 0 {
			out = append(out, f.name)
		}
	}
	return out
}

func sideOf(key *abi.CCtKey, side int) netip.AddrPort {
	return netorder.HostAddrPort(key.Addr[side], key.Port[side])
}

// origin is the side that began the flow.
func origin(e *abi.CCtEntry) int { return int(e.State & uint64(abi.CCtFlagsCT_ORIGIN)) }

// idleOf returns for how many jiffies the entry saw no packet. A flow that begins
// again gets a new birth before it gets a new last, so both count.
func idleOf(c clock, e *abi.CCtEntry) uint32 {
	return min(c.since(e.Last), c.since(uint32(e.State>>32)))
}

// entry gives a record its form for people.
func entry(table string, c clock, settings *abi.CSettings, key *abi.CCtKey, e *abi.CCtEntry) agentapi.CTEntry {
	flags, from := abi.CCtFlags(e.State), origin(e)
	idle := idleOf(c, e)
	timeout := settings.Timeout[timeoutOf(key.Proto, flags)]
	out := agentapi.CTEntry{
		Proto: key.Proto, Table: table,
		Source: sideOf(key, from), Destination: sideOf(key, 1-from),
		State: stateName(phaseOf(key.Proto, flags)), Flags: flagNames(flags),
		// An entry grows older than the jiffies can tell; then its age begins anew.
		Age:            c.duration(int64(c.since(uint32(e.State >> 32)))),
		Idle:           c.duration(int64(idle)),
		Expires:        max(c.duration(int64(timeout)-int64(idle)), time.Duration(0)),
		SourceIdentity: e.Identity[from], DestinationIdentity: e.Identity[1-from],
		Epoch: e.Epoch,
	}
	if flags&abi.CCtFlagsCT_NAT == 0 {
		return out
	}
	side := 0
	if flags&abi.CCtFlagsCT_NAT_SIDE != 0 {
		side = 1
	}
	out.TranslatedFrom = sideOf(key, side)
	out.Service, out.Backend = e.Nat.Service, e.Nat.Backend
	for i := range out.Translated {
		out.Translated[i] = netorder.HostAddrPort(e.Nat.Addr[i], e.Nat.Port[i])
	}
	return out
}

// compile turns a filter into the form that the kernel compares with.
func compile(filter agentapi.CTFilter, pods Pods) (bpf.TablesCtFilter, error) {
	out := bpf.TablesCtFilter{Proto: filter.Proto, Port: netorder.Port(filter.Port)}
	if filter.Addr != (netip.Prefix{}) {
		if !filter.Addr.IsValid() {
			return out, fmt.Errorf("%w: the prefix is not valid", ErrBadFilter)
		}
		out.Net.B, out.Mask.B = prefixBytes(filter.Addr)
		if filter.Addr.Addr().Is6() && !filter.Addr.Addr().Is4In6() {
			out.Ipv6 = 1
		}
	}
	if filter.State != "" {
		phases := uint32(0)
		for p := bpf.TablesCtPhaseCT_PHASE_NEW; p <= bpf.TablesCtPhaseCT_PHASE_CLOSING; p++ {
			if stateName(p) == filter.State {
				phases |= 1 << p
			}
		}
		if phases == 0 {
			return out, fmt.Errorf("%w: no state is named %q: use one of %v", ErrBadFilter, filter.State, agentapi.CTStates())
		}
		out.Phases = phases
	}
	if filter.Pod == "" {
		return out, nil
	}
	addrs := pods.AddrsOf(filter.Pod)
	if len(addrs) == 0 {
		return out, fmt.Errorf("%w: %q", ErrUnknownPod, filter.Pod)
	}
	if len(addrs) > len(out.Pod) {
		return out, fmt.Errorf("%w: pod %q has %d addresses, and a filter takes %d: filter by address",
			ErrBadFilter, filter.Pod, len(addrs), len(out.Pod))
	}
	for i, a := range addrs {
		out.Pod[i].B = a.As16()
	}
	out.Pods = uint32(len(addrs))
	return out, nil
}

// mappedBits is the length of ::ffff:0:0/96, below which IPv4 lies.
const mappedBits = 96

func prefixBytes(p netip.Prefix) (net, mask [16]byte) {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += mappedBits
	}
	net = p.Masked().Addr().As16()
	for i := range mask {
		switch left := bits - 8*i; {
		case left >= 8:
			mask[i] = 0xff
		case left > 0:
			mask[i] = 0xff << (8 - left)
		}
	}
	return net, mask
}
