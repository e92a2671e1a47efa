package capacity

import (
	"math"

	"github.com/placid-net/placid/internal/sizing"
)

// Kind says what a need is of.
type Kind string

// The kinds of needs.
const (
	KindTable      Kind = "table"
	KindIdentities Kind = "identities"
	KindAddresses  Kind = "addresses"
	KindMemory     Kind = "memory"
)

// gauge is one need and its limit: of a table of one node, or of something else that
// runs out.
type gauge struct {
	kind Kind
	name string // e.g. "ct_tcp"
	node string // empty: of the cluster
	what string // the pod, or whatever it is of on the node
	key  string // of the configuration, that sets the size
	need func(scale) float64
	// size is what there is, limit what is refused beyond it: a table that tunes
	// itself, or whose size can be set, gets larger than its size. most is the largest
	// size that can be set; 0: it cannot be set.
	size, limit, most int
	exact             bool
	model             string // of an estimate
	full              string // what happens
	// table is how it is stored; bytes of a size and so many entries follow.
	table *sizing.Table
	// evicts tells that nothing is refused when it is full.
	evicts bool
}

// fill is how full it is, 1 being the limit.
func (g *gauge) fill(s scale) float64 {
	if g.limit == 0 {
		return 0
	}
	return g.need(s) / float64(g.limit)
}

// bytes is what the table takes with room for the need, or for its size if that is
// more.
func (g *gauge) bytes(s scale) uint64 {
	if g.table == nil {
		return 0
	}
	need := int(min(g.need(s), math.MaxInt32))
	return g.table.Bytes(max(g.size, need), need)
}

// searchSteps halves the distance often enough for four digits.
const searchSteps = 40

// limitAt finds how far the growth can come until a gauge is beyond its limit: 0 if
// it is already, +Inf if it never is. Needs never fall while the cluster grows.
func limitAt(g *gauge, d direction) float64 {
	over := func(t float64) bool { return g.need(d.at(t)) > float64(g.limit) }
	if g.limit == 0 {
		return math.Inf(1)
	}
	if over(0) {
		return 0
	}
	low, high := 0.0, 1.0/16
	for !over(high) {
		if low, high = high, high*2; high > maxFactor {
			return math.Inf(1)
		}
	}
	for range searchSteps {
		if mid := (low + high) / 2; over(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return low
}
