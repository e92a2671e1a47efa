package whatif

import (
	"cmp"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
)

// manyValues is from how many values on a label of the pods of one namespace is
// named as one that differs from pod to pod, when it has one for every other pod.
const manyValues = 16

// Key is a label and how many identities it causes.
type Key struct {
	Key    string `json:"key"` // as in an identity, without the source k8s
	Pods   int    `json:"pods"`
	Values int    `json:"values"`
	// Kept and KeptThen tell whether it is part of identities, now and then.
	Kept     bool `json:"kept"`
	KeptThen bool `json:"keptThen"`
	// Without is how many identities there would be without it, Causes how many
	// fewer that is: of those that there are now, or then if it is kept only then.
	// Both are of no meaning for a label that neither filter keeps.
	Without int `json:"without"`
	Causes  int `json:"causes"`
	// Alone is how many identities it would make beside namespace, service account
	// and cluster.
	Alone int `json:"alone"`
	// Policies is how many policies select on it.
	Policies int `json:"policies"`
}

// Varying is a label that differs from pod to pod in a namespace: of those where it
// does the one with most values.
type Varying struct {
	Key       string `json:"key"`
	Namespace string `json:"namespace"`
	Values    int    `json:"values"`
	Pods      int    `json:"pods"` // of the namespace, that have it
	Kept      bool   `json:"kept"`
	KeptThen  bool   `json:"keptThen"`
}

// shortName gives a label's key without the source.
func shortName(name string) string { return strings.TrimPrefix(name, identity.SourceKubernetes+":") }

// isPlace tells whether a label says where a pod belongs: every filter keeps it.
func isPlace(name string) bool {
	switch shortName(name) {
	case identity.NamespaceKey, identity.ServiceAccountKey, identity.ClusterKey:
		return true
	}
	return false
}

// keys ranks the labels, those first that cause most identities. Where a pod
// belongs is left out.
func (inv *inventory) keys(now, then []bool, uses map[string]map[string]struct{}) []Key {
	pods, values := make([]int, len(inv.names)), make([]map[int32]struct{}, len(inv.names))
	for _, list := range inv.pods {
		for _, l := range list {
			if int(l.name) == len(inv.names) { // named ports
				continue
			}
			pods[l.name]++
			if values[l.name] == nil {
				values[l.name] = map[int32]struct{}{}
			}
			values[l.name][l.value] = struct{}{}
		}
	}
	totals := map[bool]int{true: inv.count(now), false: inv.count(then)}
	place := make([]bool, len(inv.names)+1)
	for i, name := range inv.names {
		place[i] = isPlace(name)
	}
	var out []Key
	for i, name := range inv.names {
		if place[i] {
			continue
		}
		k := Key{Key: shortName(name), Pods: pods[i], Values: len(values[i]), Kept: now[i], KeptThen: then[i], Policies: len(uses[name])}
		k.Alone = inv.count(with(place, i, true))
		switch {
		case k.Kept:
			k.Without = inv.count(with(now, i, false))
		case k.KeptThen:
			k.Without = inv.count(with(then, i, false))
		}
		if k.Kept || k.KeptThen {
			k.Causes = totals[k.Kept] - k.Without
		}
		out = append(out, k)
	}
	slices.SortStableFunc(out, func(a, b Key) int {
		return cmp.Or(cmp.Compare(b.Causes, a.Causes), cmp.Compare(b.Alone, a.Alone))
	})
	return out
}

// with gives keep with another answer for one name.
func with(keep []bool, name int, kept bool) []bool {
	out := slices.Clone(keep)
	out[name] = kept
	return out
}

// varying names the labels of pods that differ from pod to pod, most values first.
func (inv *inventory) varying(s *snapshot.Snapshot, now, then []bool) []Varying {
	type place struct {
		namespace string
		name      int32
	}
	pods, values := map[place]int{}, map[place]map[int32]struct{}{}
	for i, list := range inv.pods {
		for _, l := range list {
			if int(l.name) == len(inv.names) || strings.HasPrefix(shortName(inv.names[l.name]), identity.NamespaceLabelPrefix) || isPlace(inv.names[l.name]) {
				continue
			}
			at := place{s.Pods[i].Ref.Namespace, l.name}
			pods[at]++
			if values[at] == nil {
				values[at] = map[int32]struct{}{}
			}
			values[at][l.value] = struct{}{}
		}
	}
	worst := map[int32]Varying{}
	for at, v := range values {
		if len(v) < manyValues || 2*len(v) < pods[at] {
			continue
		}
		x, known := worst[at.name]
		if !known || len(v) > x.Values || len(v) == x.Values && at.namespace < x.Namespace {
			worst[at.name] = Varying{shortName(inv.names[at.name]), at.namespace, len(v), pods[at], now[at.name], then[at.name]}
		}
	}
	out := make([]Varying, 0, len(worst))
	for _, x := range worst {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Varying) int { return cmp.Or(cmp.Compare(b.Values, a.Values), cmp.Compare(a.Key, b.Key)) })
	return out
}
