package ipam

import (
	"net/netip"
	"slices"
	"time"
)

// parked holds the addresses that were given back, oldest first. One whose time
// is not over is quarantined; the others wait to be used again.
type parked struct {
	addrs map[netip.Addr]parkedAddr
	// queue is sorted by until, then by turn. An entry that differs from the
	// map is stale (the address was taken, or parked again) and is skipped.
	queue []parkedAddr
	turns uint64
}

type parkedAddr struct {
	addr  netip.Addr
	until time.Time
	turn  uint64
}

// add parks a until the given time.
func (p *parked) add(a netip.Addr, until time.Time) {
	p.turns++
	e := parkedAddr{a, until, p.turns}
	p.addrs[a] = e
	if n := len(p.queue); n == 0 || !until.Before(p.queue[n-1].until) {
		p.queue = append(p.queue, e)
	} else {
		i, _ := slices.BinarySearchFunc(p.queue, until, func(e parkedAddr, t time.Time) int {
			if e.until.After(t) {
				return 1
			}
			return -1 // behind its equals: first in, first out
		})
		p.queue = slices.Insert(p.queue, i, e)
	}
	if len(p.queue) > 2*len(p.addrs)+64 {
		p.queue = slices.DeleteFunc(p.queue, p.stale)
	}
}

// remove takes a out; its queue entry becomes stale.
func (p *parked) remove(a netip.Addr) { delete(p.addrs, a) }

// oldest returns the first address that usable accepts and when its rest ends.
// What is stale, and what is rested but not usable, is dropped on the way.
func (p *parked) oldest(now time.Time, usable func(netip.Addr) bool) (e parkedAddr, ok bool) {
	dead := 0 // leading entries that are no longer wanted
	for i, q := range p.queue {
		if !p.stale(q) {
			if usable(q.addr) {
				e, ok = q, true
				break
			}
			if q.until.After(now) {
				continue // its CIDR may come back before it has rested
			}
			delete(p.addrs, q.addr)
		}
		if i == dead {
			dead++
		}
	}
	p.queue = p.queue[dead:]
	return e, ok
}

// prune forgets the addresses that are rested and not usable.
func (p *parked) prune(now time.Time, usable func(netip.Addr) bool) {
	p.queue = slices.DeleteFunc(p.queue, func(e parkedAddr) bool {
		if p.stale(e) {
			return true
		}
		if e.until.After(now) || usable(e.addr) {
			return false
		}
		delete(p.addrs, e.addr)
		return true
	})
}

func (p *parked) stale(e parkedAddr) bool {
	current, ok := p.addrs[e.addr]
	return !ok || current.turn != e.turn
}
