package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/placid-net/placid/internal/agent/security"
	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/ipam"
	"github.com/placid-net/placid/internal/state"
)

// reasonNoAddress is the reason of the event on a pod that gets no address.
const reasonNoAddress = "FailedAddressAllocation"

// connector is the part of the datapath that makes and takes pod interfaces.
type connector interface {
	Connect(ctx context.Context, ep state.Endpoint, record func(state.Endpoint) error) (state.Endpoint, error)
	Disconnect(ctx context.Context, ep state.Endpoint) error
	Check(ctx context.Context, ep state.Endpoint) error
	Exists(ep state.Endpoint) (bool, error)
}

var _ connector = (*datapath.Datapath)(nil)

// admitter puts endpoints under their policies.
type admitter interface {
	// Restore takes over an endpoint that an earlier agent made.
	Restore(ep state.Endpoint)
	// Admit returns when the endpoint may get its interface. An error that is
	// security.ErrNotReady says what is not known yet.
	Admit(ctx context.Context, ep state.Endpoint) error
	// Forget ends an endpoint that was restored or admitted.
	Forget(endpoint uint32)
}

var _ admitter = (*security.Enforcer)(nil)

// endpoints makes, restores and removes the node's endpoints. Requests for one
// attachment are served one after another, those for different ones together.
type endpoints struct {
	tables    *state.Tables
	datapath  connector
	security  admitter
	addresses *addresses
	store     store
	log       *slog.Logger
	now       func() time.Time
	// report tells the cluster about a pod that cannot be served.
	report func(pod state.PodRef, reason, message string)

	mu     sync.Mutex
	nextID uint32
	locks  map[state.AttachmentID]*attachmentLock
}

type attachmentLock struct {
	sync.Mutex
	users int
}

// lock serialises work on one attachment; call the result to unlock.
func (e *endpoints) lock(a state.AttachmentID) func() {
	e.mu.Lock()
	l := e.locks[a]
	if l == nil {
		l = &attachmentLock{}
		e.locks[a] = l
	}
	l.users++
	e.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		e.mu.Lock()
		defer e.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(e.locks, a)
		}
	}
}

// add gives the attachment its interface and addresses. Asked again, it
// returns what is there, after comparing it with the kernel.
func (e *endpoints) add(ctx context.Context, req agentapi.CNIRequest) (agentapi.CNIResult, error) {
	defer e.lock(req.Attachment)()
	old, ok, err := e.tables.EndpointByAttachment(req.Attachment)
	if err != nil {
		return agentapi.CNIResult{}, err
	}
	if ok {
		if old.Netns == req.Netns && slices.Equal(old.HostPorts, req.HostPorts) && e.datapath.Check(ctx, old) == nil {
			return result(old), nil
		}
		if err = e.removeLocked(ctx, old); err != nil {
			return agentapi.CNIResult{}, err
		}
	}
	ep, err := e.create(ctx, req)
	if err != nil {
		return agentapi.CNIResult{}, err
	}
	e.log.Info("endpoint added", "endpoint", ep.ID, "pod", ep.Pod.String(), "ipv4", ep.IPv4, "ipv6", ep.IPv6)
	return result(ep), nil
}

func (e *endpoints) create(ctx context.Context, req agentapi.CNIRequest) (state.Endpoint, error) {
	v4, v6, err := e.addresses.allocate(req.Attachment)
	if err != nil {
		if errors.Is(err, ipam.ErrExhausted) {
			e.report(req.Pod, reasonNoAddress, err.Error())
			return state.Endpoint{}, &agentapi.Error{Code: agentapi.CodeExhausted, Message: err.Error()}
		}
		return state.Endpoint{}, &agentapi.Error{Code: agentapi.CodeNotReady, Message: err.Error()}
	}
	ep := state.Endpoint{
		ID: e.takeID(), Attachment: req.Attachment, Netns: req.Netns, Pod: req.Pod,
		IPv4: v4, IPv6: v6, Bandwidth: req.Bandwidth, MTU: req.MTU, CreatedAt: e.now().UTC(), HostPorts: req.HostPorts,
	}
	if err = e.security.Admit(ctx, ep); err != nil {
		e.addresses.alloc.Release(req.Attachment.String(), e.now())
		if errors.Is(err, security.ErrNotReady) {
			return state.Endpoint{}, &agentapi.Error{Code: agentapi.CodeNotReady, Message: err.Error()}
		}
		return state.Endpoint{}, err
	}
	made, err := e.datapath.Connect(ctx, ep, func(ep state.Endpoint) error {
		return errors.Join(e.store.putEndpoint(ep), e.addresses.taken(ep))
	})
	if err != nil {
		e.security.Forget(ep.ID)
		err = errors.Join(err, e.forget(ep))
		e.addresses.alloc.Release(req.Attachment.String(), e.now())
		return state.Endpoint{}, err
	}
	return made, nil
}

// takeID returns the next number that no endpoint has.
func (e *endpoints) takeID() uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nextID++
	return e.nextID
}

func result(ep state.Endpoint) agentapi.CNIResult {
	r := agentapi.CNIResult{Endpoint: ep, HostMAC: pair.RouterMAC()}
	if ep.IPv4.IsValid() {
		r.Gateway4 = pair.Gateway4()
	}
	if ep.IPv6.IsValid() {
		r.Gateway6 = pair.Gateway6()
	}
	return r
}

// del removes the attachment; one that is absent is success.
func (e *endpoints) del(ctx context.Context, a state.AttachmentID) error {
	defer e.lock(a)()
	ep, ok, err := e.tables.EndpointByAttachment(a)
	if err != nil || !ok {
		return err
	}
	if err := e.removeLocked(ctx, ep); err != nil {
		return err
	}
	e.log.Info("endpoint removed", "endpoint", ep.ID, "pod", ep.Pod.String())
	return nil
}

// removeLocked gives the addresses back last: until then nobody can get them.
func (e *endpoints) removeLocked(ctx context.Context, ep state.Endpoint) error {
	err := e.datapath.Disconnect(ctx, ep)
	if err == nil {
		err = e.forget(ep)
	}
	if err != nil {
		// Whoever tries again has to find it.
		return errors.Join(err, e.tables.UpsertEndpoint(ep))
	}
	e.security.Forget(ep.ID)
	e.addresses.alloc.Release(ep.Attachment.String(), e.now())
	return nil
}

// forget marks the addresses before it removes the endpoint's file: a crash
// between the two leaves an endpoint without a device, which is removed again.
func (e *endpoints) forget(ep state.Endpoint) error {
	if err := e.addresses.mark(e.now(), ep.Addrs()...); err != nil {
		return err
	}
	return e.store.deleteEndpoint(ep.ID)
}

// check compares the attachment with the kernel and with what the caller
// expects.
func (e *endpoints) check(ctx context.Context, req agentapi.CNIRequest) error {
	defer e.lock(req.Attachment)()
	ep, ok, err := e.tables.EndpointByAttachment(req.Attachment)
	if err != nil {
		return err
	}
	if !ok {
		return &agentapi.Error{Code: agentapi.CodeNotFound, Message: fmt.Sprintf("no endpoint for container %s, interface %s", req.Attachment.ContainerID, req.Attachment.IfName)}
	}
	for _, want := range req.Expect {
		if want != ep.IPv4 && want != ep.IPv6 {
			return &agentapi.Error{Code: agentapi.CodeConflict, Message: fmt.Sprintf("the previous result has %s, endpoint %d has %v", want, ep.ID, ep.Addrs())}
		}
	}
	if err := e.datapath.Check(ctx, ep); err != nil {
		return &agentapi.Error{Code: agentapi.CodeConflict, Message: err.Error()}
	}
	return nil
}

// gc removes every endpoint whose attachment is not valid any more.
func (e *endpoints) gc(ctx context.Context, valid []state.AttachmentID) error {
	keep := make(map[state.AttachmentID]bool, len(valid))
	for _, a := range valid {
		keep[a] = true
	}
	eps, _, err := e.tables.Endpoints()
	if err != nil {
		return err
	}
	var errs []error
	for _, ep := range eps {
		if !keep[ep.Attachment] {
			errs = append(errs, e.del(ctx, ep.Attachment))
		}
	}
	return errors.Join(errs...)
}

// restore reads what an earlier agent left: endpoints that still have their
// interface go on, the others give their addresses back.
func (e *endpoints) restore() error {
	eps, junk, err := e.store.loadEndpoints()
	if err != nil {
		return err
	}
	for _, err := range junk {
		e.log.Error("endpoint file set aside", "error", err)
	}
	if err := e.addresses.restoreReleased(); err != nil {
		return err
	}
	for _, ep := range eps {
		e.nextID = max(e.nextID, ep.ID)
		alive, err := e.datapath.Exists(ep)
		if err != nil {
			return err
		}
		if !alive {
			e.log.Warn("endpoint lost its interface while no agent ran", "endpoint", ep.ID, "pod", ep.Pod.String())
			if err := errors.Join(e.addresses.markReleased(ep), e.store.deleteEndpoint(ep.ID)); err != nil {
				return err
			}
			continue
		}
		if err := errors.Join(e.addresses.restore(ep), e.tables.UpsertEndpoint(ep)); err != nil {
			return fmt.Errorf("restore endpoint %d (%s): %w", ep.ID, ep.Pod, err)
		}
		e.security.Restore(ep)
	}
	e.log.Info("endpoints restored", "count", len(eps), "junk", len(junk))
	return nil
}
