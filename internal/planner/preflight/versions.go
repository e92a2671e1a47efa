package preflight

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// ErrVersion is a text that is no version.
var ErrVersion = errors.New("not a version")

// Version is a minor version, as 1.20. The zero Version is none.
type Version struct{ Major, Minor int }

// ParseVersion reads "1.20", "v1.20" or "1.20.3", of which the last part does not
// count. The error is ErrVersion.
func ParseVersion(text string) (Version, error) {
	parts := strings.Split(strings.TrimPrefix(text, "v"), ".")
	if len(parts) < 2 || len(parts) > 3 {
		return Version{}, fmt.Errorf("%q is %w: want e.g. 1.20", text, ErrVersion)
	}
	var numbers [3]int
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil && i < 2 {
			return Version{}, fmt.Errorf("%q is %w: want e.g. 1.20", text, ErrVersion)
		}
		numbers[i] = int(n)
	}
	return Version{numbers[0], numbers[1]}, nil
}

// String gives e.g. "1.20".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

func (v Version) compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Major, o.Major), cmp.Compare(v.Minor, o.Minor))
}

// change is something that means something else since a version of Cilium.
type change struct {
	since  Version
	source string
	what   string
	// find gives the places that it concerns; nil where there are none.
	find func(*scene) []Finding
}

// changes are those that are known, in the order of their versions.
func changes() []change {
	return []change{
		{
			Version{1, 19},
			"github.com/cilium/cilium/pull/42615 and 43167",
			"fromRequires and toRequires are no longer enforced, and the API server refuses them: peers are no longer required to have these labels", findRequires,
		},
		{
			Version{1, 20},
			"github.com/cilium/cilium/pull/45760 and 46520",
			"named ports of pods become part of identities", findNamedPorts,
		},
		{
			Version{1, 20},
			"github.com/cilium/cilium/pull/45357",
			"'preflight validate-cnp' of Cilium does not warn any more of a CiliumNetworkPolicy that selects reserved:init; only a clusterwide one selects pods that have no identity yet", findInit,
		},
		{
			Version{1, 20},
			"pkg/k8s/apis/cilium.io/v2/validator of Cilium 1.20",
			"a description beside spec fails 'preflight validate-cnp', as any unknown field does: write it as spec.description", findDescription,
		},
	}
}

// checkTarget tells what means something else in the version to come.
func (s *scene) checkTarget() {
	target := s.options.Target
	if target == (Version{}) {
		return
	}
	if s.options.For == snapshot.Placid {
		s.add(Finding{Code: NothingChanges, Message: fmt.Sprintf("Placid %s: no version of Placid changes what policies mean yet (for a version of Cilium say --for cilium)", target)})
		return
	}
	found, known := 0, 0
	for _, c := range changes() {
		if c.since.compare(target) > 0 {
			continue
		}
		known++
		for _, f := range c.find(s) {
			text := fmt.Sprintf("from Cilium %s on, %s", c.since, c.what)
			if f.Message != "" {
				text += ": " + f.Message
			}
			f.Code, f.Message = ChangesMeaning, text+" ("+c.source+")"
			s.add(f)
			found++
		}
	}
	if found == 0 {
		s.add(Finding{Code: NothingChanges, Message: fmt.Sprintf("Cilium %s: of %s that %s known up to it, none concerns this cluster", target, plural(known, "change"), isAre(known))})
	}
}

// findRequires finds the fields that require peers to have labels.
func findRequires(s *scene) []Finding {
	var out []Finding
	for _, p := range s.policies {
		for _, sentence := range p.Unsupported {
			if field, _ := splitSentence(sentence); strings.HasSuffix(field, "Requires") {
				out = append(out, Finding{Object: p.object, Origin: p.origin, Field: field})
			}
		}
	}
	return out
}

// findNamedPorts counts the identities that named ports make more of.
func findNamedPorts(s *scene) []Finding {
	now, then := map[string]bool{}, map[string]bool{}
	more := map[string]int{} // by namespace
	cluster := cmp.Or(s.in.ClusterName, "default")
	for i := range s.in.Pods {
		p := &s.in.Pods[i]
		if p.HostNetwork {
			continue
		}
		labels, ports := identity.Of(p.Pod, s.namespaces[p.Ref.Namespace], cluster, s.filter)
		without, with := identity.Key(labels, nil), identity.Key(labels, ports)
		if !now[without] {
			now[without] = true
			more[p.Ref.Namespace]--
		}
		if !then[with] {
			then[with] = true
			more[p.Ref.Namespace]++
		}
	}
	if len(then) == len(now) {
		return nil
	}
	var where []string
	for _, namespace := range slices.Sorted(maps.Keys(more)) {
		if n := more[namespace]; n > 0 {
			where = append(where, fmt.Sprintf("%d in %s", n, namespace))
		}
	}
	return []Finding{{Message: fmt.Sprintf("%s now, and %d once the pods are made anew (more: %s)", plural(len(now), "identity"), len(then), names(where))}}
}

// findInit finds policies of a namespace that select pods without an identity.
func findInit(s *scene) []Finding {
	var out []Finding
	for _, p := range s.policies {
		if p.Kind == state.PolicyCilium && slices.ContainsFunc(p.terms, func(t term) bool { return t.key == "reserved:init" }) {
			out = append(out, Finding{Object: p.object, Origin: p.origin, Field: p.subjectField()})
		}
	}
	return out
}

// findDescription finds policies that have a description beside their spec.
func findDescription(s *scene) []Finding {
	var out []Finding
	for _, p := range s.in.Problems {
		if p.Field == "description" && isPolicy(p.Object.Kind) {
			out = append(out, Finding{Object: Object(p.Object), Origin: p.Origin, Field: p.Field})
		}
	}
	return out
}
