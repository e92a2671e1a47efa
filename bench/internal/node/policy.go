package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// Group says which policies a pod is under.
type Group string

// The groups. In both directions each but the open one allows itself.
const (
	GroupOpen   Group = ""       // none
	GroupPorts  Group = "ports"  // one policy: its group and the outside, on Allowed ports
	GroupBlocks Group = "blocks" // the same, by Blocks blocks of either family, of which one is the outside
	GroupServer Group = "server" // everybody in on all ports, nothing out
)

// Blocks is how many blocks of each family the policy of GroupBlocks has in each
// direction.
const Blocks = 200

// Ports that GroupPorts and GroupBlocks allow: one, and a range. Denied is none
// of them.
const (
	AllowedPort  = 80
	AllowedFirst = 1024
	AllowedLast  = 65535
	DeniedPort   = 81
)

const (
	namespace = "bench"
	groupKey  = "group"
)

// Outside is an address beyond the node's router, that no node has.
func Outside(is6 bool) netip.Addr {
	if is6 {
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: 9})
	}
	return netip.AddrFrom4([4]byte{203, 0, 113, 9})
}

// block is one of the blocks of a family; number 0 holds Outside.
func block(i int, is6 bool) netip.Prefix {
	if is6 {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 5: byte(i)}), 48)
	}
	if i == 0 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, 0}), 24)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 0}), 24)
}

// Identity is the number of the group's pods.
func (g Group) Identity() uint32 {
	order := []Group{GroupOpen, GroupPorts, GroupBlocks, GroupServer}
	return state.IdentityMin + uint32(slices.Index(order, g))
}

// labels are those of the group's pods.
func (g Group) labels() map[string]string { return map[string]string{groupKey: "g" + string(g)} }

// policies are those that the group's pods are under: one, or none.
func (g Group) policies() []state.NetworkPolicy {
	p := state.NetworkPolicy{
		Namespace: namespace, Name: string(g), Subject: state.Selector{MatchLabels: g.labels()},
		IsolatesIngress: true, IsolatesEgress: true,
	}
	blocks := 1
	switch g {
	case GroupOpen:
		return nil
	case GroupServer:
		p.Ingress = []state.PolicyRule{{}}
		return []state.NetworkPolicy{p}
	case GroupBlocks:
		blocks = Blocks
	case GroupPorts:
	}
	own := p.Subject
	peers := []state.PolicyPeer{{Pods: &own}}
	for i := range blocks {
		for _, is6 := range []bool{false, true} {
			peers = append(peers, state.PolicyPeer{Block: &state.IPBlock{CIDR: block(i, is6)}})
		}
	}
	rules := []state.PolicyRule{{Peers: peers, Ports: []state.PolicyPort{
		{Protocol: state.ProtocolTCP, Port: AllowedPort},
		{Protocol: state.ProtocolTCP, Port: AllowedFirst, EndPort: AllowedLast},
	}}}
	p.Ingress, p.Egress = rules, rules
	return []state.NetworkPolicy{p}
}

func newEngine() *policy.Engine {
	e := policy.NewEngine(policy.Config{})
	for _, g := range []Group{GroupOpen, GroupPorts, GroupBlocks, GroupServer} {
		e.SetIdentity(state.Identity{ID: g.Identity(), Labels: identityLabels(namespace, g.labels())})
	}
	return e
}

// identityLabels are the labels of an identity, for pods of a namespace.
func identityLabels(namespace string, own map[string]string) map[string]string {
	out := map[string]string{"k8s:io.kubernetes.pod.namespace": namespace}
	for key, value := range own {
		out["k8s:"+key] = value
	}
	return out
}

// Enforce puts endpoints under the policies of their groups, by way of the
// policies' engine, as the agent does.
func (n *Node) Enforce(ctx context.Context, groups map[uint32]Group) error {
	for _, id := range slices.Sorted(maps.Keys(groups)) {
		g := groups[id]
		if err := n.datapath.SetIdentity(ctx, id, g.Identity()); err != nil {
			return fmt.Errorf("give endpoint %d its identity: %w", id, err)
		}
		for _, p := range g.policies() {
			n.engine.SetPolicy(p)
		}
		n.engine.SetSubject(policy.Subject{
			Endpoint: id, Labels: g.labels(),
			Pod: state.PodRef{Namespace: namespace, Name: fmt.Sprintf("pod-%d", id)},
		})
	}
	return n.apply(ctx, n.engine)
}

// apply writes what changed in the engine.
func (n *Node) apply(ctx context.Context, e *policy.Engine) error {
	if err := n.datapath.ApplyPolicy(ctx, e.Take()); err != nil {
		return fmt.Errorf("write policies: %w", err)
	}
	var errs []error
	for _, p := range n.datapath.PolicyProblems() {
		errs = append(errs, fmt.Errorf("policy set %x is not in force: %w", p.Set, p.Err))
	}
	return errors.Join(errs...)
}

// Member is who a pod is under a Crowd's policies.
type Member struct {
	Namespace string
	Labels    map[string]string
	Identity  uint32
}

// Add gives a pod its policies by the engine, as the agent does, and then its
// interface.
func (n *Node) Add(ctx context.Context, pod Pod, e *policy.Engine, m Member) (state.Endpoint, error) {
	id := n.endpoints + 1
	e.SetSubject(policy.Subject{
		Endpoint: id, Labels: m.Labels, Pod: state.PodRef{Namespace: m.Namespace, Name: fmt.Sprintf("pod-%d", id)},
	})
	if err := n.apply(ctx, e); err != nil {
		return state.Endpoint{}, err
	}
	if err := n.datapath.SetIdentity(ctx, id, m.Identity); err != nil {
		return state.Endpoint{}, fmt.Errorf("give endpoint %d its identity: %w", id, err)
	}
	return n.Connect(ctx, pod)
}

// Remove undoes Add.
func (n *Node) Remove(ctx context.Context, ep state.Endpoint, e *policy.Engine) error {
	err := n.datapath.Disconnect(ctx, ep)
	e.RemoveSubject(ep.ID)
	return errors.Join(err, n.apply(ctx, e))
}

// Sync makes the kernel equal to the engine's tables, as an agent does when it
// has started and knows everything. It returns how many entries the sets have.
func (n *Node) Sync(ctx context.Context, e *policy.Engine) (entries int, err error) {
	t := e.Tables()
	for _, s := range t.Sets {
		entries += len(s.Entries)
	}
	if err := n.datapath.SyncPolicy(ctx, t); err != nil {
		return entries, fmt.Errorf("write policies: %w", err)
	}
	return entries, nil
}
