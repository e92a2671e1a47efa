package conntrack

import (
	"cmp"
	"context"
	"math"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// Sources is what masqueraded flows get: an address of each family at most, and
// so many ports of it towards each destination.
type Sources struct {
	Addrs []netip.Addr
	Ports int
}

// Fill is how many source ports masqueraded flows take towards a destination.
type Fill struct {
	Destination netip.AddrPort // the port is 0 where the protocol has none
	Proto       uint8
	Used        int
}

const (
	// fullestShown is how many destinations a pass names.
	fullestShown = 10
	// destinationsKnown is how many it tells apart.
	destinationsKnown = 1 << 14
)

// destination is one that source ports are counted for.
type destination struct {
	addr  abi.CAddr
	port  uint16 // as it is on the wire
	proto uint8
}

// fills counts flows by destination, in a bounded memory: with more destinations
// than limit each count may be too low by at most the number of flows divided by
// limit. It is the summary of J. Misra and D. Gries, "Finding repeated elements",
// 1982.
type fills struct {
	limit int
	used  map[destination]int
}

func (f *fills) add(d destination) {
	if n, ok := f.used[d]; ok || len(f.used) < f.limit {
		f.used[d] = n + 1
		return
	}
	for other, n := range f.used {
		if n == 1 {
			delete(f.used, other)
		} else {
			f.used[other] = n - 1
		}
	}
}

// fullest returns the n that are used most, the fullest first.
func (f *fills) fullest(n int) []Fill {
	out := make([]Fill, 0, len(f.used))
	for d, used := range f.used {
		out = append(out, Fill{Destination: netorder.HostAddrPort(d.addr, d.port), Proto: d.proto, Used: used})
	}
	slices.SortFunc(out, func(a, b Fill) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), a.Destination.Compare(b.Destination), cmp.Compare(a.Proto, b.Proto))
	})
	return slices.Clone(out[:min(n, len(out))])
}

// masqueraded returns where a flow goes whose client has another address there.
// Of its two entries that is the one whose answers are translated; the client's
// own end is in it.
func masqueraded(key *abi.CCtKey, e *abi.CCtEntry) (destination, bool) {
	flags, from := abi.CCtFlags(e.State), origin(e)
	answers := (flags&abi.CCtFlagsCT_NAT_SIDE != 0) != (from == 1)
	if flags&abi.CCtFlagsCT_NAT == 0 || !answers || key.Addr[from] == e.Nat.Addr[1] {
		return destination{}, false
	}
	return destination{key.Addr[1-from], key.Port[1-from], key.Proto}, true
}

// portsLocked returns the program that lists masqueraded flows, loaded at the
// first call; nil where there are none. passes is held.
func (c *Collector) portsLocked() (*program, error) {
	if c.ports != nil || c.cfg.Sources.Ports == 0 || len(c.cfg.Sources.Addrs) == 0 {
		return c.ports, nil
	}
	spec, err := loadSpec(dumpStride)
	if err != nil {
		return nil, err
	}
	c.ports, err = load(bpf.TablesProgCtDump, spec, map[string]*ebpf.Map{bpf.TablesMapSettingsMap: c.cfg.Tables.Settings})
	return c.ports, err
}

// countPorts finds the destinations that masqueraded flows take most source ports
// towards.
func (c *Collector) countPorts(ctx context.Context, p *program, pace pace) ([]Fill, error) {
	var filter bpf.TablesCtFilter
	for i, a := range c.cfg.Sources.Addrs[:min(len(c.cfg.Sources.Addrs), len(filter.Pod))] {
		filter.Pod[i].B = a.As16()
		filter.Pods++
	}
	if err := p.prepareDump(filter, math.MaxUint64); err != nil {
		return nil, err
	}
	counted := fills{limit: destinationsKnown, used: map[destination]int{}}
	for _, o := range c.cfg.Tables.outers() {
		err := dumpTables(ctx, p, o, pace, func(r record) {
			if d, ok := masqueraded(r.key, r.entry); ok {
				counted.add(d)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return counted.fullest(fullestShown), nil
}
