package loadbalance

import (
	"iter"
	"net/netip"
	"slices"
)

// addresses knows which addresses are those of Services and of no node.
type addresses struct {
	users map[netip.Addr]int // Services that have it
	nodes map[netip.Addr]struct{}
	told  map[netip.Addr]bool // whether those that may have changed were open at the last take
}

func newAddresses() addresses {
	return addresses{users: map[netip.Addr]int{}, nodes: map[netip.Addr]struct{}{}, told: map[netip.Addr]bool{}}
}

func (a *addresses) open(addr netip.Addr) bool {
	_, node := a.nodes[addr]
	return !node && a.users[addr] > 0
}

// remember keeps what an address is, before it changes.
func (a *addresses) remember(addr netip.Addr) {
	if _, known := a.told[addr]; !known {
		a.told[addr] = a.open(addr)
	}
}

func (a *addresses) add(addrs []netip.Addr) {
	for _, addr := range addrs {
		a.remember(addr)
		a.users[addr]++
	}
}

func (a *addresses) drop(addrs []netip.Addr) {
	for _, addr := range addrs {
		a.remember(addr)
		if a.users[addr]--; a.users[addr] == 0 {
			delete(a.users, addr)
		}
	}
}

func (a *addresses) setNodes(addrs iter.Seq[netip.Addr]) {
	now := map[netip.Addr]struct{}{}
	for addr := range addrs {
		now[addr] = struct{}{}
		if _, ok := a.nodes[addr]; !ok {
			a.remember(addr)
		}
	}
	for addr := range a.nodes {
		if _, ok := now[addr]; !ok {
			a.remember(addr)
		}
	}
	a.nodes = now
}

// take returns the addresses that became open and that are no more, both sorted.
func (a *addresses) take() (open, gone []netip.Addr) {
	for addr, was := range a.told {
		switch is := a.open(addr); {
		case is && !was:
			open = append(open, addr)
		case was && !is:
			gone = append(gone, addr)
		}
	}
	if len(a.told) > 0 {
		a.told = map[netip.Addr]bool{}
	}
	slices.SortFunc(open, netip.Addr.Compare)
	slices.SortFunc(gone, netip.Addr.Compare)
	return open, gone
}

func (a *addresses) list() []netip.Addr {
	out := make([]netip.Addr, 0, len(a.users))
	for addr := range a.users {
		if a.open(addr) {
			out = append(out, addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
