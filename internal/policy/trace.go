package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// ErrUnknownPod says that an Engine has neither the subject nor the identity that
// it is asked about.
var ErrUnknownPod = errors.New("pod is not known here")

// TraceQuery is a Query about a pod of any node.
type TraceQuery struct {
	// Query has Endpoint 0 for a pod of another node.
	Query
	// Subject is the identity of the pod that is judged, for a pod of another node.
	Subject uint32
}

// Trace explains the verdict of one direction.
type Trace struct {
	Allowed bool
	// Audited is true when it is allowed only because a drop is counted instead.
	Audited bool
	// Rules are all that allow it, Denied all that deny it, Isolated the policies
	// that isolate the pod in this direction.
	Rules    []RuleRef
	Denied   []RuleRef
	Isolated []string
	// Unsure are policies that may select the pod too: they select it by labels
	// that identities do not have, and of this pod nothing else is known.
	Unsure []string
	Reason string // one sentence
}

// Trace judges a flow by the policies and says why. For a pod of this node whose
// set is refused it judges by the set in force. The error is ErrUnknownPod.
func (e *Engine) Trace(q TraceQuery) (Trace, error) {
	e.settle()
	if s := e.subjects[q.Endpoint]; s != nil {
		return e.traceSubject(s, q), nil
	}
	id := e.identities[q.Subject]
	if q.Endpoint != 0 || id == nil {
		return Trace{}, fmt.Errorf("trace endpoint %d, identity %d: %w", q.Endpoint, q.Subject, ErrUnknownPod)
	}
	selecting, unsure := e.policiesOf(id)
	t := e.traceRules(selecting, id.NamedPorts, q)
	t.Unsure = unsure
	if len(unsure) > 0 {
		t.Reason += "; " + strings.Join(unsure, ", ") + " may select the pod too, by labels that are not part of identities"
	}
	return t, nil
}

func (q TraceQuery) direction() direction {
	if q.Egress {
		return egress
	}
	return ingress
}

// traceSubject traces for a pod of this node.
func (e *Engine) traceSubject(s *subject, q TraceQuery) Trace {
	d := q.direction()
	if d == ingress && q.Identity == state.IdentityHost {
		return Trace{Allowed: true, Reason: "a node always reaches its own pods"}
	}
	r := s.refusals[d]
	if r == nil {
		return e.traceRules(s.policies, s.NamedPorts, q)
	}
	_, _, audit := e.isolating(s.policies, d)
	t := Trace{Isolated: slices.Clone(r.content.names), Reason: "the set that its policies make does not fit (" + r.reason + "), and "}
	c := s.bound[d]
	if c == nil {
		t.Reason += "nothing is allowed until it does"
		return t.judged(audit)
	}
	t.Isolated = slices.Clone(c.names)
	for _, l := range c.lines {
		if e.meets(l.peer, q) && l.ports.resolved(e.peerPorts(l.peer, q)).allows(q.Protocol, q.Port) {
			t.Rules = append(t.Rules, l.refs...)
		}
	}
	slices.SortFunc(t.Rules, compareRefs)
	t.Rules = slices.Compact(t.Rules)
	t.Reason += "the set that was in force before it stays"
	return t.judged(audit)
}

// judged fills the verdict.
func (t Trace) judged(audit bool) Trace {
	t.Allowed = len(t.Rules) > 0 || audit
	t.Audited = len(t.Rules) == 0 && audit
	return t
}

// traceRules judges by the rules of policies that select the pod.
func (e *Engine) traceRules(selecting group[*compiled], named []state.NamedPort, q TraceQuery) Trace {
	d := q.direction()
	policies, isolated, audit := e.isolating(selecting, d)
	if !isolated {
		t := Trace{Allowed: true, Reason: fmt.Sprintf("no policy isolates the pod for %s", d)}
		if e.cfg.Mode == ModeNever {
			t.Reason = "policies are not enforced (enable-policy: never)"
		}
		return t
	}
	var t Trace
	rules := 0
	for _, p := range policies {
		t.Isolated = append(t.Isolated, p.spec.Key())
		rules += len(p.rules[d])
		for i, r := range p.rules[d] {
			if e.ruleAllows(r, named, q) {
				t.Rules = append(t.Rules, RuleRef{Policy: p.spec.Key(), Index: i})
			}
		}
	}
	t = t.judged(audit)
	t.Reason = t.reason(d, rules)
	if id := q.Identity; id >= state.IdentityMin && e.identities[id] == nil {
		t.Reason += fmt.Sprintf("; identity %d of the peer is not known here, so no selector matches it", id)
	}
	return t
}

// reason says why pods that these many rules are about are allowed it or not.
func (t Trace) reason(d direction, rules int) string {
	by := fmt.Sprintf("the pod is isolated for %s by %s", d, strings.Join(t.Isolated, ", "))
	if len(t.Isolated) == 0 {
		by = fmt.Sprintf("every pod is isolated (enable-policy: always) and no policy selects this one for %s", d)
	}
	switch {
	case len(t.Rules) > 0:
		return by + ", and rules of them allow this"
	case t.Audited:
		return by + ", and no rule allows this: it is counted and not dropped (audit)"
	case rules == 0:
		return by + ", and there is no rule that allows anything"
	}
	return by + ", and no rule of them allows this"
}

// ruleAllows judges one rule.
func (e *Engine) ruleAllows(r rule, named []state.NamedPort, q TraceQuery) bool {
	return slices.ContainsFunc(r.peers, func(p peer) bool {
		if !e.meets(p, q) {
			return false
		}
		if q.Egress {
			named = e.peerPorts(p, q)
		}
		return r.ports.resolved(named).allows(q.Protocol, q.Port)
	})
}

// meets tells whether the flow's peer is p.
func (e *Engine) meets(p peer, q TraceQuery) bool {
	switch p.kind {
	case peerAny:
		return true
	case peerPods:
		id := e.identities[q.Identity]
		return id != nil && p.pods.matches(id.Labels)
	case peerBlock:
		a := q.Peer.Unmap()
		return a.IsValid() && p.block.contains(addrPrefix(a))
	case peerNone:
	}
	return false
}

// peerPorts are the named ports of the flow's peer when it is met as p.
func (e *Engine) peerPorts(p peer, q TraceQuery) []state.NamedPort {
	if id := e.identities[q.Identity]; id != nil && p.kind != peerBlock {
		return id.NamedPorts
	}
	return nil
}

// policiesOf gives the policies that select pods of an identity, and the names of
// those of which that cannot be told.
func (e *Engine) policiesOf(id *identity) (selecting group[*compiled], unsure []string) {
	labels := map[string]string{subjectNamespace: id.Labels[namespaceKey]}
	for key, value := range id.Labels {
		if strings.HasPrefix(key, podPrefix) && e.podLabelKnown(strings.TrimPrefix(key, podPrefix)) {
			labels[key] = value
		}
	}
	selecting = group[*compiled]{}
	for _, key := range slices.Sorted(maps.Keys(e.policies)) {
		c := e.policies[key]
		var known conjunction
		for _, r := range c.subject {
			if r.key == subjectNamespace || e.podLabelKnown(strings.TrimPrefix(r.key, podPrefix)) {
				known = append(known, r)
			}
		}
		switch {
		case !c.valid || !known.matches(labels):
		case len(known) < len(c.subject):
			unsure = append(unsure, key)
		default:
			selecting[c] = struct{}{}
		}
	}
	return selecting, unsure
}

// SelectorUse is a selector of the policies that select pods of this node.
type SelectorUse struct {
	Selector   string
	Policies   []string // "namespace/name", sorted
	Identities []uint32 // that it selects now, sorted
	// Problem says why it selects nothing whatever the pods; empty when it may.
	Problem string
}

// Selectors lists all selectors of peers in policies that select a pod of this
// node, ordered by their text.
func (e *Engine) Selectors() []SelectorUse {
	uses := map[string]*SelectorUse{}
	for _, key := range slices.Sorted(maps.Keys(e.policies)) {
		c := e.policies[key]
		if len(c.subjects) == 0 {
			continue
		}
		for _, r := range slices.Concat(c.rules[ingress], c.rules[egress]) {
			for _, p := range r.peers {
				e.addUse(uses, p, key)
			}
		}
	}
	out := make([]SelectorUse, 0, len(uses))
	for _, text := range slices.Sorted(maps.Keys(uses)) {
		out = append(out, *uses[text])
	}
	return out
}

func (e *Engine) addUse(uses map[string]*SelectorUse, p peer, policy string) {
	if p.pods == nil {
		return
	}
	text := p.pods.String()
	u := uses[text]
	if u == nil {
		u = &SelectorUse{Selector: text, Problem: p.why}
		uses[text] = u
		if p.kind == peerPods {
			for id := range e.identitiesByLabel.find(p.pods) {
				u.Identities = append(u.Identities, id.ID)
			}
			slices.Sort(u.Identities)
		}
	}
	if !slices.Contains(u.Policies, policy) {
		u.Policies = append(u.Policies, policy)
	}
}
