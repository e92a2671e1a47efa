package policy

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// settle binds the subjects that something changed for to the sets that they
// should be under.
func (e *Engine) settle() {
	if e.retry {
		maps.Copy(e.dirty, e.refused)
		e.retry = false
	}
	if len(e.dirty) == 0 {
		return
	}
	order := slices.SortedFunc(maps.Keys(e.dirty), func(a, b *subject) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	e.dirty = group[*subject]{}
	unfit := map[SetID]string{}
	for _, s := range order {
		e.changes.endpoint(s)
		s.policy = EndpointPolicy{}
		for d := range directions {
			set, audit := e.settleDirection(s, d, unfit)
			if d == egress {
				s.policy.Egress, s.policy.AuditEgress = set, audit
			} else {
				s.policy.Ingress, s.policy.AuditIngress = set, audit
			}
		}
		s.settled = true
	}
}

// settleDirection binds one direction and gives what is in force then. Sets that
// do not fit are remembered in unfit.
func (e *Engine) settleDirection(s *subject, d direction, unfit map[SetID]string) (id SetID, audit bool) {
	st := e.stanceOf(s.policies, d)
	if st.open {
		e.bind(s, d, nil)
		e.pardon(s, d)
		return SetOpen, false
	}
	c := e.contentOf(d, st, s.NamedPorts)
	reason, known := unfit[c.id]
	if !known {
		reason = e.enter(c)
	}
	if reason != "" {
		unfit[c.id] = reason
		e.refuse(s, d, c, reason)
		if s.bound[d] == nil {
			return SetClosed, st.audit
		}
		return s.bound[d].id, st.audit
	}
	e.bind(s, d, c)
	e.pardon(s, d)
	return c.id, st.audit
}

// stance is what the policies that select a pod make of one direction.
type stance struct {
	policies []*compiled // that count, ordered by their keys
	open     bool        // all is allowed; there is nothing to judge by
	closed   bool        // what no rule allows is denied, not just what one denies
	audit    bool        // what is denied is only counted
}

// stanceOf goes by the policies that enforce, or where these leave the direction
// open, by those that audit too.
func (e *Engine) stanceOf(selecting group[*compiled], d direction) stance {
	var enforce, audited []*compiled
	if e.cfg.Mode == ModeNever {
		return stance{open: true}
	}
	for c := range selecting {
		switch {
		case !c.counts(d):
		case c.spec.Audit:
			audited = append(audited, c)
		default:
			enforce = append(enforce, c)
		}
	}
	s := e.stanceBy(enforce, d)
	if s.open && len(audited) > 0 {
		s = e.stanceBy(append(enforce, audited...), d)
		s.audit = true
	}
	s.audit = !s.open && (s.audit || e.cfg.AuditAll)
	return s
}

// stanceBy is what policies that count make of a direction.
func (e *Engine) stanceBy(policies []*compiled, d direction) stance {
	slices.SortFunc(policies, func(a, b *compiled) int { return strings.Compare(a.key, b.key) })
	s := stance{policies: policies}
	s.closed = e.cfg.Mode == ModeAlways || slices.ContainsFunc(policies, func(c *compiled) bool { return d.isolatedBy(c.spec) })
	s.open = !s.closed && !slices.ContainsFunc(policies, func(c *compiled) bool { return c.denies(d) })
	return s
}

// isolating names the policies that isolate.
func (s stance) isolating(d direction) []string {
	var out []string
	for _, c := range s.policies {
		if d.isolatedBy(c.spec) {
			out = append(out, c.key)
		}
	}
	return out
}

// bind puts a direction of a subject under a content whose set is in use, or
// under none.
func (e *Engine) bind(s *subject, d direction, c *content) {
	old := s.bound[d]
	if old == c {
		return
	}
	if c != nil {
		c.users++
		e.join(c)
	}
	if old != nil {
		old.users--
		e.leave(old)
		e.drop(old)
	}
	s.bound[d] = c
}

// refuse remembers that a subject should be under c.
func (e *Engine) refuse(s *subject, d direction, c *content, reason string) {
	c.users++
	e.pardon(s, d)
	s.refusals[d] = &refusal{c, reason}
	e.refused[s] = struct{}{}
}

// pardon forgets a refusal, if there is one.
func (e *Engine) pardon(s *subject, d direction) {
	if r := s.refusals[d]; r != nil {
		r.content.users--
		e.drop(r.content)
		s.refusals[d] = nil
	}
	if s.refusals == [directions]*refusal{} {
		delete(e.refused, s)
	}
}

// drop forgets a content that nothing uses.
func (e *Engine) drop(c *content) {
	if c.users == 0 {
		delete(e.contents, c.key)
	}
}

// Refusals returns all sets, and sets with entries, that are not in force because
// they do not fit.
func (e *Engine) Refusals() map[SetID]Refusal {
	e.settle()
	out := map[SetID]Refusal{}
	for s := range e.refused {
		for d := range directions {
			if r := s.refusals[d]; r != nil {
				x := out[r.content.id]
				x.Names = append(x.Names, r.content.names...)
				x.Reason = r.reason
				x.Endpoints = append(x.Endpoints, s.Endpoint)
				out[r.content.id] = x
			}
		}
	}
	for s := range e.changes.omitting {
		if s.users > 0 {
			out[s.content.id] = Refusal{Names: s.origin().names, Reason: s.omission()}
		}
	}
	for id, r := range out {
		slices.Sort(r.Names)
		slices.Sort(r.Endpoints)
		r.Names, r.Endpoints = slices.Compact(r.Names), slices.Compact(r.Endpoints)
		out[id] = r
	}
	return out
}
