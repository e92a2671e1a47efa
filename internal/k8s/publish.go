package k8s

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/rest"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/timing"
)

const (
	endpointsResource = "placidendpoints"
	// endpointsMinWait is the least time between two writes of this node's
	// PlacidEndpoints, and the first wait after an error.
	endpointsMinWait = 100 * time.Millisecond
)

// errChanged says that the object is another one than it was thought to be.
var errChanged = errors.New("the object changed meanwhile")

// intent is what should become of this node's PlacidEndpoints.
type intent int

const (
	leaveAsIs intent = iota // nobody has said
	publish
	withdraw
)

// endpointsPublisher brings this node's PlacidEndpoints to what was set. It
// compares with what the watch shows or, where nothing is known, with what the
// API server says.
type endpointsPublisher struct {
	core, placid rest.Interface
	node         string
	log          *slog.Logger
	wake         chan struct{}
	retry        chan struct{} // ends the wait after an error
	owner        types.UID     // of the Node object; run's own, "" is not known

	mu      sync.Mutex
	intent  intent
	want    []v1alpha1.PublishedEndpoint // ordered
	known   bool                         // whether have is
	have    *v1alpha1.PlacidEndpoints    // nil: there is no object
	version string                       // newest resource version that was seen of it
	health  agentapi.Condition
}

func newEndpointsPublisher(core, placid rest.Interface, node string, log *slog.Logger) *endpointsPublisher {
	return &endpointsPublisher{
		core: core, placid: placid, node: node, log: log,
		wake: make(chan struct{}, 1), retry: make(chan struct{}, 1),
		health: agentapi.Condition{Name: "endpoints published", OK: true, Since: time.Now()},
	}
}

// PublishEndpoints sets what this node's PlacidEndpoints object should show;
// none is an object without endpoints. It does not wait: Run writes the last
// state that was set, at most ten times a second, and goes on trying for as
// long as the API server is away.
func (c *Client) PublishEndpoints(eps []state.PublishedEndpoint) {
	c.endpoints.set(publish, publishedForm(eps))
}

// WithdrawEndpoints has this node's PlacidEndpoints object deleted, and kept
// away. It does not wait, as PublishEndpoints.
func (c *Client) WithdrawEndpoints() { c.endpoints.set(withdraw, nil) }

// EndpointsHealth tells whether this node's PlacidEndpoints object is what was
// set last, apart from a write that is under way. When it is not, Since is the
// time of the first failed write, and Message names the error.
func (c *Client) EndpointsHealth() agentapi.Condition {
	c.endpoints.mu.Lock()
	defer c.endpoints.mu.Unlock()
	return c.endpoints.health
}

func (p *endpointsPublisher) set(i intent, want []v1alpha1.PublishedEndpoint) {
	p.mu.Lock()
	p.intent, p.want = i, want
	p.mu.Unlock()
	signal(p.wake)
}

// observe takes the object as the watch or an answer shows it. The watch may be
// behind the answers: what is older than what is known is not news.
func (p *endpointsPublisher) observe(obj *v1alpha1.PlacidEndpoints) {
	p.mu.Lock()
	if !p.olderLocked(obj.ResourceVersion) {
		p.known, p.have, p.version = true, obj, obj.ResourceVersion
	}
	p.mu.Unlock()
	signal(p.wake)
}

// observeGone takes the news that the object was deleted.
func (p *endpointsPublisher) observeGone(version string) {
	p.mu.Lock()
	if !p.olderLocked(version) {
		p.known, p.have, p.version = true, nil, version
	}
	p.mu.Unlock()
	signal(p.wake)
}

func (p *endpointsPublisher) olderLocked(version string) bool {
	order, err := resourceversion.CompareResourceVersion(version, p.version)
	return err == nil && order < 0
}

// doubt says that the object may not be what it is thought to be.
func (p *endpointsPublisher) doubt() {
	p.mu.Lock()
	p.known = false
	p.mu.Unlock()
	signal(p.wake)
}

func (p *endpointsPublisher) retryNow() { signal(p.retry) }

// signal sets a token unless one is there.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (p *endpointsPublisher) run(ctx context.Context) {
	wait := endpointsMinWait
	for {
		wrote, err := p.step(ctx)
		if ctx.Err() != nil {
			return
		}
		p.note(err)
		switch {
		case err != nil:
			if wait = p.pause(ctx, wait); wait == 0 {
				return
			}
			continue
		case wrote:
			wait = endpointsMinWait
			if !timing.Sleep(ctx, endpointsMinWait) {
				return
			}
			continue
		}
		wait = endpointsMinWait
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
	}
}

// pause waits after an error, until the API server is seen to answer. It gives
// the next wait, and 0 when ctx has ended.
func (p *endpointsPublisher) pause(ctx context.Context, d time.Duration) time.Duration {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return 0
	case <-p.retry:
		return endpointsMinWait
	case <-t.C:
		return min(2*d, patchMaxWait)
	}
}

// note keeps the result of a step for EndpointsHealth, and logs an outage once
// when it begins and once when it ends. That somebody else changed the object
// is not one.
func (p *endpointsPublisher) note(err error) {
	if errors.Is(err, errChanged) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.health.OK != (err == nil) {
		p.health.OK, p.health.Since = err == nil, time.Now()
		if err != nil {
			p.log.Warn("this node's endpoints are not published; trying again", "node", p.node, "err", err)
		} else {
			p.log.Info("this node's endpoints are published again", "node", p.node)
		}
	}
	p.health.Message = ""
	if err != nil {
		p.health.Message = err.Error()
	}
}

// step makes at most one write towards what was set.
func (p *endpointsPublisher) step(ctx context.Context) (wrote bool, err error) {
	p.mu.Lock()
	todo, want, known, have := p.intent, p.want, p.known, p.have
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patchTimeout)
	defer cancel()
	if todo == leaveAsIs {
		return false, nil
	}
	if !known {
		if have, err = p.get(ctx); err != nil {
			return false, err
		}
	}
	switch {
	case todo == withdraw && have == nil:
		return false, nil
	case todo == withdraw:
		return true, p.remove(ctx, have)
	case have == nil:
		return true, p.create(ctx, want)
	}
	return p.update(ctx, have, want)
}

func (p *endpointsPublisher) get(ctx context.Context) (*v1alpha1.PlacidEndpoints, error) {
	var got v1alpha1.PlacidEndpoints
	err := p.placid.Get().MaxRetries(0).Resource(endpointsResource).Name(p.node).Do(ctx).Into(&got)
	if apierrors.IsNotFound(err) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.known { // else the watch was faster, and may show one that was made since
			p.known, p.have = true, nil
		}
		return p.have, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get PlacidEndpoints %s: %w", p.node, err)
	}
	p.observe(&got)
	return &got, nil
}

func (p *endpointsPublisher) remove(ctx context.Context, have *v1alpha1.PlacidEndpoints) error {
	opts := metav1.NewPreconditionDeleteOptions(string(have.UID))
	err := p.placid.Delete().MaxRetries(0).Resource(endpointsResource).Name(p.node).Body(opts).Do(ctx).Error()
	if err != nil && !apierrors.IsNotFound(err) {
		return p.failed("delete", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.have != nil && p.have.UID == have.UID { // else the watch was faster, and may show the next one
		p.known, p.have = true, nil
	}
	return nil
}

func (p *endpointsPublisher) create(ctx context.Context, want []v1alpha1.PublishedEndpoint) error {
	p.owner = "" // a Node that was made anew has another UID
	ref, err := p.ownerRef(ctx)
	if err != nil {
		return err
	}
	obj := &v1alpha1.PlacidEndpoints{
		ObjectMeta: metav1.ObjectMeta{Name: p.node, OwnerReferences: []metav1.OwnerReference{ref}}, Endpoints: want,
	}
	var got v1alpha1.PlacidEndpoints
	err = p.placid.Post().MaxRetries(0).Resource(endpointsResource).Param("fieldManager", fieldManager).Body(obj).Do(ctx).Into(&got)
	if err != nil {
		return p.failed("create", err)
	}
	p.observe(&got)
	return nil
}

// update writes what differs, and mends the owner reference.
func (p *endpointsPublisher) update(ctx context.Context, have *v1alpha1.PlacidEndpoints, want []v1alpha1.PublishedEndpoint) (wrote bool, err error) {
	ref, err := p.ownerRef(ctx)
	if err != nil {
		return false, err
	}
	owned := len(have.OwnerReferences) == 1 && have.OwnerReferences[0].UID == ref.UID
	if owned && samePublished(have.Endpoints, want) {
		return false, nil
	}
	obj := &v1alpha1.PlacidEndpoints{ObjectMeta: *have.ObjectMeta.DeepCopy(), Endpoints: want}
	obj.OwnerReferences = []metav1.OwnerReference{ref}
	var got v1alpha1.PlacidEndpoints
	err = p.placid.Put().MaxRetries(0).Resource(endpointsResource).Name(p.node).Param("fieldManager", fieldManager).
		Body(obj).Do(ctx).Into(&got)
	if apierrors.IsNotFound(err) { // it can also be created anew
		return true, fmt.Errorf("%w: %w", errChanged, p.failed("update", err))
	}
	if err != nil {
		return true, p.failed("update", err)
	}
	p.observe(&got)
	return true, nil
}

// failed wraps the error of a write. The next step asks for the object first.
func (p *endpointsPublisher) failed(what string, err error) error {
	p.mu.Lock()
	p.known, p.version = false, ""
	p.mu.Unlock()
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("%s PlacidEndpoints %s: %w: %w", what, p.node, errChanged, err)
	}
	return fmt.Errorf("%s PlacidEndpoints %s: %w", what, p.node, err)
}

// ownerRef names the Node object, with which the PlacidEndpoints object goes.
func (p *endpointsPublisher) ownerRef(ctx context.Context) (metav1.OwnerReference, error) {
	if p.owner == "" {
		var node corev1.Node
		if err := p.core.Get().MaxRetries(0).Resource("nodes").Name(p.node).Do(ctx).Into(&node); err != nil {
			return metav1.OwnerReference{}, fmt.Errorf("get Node %s, the owner of PlacidEndpoints: %w", p.node, err)
		}
		p.owner = node.UID
	}
	return metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: p.node, UID: p.owner}, nil
}
