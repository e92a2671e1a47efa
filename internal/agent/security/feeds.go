package security

import (
	"time"

	"github.com/placid-net/placid/internal/state"
)

// feeds are the tables that the engine follows.
type feeds struct {
	policies   *state.Feed[state.NetworkPolicy]
	identities *state.Feed[state.Identity]
	namespaces *state.Feed[state.Namespace]
	pods       *state.Feed[state.Pod]
	nodes      *state.Feed[state.NodeEndpoints]
}

func openFeeds(t *state.Tables) feeds {
	return feeds{
		policies: t.FeedPolicies(), identities: t.FeedIdentities(), namespaces: t.FeedNamespaces(),
		pods: t.FeedPods(), nodes: t.FeedNodeEndpoints(),
	}
}

func (f feeds) close() {
	f.policies.Close()
	f.identities.Close()
	f.namespaces.Close()
	f.pods.Close()
	f.nodes.Close()
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
			if m.ep.Pod.Namespace == c.New.Name {
				e.keyLocked(m)
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
	for _, c := range e.feeds.nodes.Take() {
		e.strangersLocked(c)
	}
	e.pullPoliciesLocked()
}

func (e *Enforcer) pullPoliciesLocked() {
	for _, c := range e.feeds.policies.Take() {
		if e.cfg.Ignore {
			continue
		}
		if e.pending.IsZero() && e.begun {
			e.pending = time.Now()
		}
		if c.New == nil {
			delete(e.policies, c.Old.Key())
			e.engine.RemovePolicy(c.Old.Key())
			continue
		}
		e.policies[c.New.Key()] = known{c.New.UID, c.New.IsolatesIngress, c.New.IsolatesEgress}
		e.engine.SetPolicy(*c.New)
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
