package security

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// withdrawDelay is how long the node's endpoints stay published after the last
// policy went: the next policy then finds them, and who replaces policies by
// deleting all of them first does not make every node write twice.
const withdrawDelay = time.Minute

// published is what this node tells the others.
type published struct {
	needed      bool
	neededSince time.Time
	written     bool // the last list was given to the cluster, or withdrawn
	last        []state.PublishedEndpoint
	withdrawAt  time.Time // zero: not to be withdrawn
}

func (p *published) next() time.Time { return p.withdrawAt }

// neededLocked tells whether anybody asks for identities.
func (e *Enforcer) neededLocked() bool {
	return e.cfg.Mode == policy.ModeAlways || e.cfg.Mode != policy.ModeNever && len(e.policies) > 0
}

// weighLocked follows whether policies are needed at all.
func (e *Enforcer) weighLocked() {
	p, now := &e.published, time.Now()
	needed := e.neededLocked()
	switch {
	case needed && !p.needed:
		p.neededSince, p.withdrawAt, p.written = now, time.Time{}, false
		e.stageLocked()
	case !needed && p.needed:
		p.withdrawAt = now.Add(withdrawDelay)
		e.stage = staging{}
	case !needed && !p.written && p.withdrawAt.IsZero(): // what an earlier agent published
		p.withdrawAt = now.Add(withdrawDelay)
	}
	p.needed = needed
}

// publishLocked tells the other nodes who is here, for as long as anybody needs
// to know.
func (e *Enforcer) publishLocked() {
	p := &e.published
	if !p.withdrawAt.IsZero() && !time.Now().Before(p.withdrawAt) {
		e.cfg.Cluster.WithdrawEndpoints()
		*p = published{needed: p.needed, written: true}
		return
	}
	if !p.needed && (p.withdrawAt.IsZero() || p.last == nil) {
		return
	}
	list := e.listLocked()
	if p.written && slices.EqualFunc(p.last, list, samePublished) {
		return
	}
	p.last, p.written = list, true
	e.cfg.Cluster.PublishEndpoints(list)
}

// listLocked is every endpoint of a pod of the node, ordered by namespace and name.
func (e *Enforcer) listLocked() []state.PublishedEndpoint {
	list := make([]state.PublishedEndpoint, 0, len(e.members))
	for _, m := range e.members {
		if !m.named() {
			continue
		}
		list = append(list, state.PublishedEndpoint{Pod: m.ep.Pod, Addrs: m.ep.Addrs(), Identity: m.identity, Since: m.since})
	}
	slices.SortFunc(list, func(a, b state.PublishedEndpoint) int {
		return cmp.Or(cmp.Compare(a.Pod.Namespace, b.Pod.Namespace), cmp.Compare(a.Pod.Name, b.Pod.Name), slices.CompareFunc(a.Addrs, b.Addrs, netip.Addr.Compare))
	})
	return list
}

func samePublished(a, b state.PublishedEndpoint) bool {
	return a.Pod == b.Pod && a.Identity == b.Identity && a.Since.Equal(b.Since) && slices.Equal(a.Addrs, b.Addrs)
}
