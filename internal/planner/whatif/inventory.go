package whatif

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// inventory is all labels of all pods, as numbers: identities are counted many
// times, under many filters.
type inventory struct {
	// names are those of labels, "k8s:app", sorted. The number after the last stands
	// for what is no label: the named ports.
	names []string
	// pods are the labels and named ports of each pod; nil for a pod that has no
	// network of its own. Pods that are alike share a list.
	pods [][]label
	// kinds are the different ones of pods.
	kinds [][]label
	of    []int // of pods: the index in kinds, or noIdentity
}

// label is the number of a name, and of one of its values.
type label struct{ name, value int32 }

// noIdentity is the identity of a pod without a network of its own.
const noIdentity = -1

// newInventory reads the pods.
func newInventory(s *snapshot.Snapshot, cluster string) *inventory {
	namespaces := map[string]state.Namespace{}
	for _, ns := range s.Namespaces {
		namespaces[ns.Name] = ns
	}
	all := make([]map[string]string, len(s.Pods))
	names := map[string]int32{}
	for i, p := range s.Pods {
		if p.HostNetwork {
			continue
		}
		all[i] = identity.PodLabels(p.Pod, namespaces[p.Ref.Namespace], cluster)
		for name := range all[i] {
			names[name] = 0
		}
	}
	inv := &inventory{names: slices.Sorted(maps.Keys(names)), pods: make([][]label, len(s.Pods)), of: make([]int, len(s.Pods))}
	for i, name := range inv.names {
		names[name] = int32(i)
	}
	values, kinds := map[string]int32{}, map[string]int{}
	for i, p := range s.Pods {
		inv.of[i] = noIdentity
		if all[i] == nil {
			continue
		}
		list := make([]label, 0, len(all[i])+1)
		for name, value := range all[i] {
			list = append(list, label{names[name], number(values, value)})
		}
		if len(p.NamedPorts) > 0 {
			list = append(list, label{int32(len(names)), number(values, identity.Key(nil, p.NamedPorts))})
		}
		slices.SortFunc(list, func(a, b label) int { return int(a.name) - int(b.name) })
		n := number(kinds, text(list, nil))
		if n == len(inv.kinds) {
			inv.kinds = append(inv.kinds, list)
		}
		inv.pods[i], inv.of[i] = inv.kinds[n], n
	}
	return inv
}

// number gives the number of a text, in the order in which they came.
func number[T int | int32](known map[string]T, text string) T {
	n, ok := known[text]
	if !ok {
		n = T(len(known))
		known[text] = n
	}
	return n
}

// text is the same for the same kept labels; a nil keep keeps all.
func text(list []label, keep []bool) string {
	b := make([]byte, 0, 8*len(list))
	for _, l := range list {
		if keep == nil || keep[l.name] {
			b = binary.LittleEndian.AppendUint32(b, uint32(l.name))
			b = binary.LittleEndian.AppendUint32(b, uint32(l.value))
		}
	}
	return string(b)
}

// kept tells of every name whether a filter keeps it, and then whether named ports
// are part of identities.
func (inv *inventory) kept(f identity.Filter, namedPorts bool) []bool {
	keep := make([]bool, len(inv.names)+1)
	keep[len(inv.names)] = namedPorts
	for i, name := range inv.names {
		source, key, _ := strings.Cut(name, ":")
		keep[i] = f.Keep(source, key)
	}
	return keep
}

// identities gives numbers to the identities of all pods.
func (inv *inventory) identities(keep []bool) (ofPods []int, count int) {
	numbers := map[string]int{}
	ofKinds := make([]int, len(inv.kinds))
	for i, list := range inv.kinds {
		ofKinds[i] = number(numbers, text(list, keep))
	}
	ofPods = make([]int, len(inv.pods))
	for i, kind := range inv.of {
		ofPods[i] = noIdentity
		if kind != noIdentity {
			ofPods[i] = ofKinds[kind]
		}
	}
	return ofPods, len(numbers)
}

// count counts identities.
func (inv *inventory) count(keep []bool) int {
	seen := make(map[string]struct{}, len(inv.kinds))
	for _, list := range inv.kinds {
		seen[text(list, keep)] = struct{}{}
	}
	return len(seen)
}

// moved tells which pods get another identity: those that do not have the same
// labels under both filters.
func (inv *inventory) moved(before, after []bool) []bool {
	kinds := make([]bool, len(inv.kinds))
	for i, list := range inv.kinds {
		kinds[i] = text(list, before) != text(list, after)
	}
	out := make([]bool, len(inv.pods))
	for i, kind := range inv.of {
		out[i] = kind != noIdentity && kinds[kind]
	}
	return out
}

// only counts the identities of the first set of labels that are not in the
// second.
func (inv *inventory) only(of, without []bool) int {
	there, seen := map[string]struct{}{}, map[string]struct{}{}
	for _, list := range inv.kinds {
		there[text(list, without)] = struct{}{}
	}
	for _, list := range inv.kinds {
		if key := text(list, of); !contains(there, key) {
			seen[key] = struct{}{}
		}
	}
	return len(seen)
}

func contains(set map[string]struct{}, key string) bool {
	_, ok := set[key]
	return ok
}
