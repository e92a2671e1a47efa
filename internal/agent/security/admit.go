package security

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// How long a new pod waits for what its policies need.
const (
	knownWait    = 10 * time.Second // for the tables, after the start of the agent
	podWait      = 5 * time.Second  // for its row and its namespace's, before the API server is asked for it
	podGet       = 5 * time.Second  // for that answer
	identityWait = 2 * time.Second  // for its identity; it goes on without
	stageWait    = stageLimit + time.Second
)

// ErrNotReady is why a pod cannot be served yet.
var ErrNotReady = errors.New("network policies are not ready")

// errUnknownPod says that a policy needs the pod's labels and they are not known.
var errUnknownPod = errors.New("the pod's labels are not known yet")

// Admit puts a new endpoint under its policies, before it gets its interface. It
// waits for what is missing, within bounds; where nothing asks for policies it
// waits for nothing. An error that is ErrNotReady says what is missing; the
// endpoint is forgotten then. Otherwise Forget is to be called when the endpoint
// ends, or when it is not made after all.
func (e *Enforcer) Admit(ctx context.Context, ep state.Endpoint) error {
	ok, err := e.wait(ctx, knownWait, func() bool { return e.begun })
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: policies, namespaces, pods and identities are not known yet since the agent started; "+
			"see whether it reaches the API server (placid status) and whether the operator has made the resources", ErrNotReady)
	}
	if err := e.enter(ctx, ep); err != nil {
		e.Forget(ep.ID)
		return err
	}
	if err := e.settle(ctx, ep); err != nil {
		e.Forget(ep.ID)
		return err
	}
	return nil
}

// enter makes the endpoint known to the engine and writes its policies.
func (e *Enforcer) enter(ctx context.Context, ep state.Endpoint) error {
	var given *state.Pod // as the API server has it, where the watch has not
	for {
		_, err := e.wait(ctx, podWait, func() bool {
			_, row := e.podRow(ep.Pod)
			// Without its namespace nobody can say which policies select the pod.
			_, ns, err := e.cfg.Tables.NamespaceByName(ep.Pod.Namespace)
			return row && (ns || err != nil) || ep.Pod.Name == "" || given != nil || !e.neededLocked()
		})
		if err != nil {
			return err
		}
		if err = e.enterNow(ctx, ep, given); !errors.Is(err, errUnknownPod) {
			return err
		}
		if given, err = e.ask(ctx, ep.Pod); err != nil {
			return err
		}
	}
}

// ask reads the pod from the API server.
func (e *Enforcer) ask(ctx context.Context, ref state.PodRef) (*state.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, podGet)
	defer cancel()
	pod, ok, err := e.cfg.Cluster.Pod(ctx, ref)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: pod %s is needed for its labels and was not seen for %v: %w", ErrNotReady, ref, podWait, err)
	case !ok || !isPod(ref, pod.Ref):
		return nil, fmt.Errorf("%w: pod %s (UID %q) is needed for its labels, and the API server does not have it", ErrNotReady, ref, ref.UID)
	}
	return &pod, nil
}

// enterNow fails with errUnknownPod when the pod's labels are needed and not
// known.
func (e *Enforcer) enterNow(ctx context.Context, ep state.Endpoint, given *state.Pod) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pullLocked()
	e.weighLocked() // before the endpoint is there: a new pod is never held
	m := &member{ep: ep, identity: state.IdentityInit, since: time.Now()}
	row, ok := e.podRow(ep.Pod)
	switch {
	case ok:
		given = &row
	case !m.named():
		given = &state.Pod{}
	case given == nil && e.neededLocked():
		return errUnknownPod
	}
	e.members[ep.ID] = m
	if given != nil {
		e.learnLocked(m, *given)
	}
	// What is written must be written whole, even when the caller has given up.
	if err := e.flushLocked(context.WithoutCancel(ctx)); err != nil {
		e.notify()
		return fmt.Errorf("%w: put pod %s under its policies: %w", ErrNotReady, ep.Pod, err)
	}
	e.publishLocked()
	e.problemsLocked()
	e.changedLocked()
	e.notify() // Run plans its next turn
	return nil
}

// settle waits for the endpoint's identity, and for the end of staging if a policy
// isolates it.
func (e *Enforcer) settle(ctx context.Context, ep state.Endpoint) error {
	if ep.Pod.Name != "" {
		if _, err := e.wait(ctx, identityWait, func() bool {
			m := e.members[ep.ID]
			return !e.neededLocked() || m == nil || m.identity != state.IdentityInit
		}); err != nil {
			return err
		}
	}
	ok, err := e.wait(ctx, stageWait, func() bool {
		p, _ := e.engine.Subject(ep.ID)
		return !e.stage.active() || e.stage.holds(ep.ID) || p == policy.EndpointPolicy{}
	})
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: pod %s waits for the first policies to be enforced", ErrNotReady, ep.Pod)
	}
	return nil
}

// wait calls ready under the lock, now and after every change, until it is true.
// It returns false when the limit has passed, and an error when ctx has ended.
func (e *Enforcer) wait(ctx context.Context, limit time.Duration, ready func() bool) (bool, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		e.mu.Lock()
		ok, changed := ready(), e.changed
		e.mu.Unlock()
		if ok {
			return true, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return false, nil
		case <-ctx.Done():
			return false, fmt.Errorf("wait for network policies: %w", context.Cause(ctx))
		}
	}
}
