package operator

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/state"
)

// grace is how long the tests keep an unused identity.
const grace = 15 * time.Minute

// clock is a time that tests move.
type clock struct{ t time.Time }

func newClock() *clock                { return &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }
func (c *clock) now() time.Time       { return c.t }
func (c *clock) pass(d time.Duration) { c.t = c.t.Add(d) }

// newIdentityStore is a store that gives new objects a UID, as an API server does.
func newIdentityStore(t tb, objects ...client.Object) client.WithWatch {
	t.Helper()
	var uids atomic.Int64
	return interceptor.NewClient(newStore(t, objects...), interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if o.GetUID() == "" {
				o.SetUID(types.UID(fmt.Sprintf("uid-%d", uids.Add(1))))
				defer func() {
					if o.GetResourceVersion() == "" {
						o.SetUID("") // it was not created
					}
				}()
			}
			return c.Create(ctx, o, opts...)
		},
	})
}

// office is the identities' part of an operator, without informers and goroutines:
// look tells it what changed in the store, settle does the work that it woke.
type office struct {
	*identities
	t      tb
	store  client.WithWatch
	clock  *clock
	woken  map[string]bool
	urgent map[string]bool
	waits  []time.Duration
	events *events.FakeRecorder
	seen   map[string]client.Object
	began  bool
}

type officeOptions struct {
	mode        string // PolicyDefault when empty
	labels      []string
	first, last uint32
}

// newOffice returns an office that works through client; it sees store.
func newOffice(t tb, through client.Client, store client.WithWatch, c *clock, o officeOptions) *office {
	t.Helper()
	filter, err := identity.ParseFilter(o.labels)
	mustDo(t, err)
	f := &office{
		t: t, store: store, clock: c, woken: map[string]bool{}, urgent: map[string]bool{},
		events: events.NewFakeRecorder(100_000), seen: map[string]client.Object{},
	}
	if o.last == 0 {
		o.first, o.last = state.IdentityMin, state.IdentityMax
	}
	if o.mode == "" {
		o.mode = PolicyDefault
	}
	sets := newLabelSets("lab", filter, c.now)
	sets.wake = func(key string, urgent bool) {
		f.woken[key] = true
		f.urgent[key] = f.urgent[key] || urgent
	}
	sets.waited = func(d time.Duration) { f.waits = append(f.waits, d) }
	m := newIdentityMetrics(sets)
	logger := slog.New(slog.DiscardHandler)
	f.identities = &identities{
		sets: sets, numbers: &numbers{client: through, live: through, first: o.first, last: o.last, now: c.now},
		reports: newReports(filter, sets, f.events, m, logger, c.now), events: f.events, metrics: m, logger: logger,
		now: c.now, pause: func(context.Context, time.Duration) {}, mode: o.mode, policies: true, grace: grace,
		first: make(chan struct{}), troubled: map[string]bool{},
	}
	if o.mode == PolicyAlways {
		f.need(true)
	}
	return f
}

// look is what the watches do: it tells of all that changed since it was last
// called, pods and namespaces only once identities were needed.
func (f *office) look() {
	f.t.Helper()
	now := map[string]client.Object{}
	handlers := map[string]toolscache.ResourceEventHandler{}
	watch := func(kind string, list client.ObjectList, h toolscache.ResourceEventHandler) {
		mustDo(f.t, f.store.List(context.Background(), list))
		handlers[kind] = h
		for _, o := range objectsOf(list) {
			now[kind+" "+o.GetNamespace()+"/"+o.GetName()] = o
		}
	}
	watch("1identity", &v1alpha1.PlacidIdentityList{}, f.identityEvents())
	watch("2endpoints", &v1alpha1.PlacidEndpointsList{}, f.endpointsEvents())
	if f.mode == PolicyDefault {
		watch("3policy", &networkingv1.NetworkPolicyList{}, policyEvents(f.identities, kubernetesPolicy))
		watch("6cnp", &v2.CiliumNetworkPolicyList{}, policyEvents(f.identities, ciliumPolicy))
		watch("7ccnp", &v2.CiliumClusterwideNetworkPolicyList{}, policyEvents(f.identities, clusterwidePolicy))
	}
	f.tell(handlers, now, "12367")
	select {
	case <-f.first:
		watch("4namespace", &corev1.NamespaceList{}, f.namespaceEvents())
		watch("5pod", &corev1.PodList{}, f.podEvents())
		f.tell(handlers, now, "45")
		f.sets.setComplete()
		f.began = true
	default:
	}
}

// tell calls the handlers of the kinds.
func (f *office) tell(handlers map[string]toolscache.ResourceEventHandler, now map[string]client.Object, kinds string) {
	mine := func(id string) bool { return slices.Contains([]byte(kinds), id[0]) }
	handler := func(id string) toolscache.ResourceEventHandler {
		for kind, h := range handlers {
			if kind[0] == id[0] {
				return h
			}
		}
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(now)) {
		old, o := f.seen[id], now[id]
		switch {
		case !mine(id) || old != nil && old.GetResourceVersion() == o.GetResourceVersion():
			continue
		case old == nil:
			handler(id).OnAdd(o, !f.began)
		default:
			handler(id).OnUpdate(old, o)
		}
		f.seen[id] = o
	}
	for _, id := range slices.Sorted(maps.Keys(f.seen)) {
		if mine(id) && now[id] == nil {
			handler(id).OnDelete(f.seen[id])
			delete(f.seen, id)
		}
	}
}

func objectsOf(list client.ObjectList) []client.Object {
	var out []client.Object
	add := func(o client.Object) { out = append(out, o) }
	switch l := list.(type) {
	case *v1alpha1.PlacidIdentityList:
		for i := range l.Items {
			add(&l.Items[i])
		}
	case *v1alpha1.PlacidEndpointsList:
		for i := range l.Items {
			stripped, _ := stripEndpoints(&l.Items[i])
			add(stripped.(client.Object))
		}
	case *networkingv1.NetworkPolicyList:
		for i := range l.Items {
			add(&l.Items[i])
		}
	case *v2.CiliumNetworkPolicyList:
		for i := range l.Items {
			add(&l.Items[i])
		}
	case *v2.CiliumClusterwideNetworkPolicyList:
		for i := range l.Items {
			add(&l.Items[i])
		}
	case *corev1.NamespaceList:
		for i := range l.Items {
			add(&l.Items[i])
		}
	case *corev1.PodList:
		for i := range l.Items {
			stripped, _ := stripPod(&l.Items[i])
			add(stripped.(client.Object))
		}
	}
	return out
}

// work makes what is woken, one attempt each, and keeps what failed.
func (f *office) workOnce() (err error) {
	for _, key := range slices.Sorted(maps.Keys(f.woken)) {
		delete(f.woken, key)
		if e := f.assign(context.Background(), key); e != nil {
			f.woken[key] = true
			err = e
		}
	}
	return err
}

// settle looks and works until nothing is left to do.
func (f *office) settle() {
	f.t.Helper()
	var err error
	for range 50 {
		f.look()
		if err = f.workOnce(); err == nil && len(f.woken) == 0 {
			f.look()
			if len(f.woken) == 0 {
				return
			}
		}
	}
	f.t.Fatalf("does not settle: %v, last error %v", slices.Sorted(maps.Keys(f.woken)), err)
}

// live lets time go by with a look and a pass of the collection each minute.
func (f *office) live(d time.Duration) {
	for ; d > 0; d -= collectEvery {
		f.clock.pass(min(d, collectEvery))
		f.settle()
		f.collect(context.Background())
	}
	f.settle()
}

// byKey returns the numbers of all identities by what tells them apart and fails
// when a label set has two.
func byKey(t tb, store client.Client) map[string]string {
	t.Helper()
	var list v1alpha1.PlacidIdentityList
	mustDo(t, store.List(context.Background(), &list))
	out := map[string]string{}
	for _, id := range list.Items {
		_, key, err := rowOf(&id)
		mustDo(t, err)
		if other, ok := out[key]; ok {
			t.Fatalf("the label set %s has two numbers, %s and %s", key, other, id.Name)
		}
		out[key] = id.Name
	}
	return out
}

func pod(namespace, name string, labels ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}}}
	for i := 0; i+1 < len(labels); i += 2 {
		p.Labels[labels[i]] = labels[i+1]
	}
	return p
}

func namespace(name string, labels ...string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name), Labels: pod("", "", labels...).Labels}}
}

// policy allows ingress from pods with the label.
func policyFrom(namespace, name, key, value string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name)},
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{
				PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}},
			}}}},
		},
	}
}

func create(t tb, store client.Client, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		mustDo(t, store.Create(context.Background(), o))
	}
}

func remove(t tb, store client.Client, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		mustDo(t, client.IgnoreNotFound(store.Delete(context.Background(), o)))
	}
}

// series returns all values that the metrics have, by name and labels.
func series(t tb, m *identityMetrics) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	mustDo(t, m.register(reg))
	families, err := reg.Gather()
	mustDo(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, s := range f.Metric {
			name := f.GetName()
			for _, l := range s.Label {
				name += " " + l.GetValue()
			}
			switch {
			case s.Histogram != nil:
				out[name] = float64(s.Histogram.GetSampleCount())
			case s.Counter != nil:
				out[name] = s.Counter.GetValue()
			default:
				out[name] = s.Gauge.GetValue()
			}
		}
	}
	return out
}

// told returns the events that were sent since it was last called.
func (f *office) told() []string {
	var out []string
	for len(f.events.Events) > 0 {
		out = append(out, <-f.events.Events)
	}
	return out
}
