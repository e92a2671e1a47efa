package node

import (
	"fmt"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// What a cluster of a Crowd is made of.
const (
	crowdNamespaces = 100
	crowdApps       = 10 // of a namespace; one policy selects each
	crowdRoles      = 10
)

// Crowd describes a cluster: policies of which each isolates the pods of one
// application in both directions, and identities spread over all of them. A
// policy allows a role of its own namespace; one in ten allows it in all
// namespaces.
type Crowd struct{ Policies, Identities int }

// Engine returns an engine that knows the cluster.
func (c Crowd) Engine() *policy.Engine {
	e := policy.NewEngine(policy.Config{})
	for i := range c.Identities {
		m := c.Member(i)
		e.SetIdentity(state.Identity{ID: m.Identity, Labels: identityLabels(m.Namespace, m.Labels)})
	}
	for i := range c.Policies {
		e.SetPolicy(c.policy(i))
	}
	return e
}

// Member is who pods of identity number i are.
func (c Crowd) Member(i int) Member {
	return Member{
		Namespace: fmt.Sprintf("team-%d", i%crowdNamespaces),
		Labels: map[string]string{
			"app": fmt.Sprintf("app-%d", i/crowdNamespaces%crowdApps), "role": fmt.Sprintf("role-%d", i/crowdNamespaces%crowdRoles),
			"release": fmt.Sprintf("r%d", i),
		},
		Identity: state.IdentityMin + 16 + uint32(i),
	}
}

func (c Crowd) policy(i int) state.NetworkPolicy {
	app := i / crowdNamespaces % crowdApps
	peer := state.PolicyPeer{Pods: &state.Selector{MatchLabels: map[string]string{"role": fmt.Sprintf("role-%d", (app+1)%crowdRoles)}}}
	if app == 0 {
		peer.Namespaces = &state.Selector{}
	}
	rules := []state.PolicyRule{{
		Peers: []state.PolicyPeer{peer}, Ports: []state.PolicyPort{{Protocol: state.ProtocolTCP, Port: uint16(8000 + i%1000)}},
	}}
	return state.NetworkPolicy{
		Namespace: fmt.Sprintf("team-%d", i%crowdNamespaces), Name: fmt.Sprintf("policy-%d", i),
		Subject:         state.Selector{MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", app)}},
		IsolatesIngress: true, IsolatesEgress: true, Ingress: rules, Egress: rules,
	}
}
