package security

import (
	"context"
	"fmt"
	"time"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// member is one endpoint of this node.
type member struct {
	ep state.Endpoint
	// known says that the engine judges the endpoint: its pod's labels are known,
	// or it has no pod in Kubernetes.
	known bool
	pod   state.Pod
	// key is of the identity that the pod's labels stand for; empty while the pod
	// or its namespace is not known.
	key      string
	identity uint32
	since    time.Time // when it got the identity
	written  bool      // the identity is in the datapath
	measured bool      // the time to the first identity was taken
}

// named tells whether the endpoint belongs to a pod of Kubernetes.
func (m *member) named() bool { return m.ep.Pod.Name != "" }

// is tells whether the row is the endpoint's pod. A pod of the same name with
// another UID is not the same.
func (m *member) is(ref state.PodRef) bool { return isPod(m.ep.Pod, ref) }

func isPod(want, ref state.PodRef) bool {
	return want.Name == ref.Name && want.Namespace == ref.Namespace && (want.UID == "" || want.UID == ref.UID)
}

// Restore takes an endpoint that an earlier agent made. What it is under stays
// until the tables are complete.
func (e *Enforcer) Restore(ep state.Endpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.members[ep.ID] = &member{ep: ep, identity: state.IdentityInit, measured: true}
}

// Forget ends an endpoint that was admitted or restored; one that is not known is
// success.
func (e *Enforcer) Forget(endpoint uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.members[endpoint]; !ok {
		return
	}
	delete(e.members, endpoint)
	e.stage.drop(endpoint)
	e.engine.RemoveSubject(endpoint)
	e.cfg.Datapath.Forget(endpoint)
	e.notify()
}

// beginLocked takes over what an earlier agent left, once the tables are
// complete.
func (e *Enforcer) beginLocked() {
	e.begun, e.retry.dirty = true, true
	since := map[state.PodRef]state.PublishedEndpoint{}
	if own, ok, err := e.cfg.Tables.NodeEndpointsOf(e.cfg.NodeName); err == nil && ok {
		for _, ep := range own.Endpoints {
			since[state.PodRef{Namespace: ep.Pod.Namespace, Name: ep.Pod.Name}] = ep
		}
	}
	for id, m := range e.members {
		if s, ok := e.cfg.Datapath.SecurityOf(id); ok && s.Identity != state.IdentityUnknown {
			m.identity, m.written = s.Identity, true
		}
		if was := since[state.PodRef{Namespace: m.ep.Pod.Namespace, Name: m.ep.Pod.Name}]; was.Identity == m.identity {
			m.since = was.Since
		}
		e.findLocked(m)
	}
}

// findLocked looks for the member's pod where it is not known yet.
func (e *Enforcer) findLocked(m *member) {
	if m.known {
		return
	}
	if !m.named() || e.cfg.Mode == policy.ModeNever {
		e.learnLocked(m, state.Pod{})
	}
	if pod, ok := e.podRow(m.ep.Pod); ok {
		e.learnLocked(m, pod)
	}
}

// podRow reads the row of the pod, if it is that pod's.
func (e *Enforcer) podRow(ref state.PodRef) (state.Pod, bool) {
	pod, ok, err := e.cfg.Tables.PodByName(ref.Namespace, ref.Name)
	return pod, err == nil && ok && isPod(ref, pod.Ref)
}

// learnLocked takes what is known of the member's pod now.
func (e *Enforcer) learnLocked(m *member, pod state.Pod) {
	m.pod, m.known = pod, true
	e.engine.SetSubject(policy.Subject{
		Endpoint: m.ep.ID, Pod: m.ep.Pod, Labels: pod.Labels, Derived: e.derivedLocked(m), NamedPorts: pod.NamedPorts,
	})
	e.keyLocked(m)
}

// derivedLocked returns the labels that the member's pod has besides its own; nil
// for what is no pod. Those of its namespace come when that is known.
func (e *Enforcer) derivedLocked(m *member) map[string]string {
	if !m.named() {
		return nil
	}
	ns, _, err := e.cfg.Tables.NamespaceByName(m.ep.Pod.Namespace)
	if err != nil {
		ns = state.Namespace{}
	}
	return identity.PodLabels(state.Pod{Ref: m.ep.Pod, ServiceAccount: m.pod.ServiceAccount}, ns, e.cfg.ClusterName)
}

// keyLocked computes which identity the member should have.
func (e *Enforcer) keyLocked(m *member) {
	if !m.known || !m.named() {
		return
	}
	ns, ok, err := e.cfg.Tables.NamespaceByName(m.ep.Pod.Namespace)
	if err != nil || !ok {
		return // what it was keeps until the namespace is known
	}
	labels, ports := identity.Of(m.pod, ns, e.cfg.ClusterName, e.cfg.Filter)
	m.key = identity.Key(labels, ports)
}

// resolveLocked finds the member's identity. A pod whose labels changed keeps the
// old one until the new one exists; an identity whose object is gone is nobody's.
func (e *Enforcer) resolveLocked(m *member) {
	id := state.IdentityInit
	if found, ok := e.identities.Lookup(m.key); ok && m.key != "" {
		id = found.ID
	} else if _, ok := e.identities.ByID(m.identity); ok {
		id = m.identity
	}
	if id == m.identity && !m.since.IsZero() {
		return
	}
	if id != m.identity {
		m.written = false
	}
	m.identity, m.since = id, time.Now()
	if id != state.IdentityInit && !m.measured {
		m.measured = true
		e.cfg.Meter.Identified(max(time.Since(later(m.pod.CreatedAt, e.published.neededSince)), 0))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// identifyLocked brings the identities of the node's endpoints into the datapath.
func (e *Enforcer) identifyLocked(ctx context.Context) error {
	for id, m := range e.members {
		e.resolveLocked(m)
		if m.written {
			continue
		}
		if err := e.cfg.Datapath.SetIdentity(ctx, id, m.identity); err != nil {
			return fmt.Errorf("set identity %d of endpoint %d (%s): %w", m.identity, id, m.ep.Pod, err)
		}
		m.written = true
	}
	return nil
}
