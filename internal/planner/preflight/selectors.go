package preflight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/state"
)

// checkSelectors tells of selectors that select nobody now, or never can.
func (s *scene) checkSelectors() {
	for _, f := range identity.Unmatchable(s.filter, s.in.Policies) {
		p := s.byKey(f.Policy)
		message := f.Message
		if s.byIdentity {
			message = fmt.Sprintf("peers are selected by the label %q, which the filter (key labels) leaves out of identities, so that no pod seems to have it; "+
				"keep it in labels or select by another one", f.Key)
		}
		for _, field := range f.Fields {
			s.found(p, FilteredPeer, field, "%s", message)
		}
	}
	for _, p := range s.policies {
		s.checkSubject(p)
		for _, rules := range p.rules {
			for _, r := range rules {
				s.checkPeers(r)
			}
		}
	}
}

// byKey finds a policy; they are ordered by key.
func (s *scene) byKey(key string) *policyView {
	i, _ := slices.BinarySearchFunc(s.policies, key, func(p *policyView, key string) int { return strings.Compare(p.key, key) })
	return s.policies[i]
}

func (s *scene) checkSubject(p *policyView) {
	if s.hasNamespaces && p.Namespace != "" && !s.exists(p.Namespace) {
		s.found(p, NoNamespace, "metadata.namespace", "the namespace %s does not exist, so the policy selects nobody", p.Namespace)
		return
	}
	if s.byIdentity {
		if key := s.index.filtered(p.terms); key != "" {
			s.found(p, FilteredSubject, p.subjectField(), "pods are selected by the label %q, which the filter (key labels) leaves out of identities: "+
				"no pod seems to have it, and pods that the policy should protect may be open; keep it in labels or select by another one", plainKey(key))
			return
		}
	}
	if !s.hasPods || !p.subjects.empty() || refersToNothing(p.terms) {
		return
	}
	if missing := s.missingNamespaces(p.terms); len(missing) > 0 {
		s.found(p, NoNamespace, p.subjectField(), "%s", s.missingText(missing))
		return
	}
	own := slices.DeleteFunc(slices.Clone(p.terms), func(t term) bool { return t.key == namespaceName })
	if len(own) == 0 {
		s.add(Finding{
			Code: NoSubject, Severity: Note, Object: p.object, Origin: p.origin, Field: p.subjectField(),
			Message: fmt.Sprintf("the namespace %s has no pods that policies are about now, so the policy does nothing yet", p.Namespace),
		})
		return
	}
	s.found(p, NoSubject, p.subjectField(), "no pod%s has %s now, so the policy protects nobody; %s", where(p.Namespace), own.text(), s.nearest(own, p.Namespace))
}

// where says which pods are meant.
func where(namespace string) string {
	if namespace == "" {
		return ""
	}
	return " of namespace " + namespace
}

// refersToNothing tells whether a condition is on what no pod can have, which is
// told elsewhere.
func refersToNothing(t terms) bool {
	return slices.ContainsFunc(t, func(x term) bool { return strings.HasPrefix(x.key, "reserved:") })
}

func (s *scene) exists(namespace string) bool { _, ok := s.namespaces[namespace]; return ok }

// missingNamespaces gives the namespaces that conditions name and that do not exist,
// if none of those that a condition names does.
func (s *scene) missingNamespaces(t terms) []string {
	if !s.hasNamespaces {
		return nil
	}
	for _, x := range t {
		if x.op != state.OperatorIn || x.key != namespaceName && x.key != metadataName {
			continue
		}
		if !slices.ContainsFunc(x.values, s.exists) {
			return x.values
		}
	}
	return nil
}

func (s *scene) missingText(names []string) string {
	if len(names) == 1 {
		if meant := closest(names[0], slices.Sorted(maps.Keys(s.namespaces))); meant != "" {
			return fmt.Sprintf("the namespace %s does not exist; did you mean %s?", names[0], meant)
		}
		return fmt.Sprintf("the namespace %s does not exist; correct the name, or remove the selector", names[0])
	}
	return fmt.Sprintf("the namespaces %s do not exist; correct the names, or remove the selector", strings.Join(names, ", "))
}

// checkPeers tells of peers that select no pod.
func (s *scene) checkPeers(r *ruleView) {
	if !s.hasPods || r.refused {
		return
	}
	for i := range r.written.Peers {
		t, ok := peerTerms(r.policy.Namespace, &r.written.Peers[i])
		if !ok || s.index.filtered(t) != "" {
			continue
		}
		if missing := s.missingNamespaces(t); len(missing) > 0 && !slices.Equal(missing, []string{r.policy.Namespace}) {
			s.found(r.policy, NoNamespace, r.peerField(i), "%s", s.missingText(missing))
			continue
		}
		if !s.index.selected(t, s.peers.how).empty() {
			continue
		}
		s.noPeer(r, i, t)
	}
}

func (s *scene) noPeer(r *ruleView, i int, t terms) {
	namespace, one := t.single(namespaceName)
	own := t
	if one {
		own = slices.DeleteFunc(slices.Clone(t), func(x term) bool { return x.key == namespaceName })
	}
	if len(own) == 0 {
		s.add(Finding{
			Code: NoPeer, Severity: Note, Object: r.policy.object, Origin: r.policy.origin, Field: r.peerField(i),
			Message: fmt.Sprintf("the namespace %s has no pods now, so the peer is nobody", namespace),
		})
		return
	}
	s.found(r.policy, NoPeer, r.peerField(i), "no pod%s has %s now, so the peer is nobody; %s", where(namespace), own.text(), s.nearest(own, namespace))
}

// nearest gives advice: which of the conditions nobody fulfils of those who fulfil
// the others, and what was probably meant.
func (s *scene) nearest(t terms, namespace string) string {
	all := t
	if namespace != "" {
		all = append(slices.Clone(t), inNamespace(namespace)).canonical()
	}
	for _, x := range t {
		others := slices.DeleteFunc(slices.Clone(all), func(y term) bool { return x.compare(y) == 0 })
		if x.op != state.OperatorIn || len(x.values) == 0 {
			continue
		}
		values := s.valuesOf(x.key, others)
		if len(values) == 0 {
			continue
		}
		if meant := closest(x.values[0], values); meant != "" {
			return fmt.Sprintf("did you mean %s=%s?", plainKey(x.key), meant)
		}
		text := fmt.Sprintf("%s is %s there", plainKey(x.key), strings.Join(values[:min(len(values), shownValues)], ", "))
		if more := len(values) - shownValues; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		return text
	}
	for _, x := range t {
		if s.index.selected(terms{x}, s.peers.how).empty() && (x.op == state.OperatorIn || x.op == state.OperatorExists) {
			return fmt.Sprintf("no pod of the cluster has %s", x.text())
		}
	}
	return "some pods have each of that, and none has all"
}

// shownValues is how many values of a label a message lists.
const shownValues = 5

// valuesOf lists the values that a label has among the pods that fulfil conditions.
func (s *scene) valuesOf(key string, t terms) []string {
	seen := map[string]bool{}
	for i := range s.index.selected(t, s.peers.how).all() {
		if value, ok := s.index.groups[i].labels[key]; ok {
			seen[value] = true
		}
	}
	return sortedKeys(seen)
}
