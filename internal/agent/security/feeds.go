package security

import (
	"cmp"
	"time"

	"github.com/placid-net/placid/internal/state"
)

// feeds are the tables that the engine follows.
type feeds struct {
	policies   *state.Feed[state.NetworkPolicy]
	identities *state.Feed[state.Identity]
	namespaces *state.Feed[state.Namespace]
	pods       *state.Feed[state.Pod]
	published  *state.Feed[state.NodeEndpoints]
	// What policies name.
	nodes    *state.Feed[state.Node]
	services *state.Feed[state.PolicyService]
	slices   *state.Feed[state.EndpointSlice]
	groups   *state.Feed[state.CIDRGroup]
}

func openFeeds(t *state.Tables) feeds {
	return feeds{
		policies: t.FeedPolicies(), identities: t.FeedIdentities(), namespaces: t.FeedNamespaces(),
		pods: t.FeedPods(), published: t.FeedNodeEndpoints(),
		nodes: t.FeedNodes(), services: t.FeedPolicyServices(), slices: t.FeedPolicySlices(), groups: t.FeedCIDRGroups(),
	}
}

func (f feeds) close() {
	f.policies.Close()
	f.identities.Close()
	f.namespaces.Close()
	f.pods.Close()
	f.published.Close()
	f.nodes.Close()
	f.services.Close()
	f.slices.Close()
	f.groups.Close()
}

// pullLocked takes what changed in the tables into the engine.
func (e *Enforcer) pullLocked() {
	for _, c := range e.feeds.identities.Take() {
		if c.New == nil {
			e.identities.Delete(c.Old.ID)
			e.engine.RemoveIdentity(c.Old.ID)
			continue
		}
		e.identities.Upsert(*c.New)
		e.engine.SetIdentity(*c.New)
	}
	for _, c := range e.feeds.namespaces.Take() {
		if c.New == nil {
			continue // its pods go too
		}
		for _, m := range e.members {
			if m.known && m.ep.Pod.Namespace == c.New.Name {
				e.learnLocked(m, m.pod)
			}
		}
	}
	for _, c := range e.feeds.pods.Take() {
		if c.New == nil {
			continue // its endpoint stays as it is until its DEL
		}
		for _, m := range e.members {
			if m.is(c.New.Ref) {
				e.learnLocked(m, *c.New)
			}
		}
	}
	for _, c := range e.feeds.published.Take() {
		e.strangersLocked(c)
	}
	e.pullPoliciesLocked()
}

// pullPoliciesLocked takes policies, and what they name, through the resolver into
// the engine.
func (e *Enforcer) pullPoliciesLocked() {
	for _, c := range e.feeds.policies.Take() {
		if row := cmp.Or(c.New, c.Old); e.cfg.Ignore && row.Kind == state.PolicyKubernetes {
			continue
		}
		if c.New == nil {
			delete(e.policies, c.Old.Key())
			e.resolver.RemovePolicy(c.Old.Key())
			continue
		}
		e.policies[c.New.Key()] = knownOf(c.New)
		e.resolver.SetPolicy(*c.New)
	}
	e.pullReferencesLocked()
	for _, c := range e.resolver.Take() {
		if e.pending.IsZero() && e.begun {
			e.pending = time.Now()
		}
		if c.Policy == nil {
			e.engine.RemovePolicy(c.Key)
			continue
		}
		for _, note := range c.Notes {
			e.cfg.Log.Warn("a policy names what is not there", "policy", c.Key, "problem", note)
		}
		e.engine.SetPolicy(*c.Policy)
	}
}

// pullReferencesLocked takes what changed of what policies name into the resolver.
func (e *Enforcer) pullReferencesLocked() {
	for _, c := range e.feeds.nodes.Take() {
		if c.New == nil {
			e.resolver.RemoveNode(c.Old.Name)
		} else {
			e.resolver.SetNode(*c.New)
		}
	}
	for _, c := range e.feeds.services.Take() {
		if c.New == nil {
			e.resolver.RemoveService(c.Old.Ref)
		} else {
			e.resolver.SetService(*c.New)
		}
	}
	for _, c := range e.feeds.slices.Take() {
		if c.New == nil {
			e.resolver.RemoveSlice(c.Old.Namespace, c.Old.Name)
		} else {
			e.resolver.SetSlice(*c.New)
		}
	}
	for _, c := range e.feeds.groups.Take() {
		if c.New == nil {
			e.resolver.RemoveCIDRGroup(c.Old.Name)
		} else {
			e.resolver.SetCIDRGroup(*c.New)
		}
	}
}

// strangersLocked counts the endpoints of another node that have no identity, and
// measures how long the new ones took to get here.
func (e *Enforcer) strangersLocked(c state.Change[state.NodeEndpoints]) {
	if c.New == nil {
		delete(e.strangers, c.Old.Node)
		return
	}
	if c.New.Node == e.cfg.NodeName {
		return
	}
	type who struct {
		pod      state.PodRef
		identity uint32
	}
	before := map[who]bool{}
	if c.Old != nil {
		for _, ep := range c.Old.Endpoints {
			before[who{ep.Pod, ep.Identity}] = true
		}
	}
	strangers := 0
	for _, ep := range c.New.Endpoints {
		if ep.Identity == state.IdentityInit {
			strangers++
			continue
		}
		if e.begun && !before[who{ep.Pod, ep.Identity}] && !ep.Since.IsZero() {
			e.cfg.Meter.Propagated(max(time.Since(ep.Since), 0))
		}
	}
	e.strangers[c.New.Node] = strangers
}
