package operator

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/placid-net/placid/api/v1alpha1"
)

// The values of Config.EnablePolicy.
const (
	PolicyDefault = "default" // identities exist while a policy does
	PolicyAlways  = "always"  // identities exist always
	PolicyNever   = "never"   // no identities
)

// allocateTimeout bounds one search for a number; it must be far below passRest.
const allocateTimeout = time.Minute

// urgent is the priority of label sets that a pod came for; others wait.
const urgent = 1

const reasonIdentityFailed = "IdentityAllocationFailed"

// identities keeps one PlacidIdentity for each label set that pods have, while
// identities are needed, and deletes those that none has had for the grace.
type identities struct {
	informers cache.Cache
	sets      *labelSets
	numbers   *numbers
	queue     priorityqueue.PriorityQueue[string] // keys of label sets
	reports   *reports
	events    events.EventRecorder
	metrics   *identityMetrics
	logger    *slog.Logger
	now       func() time.Time
	pause     func(context.Context, time.Duration)

	mode     string // Config.EnablePolicy
	policies bool   // Config.NetworkPolicies
	// cilium and clusterwide say the same of Cilium's policies, where the cluster has
	// their definitions.
	cilium, clusterwide bool
	grace               time.Duration // Config.IdentityGCInterval
	// first is closed when identities are needed for the first time.
	first chan struct{}
	// troubled are the label sets whose last attempt failed. It is used by the
	// worker alone.
	troubled map[string]bool
}

func newQueue() priorityqueue.PriorityQueue[string] {
	return priorityqueue.New("placididentity", func(o *priorityqueue.Opts[string]) {
		o.RateLimiter = workqueue.NewTypedItemExponentialFailureRateLimiter[string](minBackoff, maxBackoff)
	})
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (d *identities) NeedLeaderElection() bool { return true }

// Start implements manager.Runnable: it works until ctx ends. Pods and namespaces
// are watched from the moment that identities are needed.
func (d *identities) Start(ctx context.Context) error {
	watches := []watched{
		{&v1alpha1.PlacidIdentity{}, d.identityEvents()},
		{&v1alpha1.PlacidEndpoints{}, d.endpointsEvents()},
	}
	if d.mode != PolicyNever {
		watches = append(watches, d.policyWatches()...)
	}
	if err := d.follow(ctx, watches...); err != nil {
		return err
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	defer d.queue.ShutDown()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts.Go(func() { d.work(ctx) })
	if d.grace > 0 {
		parts.Go(func() { d.collectLoop(ctx) })
	}
	parts.Go(func() { d.reports.run(ctx) })
	if d.mode == PolicyAlways {
		d.need(true)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-d.first:
	}
	d.logger.Info("identities are needed: watching pods and namespaces", "policyMode", d.mode)
	if err := d.follow(ctx, watched{&corev1.Namespace{}, d.namespaceEvents()}, watched{&corev1.Pod{}, d.podEvents()}); err != nil {
		return err
	}
	d.sets.setComplete()
	<-ctx.Done()
	return nil
}

// watched is a kind of object and who hears of it.
type watched struct {
	object  client.Object
	handler toolscache.ResourceEventHandler
}

// follow starts watches one after the other, each when the one before has told of
// all objects there are.
func (d *identities) follow(ctx context.Context, watches ...watched) error {
	for _, w := range watches {
		informer, err := d.informers.GetInformer(ctx, w.object)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch %T: %w", w.object, err)
		}
		handle, err := informer.AddEventHandler(w.handler)
		if err != nil {
			return fmt.Errorf("watch %T: %w", w.object, err)
		}
		if !toolscache.WaitFor(ctx, "", handle.HasSyncedChecker()) {
			return nil // the context ended
		}
	}
	return nil
}

// need says whether identities are needed.
func (d *identities) need(needed bool) {
	d.sets.setNeeded(needed)
	if !needed {
		return
	}
	select {
	case <-d.first:
	default:
		close(d.first)
	}
}

// work gives identities to the label sets of the queue until it is shut down.
func (d *identities) work(ctx context.Context) {
	for {
		key, priority, shutdown := d.queue.GetWithPriority()
		if shutdown {
			return
		}
		if err := d.assign(ctx, key); err == nil {
			d.queue.Forget(key)
		} else if ctx.Err() == nil {
			d.queue.AddWithOpts(priorityqueue.AddOpts{RateLimited: true, Priority: &priority}, key)
		}
		d.queue.Done(key)
	}
}

// wake puts a label set into the queue.
func (d *identities) wake(key string, fresh bool) {
	priority := 0
	if fresh {
		priority = urgent
	}
	d.queue.AddWithOpts(priorityqueue.AddOpts{Priority: &priority}, key)
}

// assign makes the identity of a label set if it needs one.
func (d *identities) assign(ctx context.Context, key string) error {
	set, fresh, ok := d.sets.want(key)
	if !ok {
		delete(d.troubled, key)
		return nil
	}
	search, cancel := context.WithTimeout(ctx, allocateTimeout)
	defer cancel()
	object, created, err := d.numbers.allocate(search, set.labels, set.ports)
	if err != nil {
		d.failed(ctx, set, err)
		return err
	}
	delete(d.troubled, key)
	d.sets.made(set, object)
	if created {
		d.metrics.created.Inc()
		d.logger.Info("created an identity", "identity", object.Name, "labels", object.Labels)
		if fresh {
			d.reports.observe(object.Labels, set.namespace)
		}
	}
	return nil
}

// failed tells that a label set has no identity and why, the first time with an
// event.
func (d *identities) failed(ctx context.Context, set *labelSet, err error) {
	if ctx.Err() != nil {
		return
	}
	d.metrics.failed(operationCreate)
	d.logger.Error("pods wait for an identity; it is tried again", "namespace", set.namespace, "labels", set.labels, "error", err)
	if d.troubled[set.key] {
		return
	}
	d.troubled[set.key] = true
	text := fmt.Sprintf("Pods with the labels %s wait for an identity and are under the policies for unknown pods: %v", labelText(set.labels), err)
	d.events.Eventf(d.sets.namespace(set.namespace), nil, corev1.EventTypeWarning, reasonIdentityFailed, "AllocateIdentity", "%s", clip(text, maxEventNote))
}

// pauseFor waits, or until ctx ends.
func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
