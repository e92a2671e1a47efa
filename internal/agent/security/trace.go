package security

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

var (
	// ErrUnknownPod is returned for a pod that no node publishes and that is not on
	// this one.
	ErrUnknownPod = errors.New("no such pod")
	// ErrElsewhere is returned for what only other nodes can tell.
	ErrElsewhere = errors.New("ask another node")
)

// Selectors returns the selectors of policies that select pods of this node.
func (e *Enforcer) Selectors() []agentapi.SelectorInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []agentapi.SelectorInfo
	for _, s := range e.engine.Selectors() {
		out = append(out, agentapi.SelectorInfo{Selector: s.Selector, Policies: s.Policies, Identities: s.Identities})
	}
	return out
}

// side is one side of a flow that is traced.
type side struct {
	name     string // as it was asked for
	addrs    []netip.Addr
	identity uint32
	pod      bool
	endpoint uint32 // 0 for what is not on this node
	node     string // that has the pod; empty for this one
}

// Trace tells what becomes of a new flow. The error is ErrUnknownPod, or
// ErrElsewhere when no side is a pod of this node.
func (e *Enforcer) Trace(req agentapi.TraceRequest) (agentapi.TraceResult, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	from, err := e.sideLocked(req.From)
	if err != nil {
		return agentapi.TraceResult{}, err
	}
	to, err := e.sideLocked(req.To)
	if err != nil {
		return agentapi.TraceResult{}, err
	}
	if from.endpoint == 0 && to.endpoint == 0 {
		return agentapi.TraceResult{}, fmt.Errorf("%w: neither %s nor %s is a pod of node %s", ErrElsewhere, req.From, req.To, e.cfg.NodeName)
	}
	out := agentapi.TraceResult{Allowed: true}
	for _, judged := range []struct {
		pod, peer side
		egress    bool
	}{{from, to, true}, {to, from, false}} {
		if !judged.pod.pod {
			continue
		}
		step, audited, err := e.stepLocked(judged.pod, judged.peer, judged.egress, req)
		if err != nil {
			return agentapi.TraceResult{}, err
		}
		out.Allowed, out.Audited = out.Allowed && step.Allowed, out.Audited || audited
		out.Steps = append(out.Steps, step)
	}
	out.Audited = out.Audited && out.Allowed
	return out, nil
}

// stepLocked judges one direction.
func (e *Enforcer) stepLocked(pod, peer side, egress bool, req agentapi.TraceRequest) (step agentapi.TraceStep, audited bool, err error) {
	t, err := e.engine.Trace(policy.TraceQuery{Subject: pod.identity, Query: policy.Query{
		Endpoint: pod.endpoint, Egress: egress, Peer: common(peer, pod), Identity: peer.identity, Protocol: req.Protocol, Port: req.Port,
	}})
	if errors.Is(err, policy.ErrUnknownPod) {
		return step, false, fmt.Errorf("%w: the labels of pod %s are not known here; node %s judges it", ErrElsewhere, pod.name, pod.node)
	}
	if err != nil {
		return step, false, err
	}
	step = agentapi.TraceStep{
		Direction: agentapi.DirectionIngress, Pod: pod.name, Allowed: t.Allowed, Isolated: t.Isolated, Reason: t.Reason,
	}
	if egress {
		step.Direction = agentapi.DirectionEgress
	}
	for _, r := range slices.Concat(t.Denied, t.Rules) {
		step.Rules = append(step.Rules, ruleText(r, egress))
	}
	if pod.node != "" {
		step.Reason += fmt.Sprintf(" (judged by node %s; told from the identity's labels)", pod.node)
	}
	if e.stage.holds(pod.endpoint) && !t.Allowed {
		step.Allowed = true
		step.Reason = "not enforced yet (" + e.stage.why + "); then: " + step.Reason
	}
	return step, t.Audited, nil
}

// common returns the address of s of a family that both sides have.
func common(s, other side) netip.Addr {
	for _, a := range s.addrs {
		if len(other.addrs) == 0 || slices.ContainsFunc(other.addrs, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			return a
		}
	}
	return netip.Addr{}
}

// sideLocked finds who is meant by a pod's name or an address.
func (e *Enforcer) sideLocked(text string) (side, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return e.findSideLocked(text, func(pod state.PodRef, _ []netip.Addr) bool { return pod.String() == text })
	}
	addr = addr.Unmap()
	s, err := e.findSideLocked(text, func(_ state.PodRef, addrs []netip.Addr) bool { return slices.Contains(addrs, addr) })
	if errors.Is(err, ErrUnknownPod) {
		return e.outsideLocked(text, addr)
	}
	s.addrs = []netip.Addr{addr}
	return s, err
}

func (e *Enforcer) findSideLocked(text string, is func(state.PodRef, []netip.Addr) bool) (side, error) {
	for id, m := range e.members {
		if is(m.ep.Pod, m.ep.Addrs()) {
			return side{name: text, addrs: m.ep.Addrs(), identity: m.identity, pod: true, endpoint: id}, nil
		}
	}
	published, _, err := e.cfg.Tables.NodeEndpoints()
	if err != nil {
		return side{}, err
	}
	for _, n := range published {
		for _, ep := range n.Endpoints {
			if n.Node != e.cfg.NodeName && is(ep.Pod, ep.Addrs) {
				return side{name: text, addrs: ep.Addrs, identity: ep.Identity, pod: true, node: n.Node}, nil
			}
		}
	}
	return side{}, fmt.Errorf("%w: %s is not on node %s, and no other node publishes it (they do while there are policies)", ErrUnknownPod, text, e.cfg.NodeName)
}

// outsideLocked is an address that no pod has.
func (e *Enforcer) outsideLocked(text string, addr netip.Addr) (side, error) {
	nodes, _, err := e.cfg.Tables.Nodes()
	if err != nil {
		return side{}, err
	}
	s := side{name: text, addrs: []netip.Addr{addr}, identity: state.IdentityWorld}
	for _, n := range nodes {
		if !slices.Contains(n.Addrs, addr) {
			continue
		}
		s.identity = state.IdentityRemoteNode
		if n.Name == e.cfg.NodeName {
			s.identity = state.IdentityHost
		}
	}
	return s, nil
}
