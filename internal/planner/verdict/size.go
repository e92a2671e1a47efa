package verdict

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// cost is what a set takes: entries as they are in Tables, and those of a policy
// map that masks ports.
type cost struct{ entries, masked int }

// size counts what the side's tables hold with the identities of real pods.
func (s *side) size(groups []peer) Size {
	weights := s.weights(groups)
	costs := map[policy.SetID]cost{}
	out := Size{Sets: len(s.tables.Sets)}
	for id, set := range s.tables.Sets {
		costs[id] = s.costOf(set, weights)
		out.Entries += costs[id].entries
	}
	nodes := map[string]map[policy.SetID]struct{}{}
	for i, g := range groups {
		under := s.tables.Endpoints[s.subjects[i]]
		masked := costs[under.Ingress].masked + costs[under.Egress].masked
		out.PodEntries += masked * len(g.pods)
		if masked > out.LargestPodEntries {
			out.LargestPodEntries, out.LargestPod = masked, g.Example
		}
		for _, p := range g.pods {
			node := s.cluster.Pods[p].Node
			if nodes[node] == nil {
				nodes[node] = map[policy.SetID]struct{}{}
			}
			nodes[node][under.Ingress], nodes[node][under.Egress] = struct{}{}, struct{}{}
		}
	}
	delete(nodes, "") // of pods that are on none yet
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		entries := 0
		for id := range nodes[node] {
			entries += costs[id].entries
		}
		if entries > out.NodeEntries {
			out.Node, out.NodeEntries = node, entries
		}
	}
	return out
}

// weights gives of how many real identities each of the engine's stands.
func (s *side) weights(groups []peer) map[uint32]int {
	real := map[uint32]map[int]struct{}{}
	for i, g := range groups {
		id := s.ids[i]
		if real[id] == nil {
			real[id] = map[int]struct{}{}
		}
		for _, p := range g.pods {
			real[id][s.Identities[p]] = struct{}{}
		}
	}
	out := make(map[uint32]int, len(real))
	for id, numbers := range real {
		out[id] = len(numbers)
	}
	return out
}

func (s *side) costOf(set *policy.Set, weights map[uint32]int) cost {
	var out cost
	for id, x := range set.Entries {
		weight := 1
		if k := keyOf(id); k.id >= state.IdentityMin {
			weight = cmp.Or(weights[k.id], 1)
		}
		out.entries += weight
		out.masked += weight * s.masks(x.Ports)
	}
	return out
}

// masks counts the entries that a list of ports takes where ports are masked.
func (s *side) masks(id policy.PortsID) int {
	if id == policy.PortsAll {
		return 1
	}
	n := 0
	for _, r := range s.tables.Ports[id] {
		n += prefixesIn(uint32(r.First), uint32(r.Last))
	}
	return n
}

// prefixesIn counts the prefixes of 16 bits that make up the numbers from first to
// last.
func prefixesIn(first, last uint32) int {
	n := 0
	for first <= last {
		size := uint32(1) << portBits
		if first > 0 {
			size = 1 << bits.TrailingZeros32(first)
		}
		for size > last-first+1 {
			size >>= 1
		}
		first += size
		n++
	}
	return n
}
