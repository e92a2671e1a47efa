package policytest

import (
	"slices"

	"github.com/placid-net/placid/internal/policy"
)

// Config is the configuration of an engine for the cluster.
func (c Cluster) Config() policy.Config {
	return policy.Config{
		Mode: policy.Mode(c.Mode), AuditAll: c.AuditAll,
		PodLabelKnown:       func(key string) bool { return !slices.Contains(c.HiddenPodLabels, key) },
		NamespaceLabelKnown: func(key string) bool { return !slices.Contains(c.HiddenNamespaceLabels, key) },
		DerivedLabelKnown:   func(key string) bool { return !slices.Contains(c.HiddenDerivedLabels, key) },
	}
}

// Engine returns an engine that knows the cluster.
func (c Cluster) Engine() *policy.Engine {
	e := policy.NewEngine(c.Config())
	for _, id := range c.Identities() {
		e.SetIdentity(id)
	}
	for _, p := range c.Policies {
		e.SetPolicy(p)
	}
	for _, s := range c.Subjects() {
		e.SetSubject(s)
	}
	return e
}

// Subjects are the pods of this node, ordered by endpoint.
func (c Cluster) Subjects() []policy.Subject {
	var out []policy.Subject
	for _, p := range c.Pods {
		if p.Endpoint != 0 {
			out = append(out, policy.Subject{
				Endpoint: p.Endpoint, Pod: p.Ref, Labels: p.Labels, Derived: c.Derived(p), NamedPorts: p.NamedPorts,
			})
		}
	}
	return out
}

// Queries are what this node asks for a packet: egress when it comes from a pod
// of this node, ingress when it goes to one.
func (c Cluster) Queries(p Packet) []policy.Query {
	var out []policy.Query
	if from := c.PodAt(p.From); from != nil && from.Endpoint != 0 {
		out = append(out, policy.Query{
			Endpoint: from.Endpoint, Egress: true, Peer: p.To, Identity: c.IdentityOf(p.To), Protocol: p.Protocol, Port: p.Port,
		})
	}
	if to := c.PodAt(p.To); to != nil && to.Endpoint != 0 {
		out = append(out, policy.Query{
			Endpoint: to.Endpoint, Peer: p.From, Identity: c.IdentityOf(p.From), Protocol: p.Protocol, Port: p.Port,
		})
	}
	return out
}
