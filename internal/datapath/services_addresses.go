package datapath

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
)

// serviceAddresses are the addresses of services. Each is to have a row of its own,
// which closes the ports that no service has there.
type serviceAddresses struct {
	written, waiting map[netip.Addr]bool // whether the kernel has the row; none is in both
}

func newServiceAddresses() serviceAddresses {
	return serviceAddresses{map[netip.Addr]bool{}, map[netip.Addr]bool{}}
}

// add makes a one of them, and tells whether it was none.
func (s serviceAddresses) add(a netip.Addr) bool {
	if s.has(a) {
		return false
	}
	s.waiting[a] = true
	return true
}

func (s serviceAddresses) has(a netip.Addr) bool { return s.written[a] || s.waiting[a] }

// remove makes a none of them, and tells whether it has a row.
func (s serviceAddresses) remove(a netip.Addr) bool {
	had := s.written[a]
	delete(s.written, a)
	delete(s.waiting, a)
	return had
}

// wrote and lost say of one of them whether it has a row now.
func (s serviceAddresses) wrote(a netip.Addr) {
	delete(s.waiting, a)
	s.written[a] = true
}

func (s serviceAddresses) lost(a netip.Addr) {
	delete(s.written, a)
	s.waiting[a] = true
}

func (s serviceAddresses) all() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, set := range []map[netip.Addr]bool{s.written, s.waiting} {
			for a := range set {
				if !yield(a) {
					return
				}
			}
		}
	}
}

// withoutRow are those that have none, sorted.
func (s serviceAddresses) withoutRow() []netip.Addr {
	return slices.SortedFunc(maps.Keys(s.waiting), netip.Addr.Compare)
}
