package verdict

import (
	"cmp"
	"slices"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// explain says of a change between two peers what it is and where it comes from.
func (c *comparer) explain(from, to int, d difference) Change {
	old, now := c.sets.sets[d.ports[before]], c.sets.sets[d.ports[after]]
	out := Change{
		From: c.peers[from].Peer, To: c.peers[to].Peer,
		Old: old, New: now, Opened: now.minus(old), Closed: old.minus(now),
	}
	family := d.family
	if family >= 0 {
		out.Family = familyName(family)
	} else {
		for family = range families {
			if c.peers[from].place[family] != absent && c.peers[to].place[family] != absent {
				break
			}
		}
	}
	for direction, pair := range [directions][2]int{ingress: {to, from}, egress: {from, to}} {
		if pair[0] < c.groups {
			out.Causes = append(out.Causes, c.causes(flow{direction, pair[0], pair[1], family}, out)...)
		}
	}
	return out
}

// flow is a direction of a group's traffic with a peer in one family.
type flow struct {
	direction, group, peer, family int
}

// causes gives those of a change that are in the flow's direction.
func (c *comparer) causes(f flow, of Change) []Cause {
	face := c.classes[c.classOf[f.peer]].faces[f.family]
	transition := c.classes[c.classOf[f.group]].transitions[f.direction]
	v := c.value(transition, face)
	old, now := c.sets.sets[v[before]], c.sets.sets[v[after]]
	cuts := c.cuts(transition, f)
	var out []Cause
	for _, p := range probes(old.minus(now).intersect(of.Closed), cuts) {
		out = append(out, closing(c.trace(f, face, p)))
	}
	for _, p := range probes(now.minus(old).intersect(of.Opened), cuts) {
		out = append(out, opening(c.trace(f, face, p)))
	}
	for i := range out {
		out[i].Direction = directionName(f.direction)
	}
	return merge(out)
}

func directionName(direction int) string {
	if direction == egress {
		return "egress"
	}
	return "ingress"
}

// trace explains one port under both sides.
func (c *comparer) trace(f flow, face int, at point) [sides]explained {
	var out [sides]explained
	for i, s := range c.sides {
		t, err := s.engine.Trace(policy.TraceQuery{Query: policy.Query{
			Endpoint: s.subjects[f.group], Egress: f.direction == egress, Peer: c.peers[f.peer].addrs[f.family],
			Identity: c.faces[face][i].id, Protocol: at.protocol(), Port: at.port(),
		}})
		if err != nil { // the group is a subject of the engine
			t.Reason = err.Error()
		}
		out[i] = explained{t, f.direction == egress}
	}
	return out
}

// explained is a Trace of one direction.
type explained struct {
	policy.Trace
	egress bool
}

func (e explained) rules(refs []policy.RuleRef) []string {
	out := make([]string, len(refs))
	for i, r := range refs {
		out[i] = r.Policy + " " + r.Field(e.egress)
	}
	return out
}

// closing says why a port is closed.
func closing(t [sides]explained) Cause {
	switch old, now := t[before], t[after]; {
	case len(now.Denied) > 0:
		return Cause{Effect: DeniedNow, Rules: now.rules(now.Denied)}
	case len(old.Rules) > 0:
		return Cause{Effect: AllowGone, Rules: old.rules(old.Rules)}
	case len(now.Isolated) > 0:
		return Cause{Effect: IsolatedNow, Policies: now.Isolated}
	default:
		return Cause{Effect: Otherwise, Reason: now.Reason}
	}
}

// opening says why a port is open.
func opening(t [sides]explained) Cause {
	switch old, now := t[before], t[after]; {
	case len(old.Denied) > 0:
		return Cause{Effect: DenyGone, Rules: old.rules(old.Denied)}
	case len(now.Rules) > 0:
		return Cause{Effect: AllowedNow, Rules: now.rules(now.Rules)}
	case len(old.Isolated) > 0:
		return Cause{Effect: IsolationOff, Policies: old.Isolated}
	default:
		return Cause{Effect: Otherwise, Reason: now.Reason}
	}
}

// merge makes one cause of those with the same effect.
func merge(causes []Cause) []Cause {
	slices.SortStableFunc(causes, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(a.Effect, b.Effect), cmp.Compare(a.Reason, b.Reason))
	})
	var out []Cause
	for _, x := range causes {
		if n := len(out); n == 0 || out[n-1].Effect != x.Effect || out[n-1].Reason != x.Reason {
			out = append(out, Cause{Direction: x.Direction, Effect: x.Effect, Reason: x.Reason})
		}
		last := &out[len(out)-1]
		last.Rules, last.Policies = append(last.Rules, x.Rules...), append(last.Policies, x.Policies...)
	}
	for i := range out {
		slices.Sort(out[i].Rules)
		slices.Sort(out[i].Policies)
		out[i].Rules, out[i].Policies = slices.Compact(out[i].Rules), slices.Compact(out[i].Policies)
	}
	return out
}

// probes gives one port for each part of a set in which the same rules count:
// those at which it begins, and those at which one begins or has ended.
func probes(p Ports, cuts []point) []point {
	var out []point
	for _, s := range p.spans {
		out = append(out, s.first)
		for _, at := range cuts {
			if s.first < at && at <= s.last {
				out = append(out, at)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// cuts gives the ports at which a rule of a transition's sets may begin or have
// ended.
func (c *comparer) cuts(transition int, f flow) []point {
	var out []point
	add := func(p state.Protocol, first, last uint16) {
		out = append(out, pointOf(p, first), pointOf(p, last)+1)
	}
	for _, named := range [][]state.NamedPort{c.peers[f.group].NamedPorts, c.peers[f.peer].NamedPorts} {
		for _, n := range named {
			add(n.Protocol, n.Port, n.Port)
		}
	}
	for i, id := range c.transitions[transition].sets {
		set := c.sides[i].tables.Sets[id]
		if set == nil {
			continue
		}
		for _, ref := range set.Rules {
			for _, x := range c.sides[i].portsOf(ref, set.Egress) {
				switch {
				case x.Protocol == state.ProtocolAny || x.Name != "":
				case x.ICMPType != nil:
					add(x.Protocol, uint16(*x.ICMPType), uint16(*x.ICMPType))
				case x.Port == 0:
					add(x.Protocol, 0, lastPort)
				default:
					add(x.Protocol, x.Port, max(x.Port, x.EndPort))
				}
			}
		}
	}
	return out
}

// portsOf gives the ports of a rule as its policy has them.
func (s *side) portsOf(ref policy.RuleRef, out bool) []state.PolicyPort {
	p := s.byKey[ref.Policy]
	rules := [directions][2][]state.PolicyRule{{p.Ingress, p.IngressDeny}, {p.Egress, p.EgressDeny}}
	direction, deny := ingress, 0
	if out {
		direction = egress
	}
	if ref.Deny {
		deny = 1
	}
	if list := rules[direction][deny]; ref.Index < len(list) {
		return list[ref.Index].Ports
	}
	return nil
}
