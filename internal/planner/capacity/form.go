package capacity

import "math"

// dim is one way in which a need grows. A cluster as it is has 1 of each,
// unless it says otherwise.
type dim uint

const (
	byPods       dim = iota // pods of a group
	byNodes                 // nodes
	byServices              // Services
	byPolicies              // policies
	byNamespaces            // copies of a namespace
	byFixedHere             // pods of one node, in namespaces that are not copied
	byClonedHere            // pods of one node, in namespaces that are
	bySetsHere              // copies of a namespace that have pods on one node
	byNewNodes              // 0 as long as there are no other nodes, then 1
	byNewPods               // 0 as long as there are no other pods on other nodes, then 1
	dims
)

// scale is how many times as many of each there are.
type scale [dims]float64

// newScale derives what is on one node: new pods go to new nodes as long as those
// have fewer, so that the fullest node is an old one, or one like any other.
func newScale(pods, nodes, services, policies, namespaces float64) scale {
	s := scale{byPods: pods, byNodes: nodes, byServices: services, byPolicies: policies, byNamespaces: namespaces}
	s[byFixedHere] = max(1, pods/nodes)
	s[byClonedHere] = max(1, pods*namespaces/nodes)
	s[bySetsHere] = min(namespaces, s[byClonedHere])
	if nodes > 1 {
		s[byNewNodes] = 1
		if pods > 1 {
			s[byNewPods] = 1
		}
	}
	return s
}

// asItIs is a cluster that does not grow.
func asItIs() scale { return newScale(1, 1, 1, 1, 1) }

// form is a need as a sum of products: for each set of dims, given as bits, its
// coefficient.
type form map[uint]float64

func bits(of ...dim) uint {
	mask := uint(0)
	for _, d := range of {
		mask |= 1 << d
	}
	return mask
}

// add adds n times the product of the dims.
func (f form) add(n float64, of ...dim) { f[bits(of...)] += n }

// join adds times as much of another form, multiplied by the dims.
func (f form) join(o form, times float64, by ...dim) {
	for mask, n := range o {
		f[mask|bits(by...)] += n * times
	}
}

// at gives the need at a scale, rounded up to whole entries.
func (f form) at(s scale) float64 {
	sum := 0.0
	for mask, n := range f {
		for d := range dims {
			if mask&(1<<d) != 0 {
				n *= s[d]
			}
		}
		sum += n
	}
	return math.Ceil(sum - 1e-6)
}
