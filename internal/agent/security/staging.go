package security

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// The times of staging.
const (
	stageLimit = 30 * time.Second       // from the first policy to its enforcement
	stagePoll  = 100 * time.Millisecond // how often the other nodes are looked at
	stageQuiet = 250 * time.Millisecond // how long all must be known, so that the datapath has written it
)

// staging holds back the first policies. While there is no policy no pod has an
// identity (they cost nothing then), so a rule that allows pods would allow
// nobody on the day the first policy comes. The rule:
//
//   - When policies begin to be needed, the endpoints that the node has are held:
//     they stay open, as they were a moment before. Sets and prefixes are written
//     already, only no held endpoint points to them.
//   - It ends, for all at once, when every other node whose agent has reported
//     publishes its endpoints and each of them, and each of this node, has an
//     identity; and in any case 30 s after it began. A node without an agent of
//     its own is not waited for, one that does not publish is until the end.
//   - A pod that starts meanwhile is never held. If a policy isolates it, its ADD
//     waits for the end: it is never open when it should not be, and does not
//     start to serve while those that it allows are strangers.
//   - It happens when policies begin to be needed: not when others join them, not
//     on a node without endpoints, and not when an agent starts and finds an
//     endpoint that is under a set.
type staging struct {
	since time.Time // zero: no staging
	quiet time.Time // since when nobody is waited for; zero while somebody is
	why   string
	held  map[uint32]bool
}

func (s *staging) active() bool { return !s.since.IsZero() }

func (s *staging) holds(endpoint uint32) bool { return s.held[endpoint] }

func (s *staging) drop(endpoint uint32) { delete(s.held, endpoint) }

// next is when to look again.
func (s *staging) next() time.Time {
	if !s.active() {
		return time.Time{}
	}
	return time.Now().Add(stagePoll)
}

// filter leaves out the endpoints that are held.
func (s *staging) filter(eps map[uint32]policy.EndpointPolicy) map[uint32]policy.EndpointPolicy {
	if len(s.held) == 0 {
		return eps
	}
	out := maps.Clone(eps)
	maps.DeleteFunc(out, func(id uint32, _ policy.EndpointPolicy) bool { return s.held[id] })
	return out
}

// over tells whether the wait has ended, given what is still waited for.
func (s *staging) over(why string) bool {
	now := time.Now()
	s.why = why
	if why != "" {
		s.quiet = time.Time{}
	} else if s.quiet.IsZero() {
		s.quiet = now
	}
	return now.Sub(s.since) >= stageLimit || !s.quiet.IsZero() && now.Sub(s.quiet) >= stageQuiet
}

// stageLocked begins staging unless the node enforces already, or has nothing to
// hold back.
func (e *Enforcer) stageLocked() {
	if len(e.members) == 0 {
		return
	}
	for id := range e.members {
		if s, ok := e.cfg.Datapath.SecurityOf(id); ok && (s.Policy.Ingress != policy.SetOpen || s.Policy.Egress != policy.SetOpen) {
			return
		}
	}
	e.stage = staging{since: time.Now(), held: map[uint32]bool{}}
	for id := range e.members {
		e.stage.held[id] = true
	}
	e.cfg.Log.Info("the first policies wait until the nodes know each other's pods", "endpoints", len(e.members), "atMost", stageLimit.String())
}

// releaseLocked puts the held endpoints under their policies when it is time.
func (e *Enforcer) releaseLocked(ctx context.Context) error {
	if !e.stage.active() {
		return nil
	}
	why := e.waitingLocked()
	if !e.stage.over(why) {
		return nil
	}
	u := policy.Update{Endpoints: map[uint32]policy.EndpointPolicy{}, Revokes: true}
	for id := range e.stage.held {
		if p, ok := e.engine.Subject(id); ok {
			u.Endpoints[id] = p
		}
	}
	took := time.Since(e.stage.since)
	e.stage = staging{}
	if why != "" {
		e.cfg.Log.Warn("policies are enforced although not all is known", "waitedFor", why, "after", took.String())
	} else {
		e.cfg.Log.Info("policies are enforced", "after", took.String())
	}
	if len(u.Endpoints) == 0 {
		return nil
	}
	if err := e.cfg.Datapath.ApplyPolicy(ctx, u); err != nil {
		return fmt.Errorf("enforce the first policies: %w", err)
	}
	return nil
}

// waitingLocked names what staging waits for, or "".
func (e *Enforcer) waitingLocked() string {
	for _, id := range slices.Sorted(maps.Keys(e.members)) {
		m := e.members[id]
		switch {
		case m.named() && !m.known:
			return fmt.Sprintf("pod %s of this node is not known", m.ep.Pod)
		case m.named() && m.identity == state.IdentityInit:
			return fmt.Sprintf("pod %s of this node has no identity yet", m.ep.Pod)
		}
	}
	nodes, _, err := e.cfg.Tables.Nodes()
	if err != nil {
		return err.Error()
	}
	for _, n := range nodes {
		if n.Name == e.cfg.NodeName || n.MTU == 0 { // no agent has reported there
			continue
		}
		strangers, ok := e.strangers[n.Name]
		switch {
		case !ok:
			return fmt.Sprintf("node %s has not published its endpoints yet", n.Name)
		case strangers > 0:
			return fmt.Sprintf("%d pods of node %s have no identity yet", strangers, n.Name)
		}
	}
	return ""
}
