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
	audit := e.stanceOf(s.policies, d).audit
	t := Trace{Isolated: slices.Clone(r.content.isolate), Reason: "the set that its policies make does not fit (" + r.reason + "), and "}
	c := s.bound[d]
	if c == nil {
		t.Reason += "nothing is allowed until it does"
		return t.judged(true, audit)
	}
	t.Isolated = slices.Clone(c.isolate)
	for _, l := range c.lines {
		if e.meets(l.peer, q) {
			t.add(l.refs, l.ports.resolved(e.peerPorts(l.peer, q)).judge(q))
		}
	}
	slices.SortFunc(t.Rules, compareRefs)
	slices.SortFunc(t.Denied, compareRefs)
	t.Rules, t.Denied = slices.Compact(t.Rules), slices.Compact(t.Denied)
	t.Reason += "the set that was in force before it stays"
	return t.judged(c.closed, audit)
}

// add adds those of the rules that say what they say together.
func (t *Trace) add(refs []RuleRef, said verdict) {
	for _, ref := range refs {
		switch {
		case said == denied && ref.Deny:
			t.Denied = append(t.Denied, ref)
		case said == allowed && !ref.Deny:
			t.Rules = append(t.Rules, ref)
		}
	}
}

// judged fills the verdict, where what no rule allows is denied (closed) or not.
func (t Trace) judged(closed, audit bool) Trace {
	ok := len(t.Denied) == 0 && (len(t.Rules) > 0 || !closed)
	t.Allowed, t.Audited = ok || audit, !ok && audit
	return t
}

// traceRules judges by the rules of policies that select the pod.
func (e *Engine) traceRules(selecting group[*compiled], named []state.NamedPort, q TraceQuery) Trace {
	d := q.direction()
	s := e.stanceOf(selecting, d)
	if s.open {
		t := Trace{Allowed: true, Reason: fmt.Sprintf("no policy isolates the pod for %s", d)}
		if e.cfg.Mode == ModeNever {
			t.Reason = "policies are not enforced (enable-policy: never)"
		}
		return t
	}
	t := Trace{Isolated: s.isolating(d)}
	rules := 0
	for _, p := range s.policies {
		rules += len(p.rules[d])
		for _, r := range p.rules[d] {
			if e.ruleMatches(r, named, q) {
				t.add([]RuleRef{r.ref}, allowed)
				t.add([]RuleRef{r.ref}, denied)
			}
		}
	}
	t = t.judged(s.closed, s.audit)
	t.Reason = t.reason(d, s, rules)
	if id := q.Identity; id >= state.IdentityMin && e.identities[id] == nil {
		t.Reason += fmt.Sprintf("; identity %d of the peer is not known here, so no selector matches it", id)
	}
	return t
}

// reason says why pods that these many rules are about are allowed it or not.
func (t Trace) reason(d direction, s stance, rules int) string {
	by := fmt.Sprintf("the pod is isolated for %s by %s", d, strings.Join(t.Isolated, ", "))
	switch {
	case !s.closed:
		by = fmt.Sprintf("no policy isolates the pod for %s", d)
	case len(t.Isolated) == 0:
		by = fmt.Sprintf("every pod is isolated (enable-policy: always) and no policy selects this one for %s", d)
	}
	switch counted := ": it is counted and not dropped (audit)"; {
	case len(t.Denied) > 0 && t.Audited:
		return by + ", and rules deny this" + counted
	case len(t.Denied) > 0:
		return by + ", and rules deny this, whatever others allow"
	case !s.closed:
		return by + ", and no rule denies this"
	case len(t.Rules) > 0:
		return by + ", and rules of them allow this"
	case t.Audited:
		return by + ", and no rule allows this" + counted
	case rules == 0:
		return by + ", and there is no rule that allows anything"
	}
	return by + ", and no rule of them allows this"
}

// ruleMatches tells whether a rule is about the flow.
func (e *Engine) ruleMatches(r rule, named []state.NamedPort, q TraceQuery) bool {
	return slices.ContainsFunc(r.peers, func(p peer) bool {
		if !e.meets(p, q) {
			return false
		}
		if q.Egress {
			named = e.peerPorts(p, q)
		}
		return r.ports.resolved(named).judge(q) != silent
	})
}

// judge gives what p, without its names, says of a flow.
func (p ports) judge(q TraceQuery) verdict {
	return judge(p.ranges, q.Protocol, q.Port, q.Identity == state.IdentityWorld)
}

// meets tells whether the flow's peer is p.
func (e *Engine) meets(p peer, q TraceQuery) bool {
	switch p.kind {
	case peerAny:
		return true
	case peerPods:
		id := e.identities[q.Identity]
		return id != nil && p.pods.matches(id.Labels)
	case peerIdentity:
		return q.Identity == p.identity
	case peerBlock:
		a := q.Peer.Unmap()
		return a.IsValid() && p.block.contains(addrPrefix(a)) && (!p.block.outside || q.Identity == state.IdentityWorld)
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
	labels := maps.Clone(id.Labels)
	labels[subjectNamespace] = id.Labels[namespaceKey]
	selecting = group[*compiled]{}
	for _, key := range slices.Sorted(maps.Keys(e.policies)) {
		c := e.policies[key]
		var known conjunction
		for _, r := range c.subject {
			if e.labelKnown(r.key) || r.key == subjectNamespace && e.labelKnown(namespaceKey) {
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
	Policies   []string // their keys, sorted
	Identities []uint32 // that it selects now, sorted
	// Problem says why it cannot be judged: whatever the pods, it selects none in a
	// rule that allows, and every peer in one that denies. Empty when it can.
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
