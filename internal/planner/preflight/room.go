package preflight

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/capacity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// littleRoom is how full a table is when that is told.
const littleRoom = 0.9

// maxJudged is for how many pods times policies the entries of policies are counted:
// that takes a second or two.
const maxJudged = 2_000_000

// checkRoom tells of tables and limits that what there is fills. What is estimated
// from rates of connections is not judged.
func (s *scene) checkRoom() {
	s.checkSets()
	in := *s.in
	if len(in.Pods)*len(in.Policies) > maxJudged {
		in.Policies = nil
		s.add(Finding{Code: RoomNotKnown, Severity: Note, Message: fmt.Sprintf(
			"with %s and %s, the room in the tables of policies is not told here: 'placid plan' tells it", plural(len(in.Pods), "pod"), plural(len(s.in.Policies), "policy"))})
	}
	plan, err := capacity.Plan(&in, capacity.Options{For: s.options.For})
	switch {
	case errors.Is(err, capacity.ErrNoNodes):
		s.add(Finding{Code: NotGiven, Message: "there are no nodes in the input, so it is not checked whether everything fits into their tables; give those too"})
		return
	case err != nil:
		s.add(Finding{Code: RoomNotKnown, Message: err.Error()})
		return
	}
	for _, t := range plan.Tables {
		if !t.Exact || t.Limit == 0 {
			continue
		}
		f := Finding{Field: t.Key}
		if t.Node != "" {
			f.Object = Object{Kind: "Node", Name: t.Node}
			f.Origin = s.in.Origins[snapshot.Object(f.Object)]
		}
		what := fmt.Sprintf("%s of %s: %d of %d", t.Name, t.Where(), t.Now, t.Limit)
		switch fill := t.Fill(t.Now); {
		case fill > 1:
			f.Code, f.Message = NoRoom, what+" do not fit; "+t.Full+s.raise(t.Key)
		case fill > littleRoom:
			f.Code, f.Message = LittleRoom, what+" are in use; when it is full: "+t.Full+s.raise(t.Key)
		default:
			continue
		}
		s.add(f)
	}
}

func (s *scene) raise(key string) string {
	if key == "" {
		return ""
	}
	return "; raise " + key
}

// checkSets tells of policies whose rules together are more than the datapath takes
// for one pod.
func (s *scene) checkSets() {
	if s.byIdentity || !s.hasPods {
		return
	}
	e := policy.NewEngine(policy.Config{
		PodLabelKnown: s.filter.KeepPodLabel, NamespaceLabelKnown: s.filter.KeepNamespaceLabel,
		DerivedLabelKnown: func(key string) bool { return s.filter.Keep(identity.SourceKubernetes, key) },
	})
	for _, p := range s.policies {
		e.SetPolicy(*p.resolved)
	}
	for i, g := range s.index.groups {
		own, derived := map[string]string{}, map[string]string{}
		for key, value := range g.labels {
			name, _ := strings.CutPrefix(key, podPrefix)
			if key == namespaceName || strings.HasPrefix(key, podPrefix+"io.cilium.k8s.") {
				derived[key] = value
			} else {
				own[name] = value
			}
		}
		e.SetIdentity(state.Identity{ID: state.IdentityMin + uint32(i), Labels: s.filter.Apply(g.labels), NamedPorts: named(g.ports)})
		e.SetSubject(policy.Subject{Endpoint: uint32(i) + 1, Pod: g.example, Labels: own, Derived: derived, NamedPorts: named(g.ports)})
	}
	refusals := e.Refusals()
	for _, id := range slices.Sorted(maps.Keys(refusals)) {
		refusal := refusals[id]
		for _, key := range slices.Compact(slices.Sorted(slices.Values(refusal.Names))) {
			s.found(s.byKey(key), NoRoom, "", "the rules of the policies that select the same pods (%s) do not fit together: %s", names(refusal.Names), refusal.Reason)
		}
	}
}

func named(ports []state.NamedPort) []state.NamedPort {
	return slices.DeleteFunc(slices.Clone(ports), func(p state.NamedPort) bool { return p.Name == "" })
}
