package k8s

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/state"
)

// EventType is the type of an event.
type EventType string

// The types of events that Kubernetes knows.
const (
	EventNormal  = EventType(corev1.EventTypeNormal)
	EventWarning = EventType(corev1.EventTypeWarning)
)

const (
	// eventQueueSize is how many events wait while the API server is slow;
	// further ones are dropped.
	eventQueueSize = 64
	eventComponent = "placid-agent"
	// eventsPerSecond of one object, type and reason: one a minute.
	eventsPerSecond = 1.0 / 60
)

// objectEvent is one event before it is sent.
type objectEvent struct {
	object          corev1.ObjectReference
	kind            EventType
	reason, message string
}

// eventQueue sends events. client-go's recorder counts repetitions, sends
// the count with the next event that passes, and retries while the API server
// is away.
type eventQueue struct {
	client rest.Interface
	source corev1.EventSource
	queue  chan objectEvent
	clock  clock // nil is the real one
	log    *slog.Logger
}

// clock is what the recorder wants to know about time.
type clock interface {
	Now() time.Time
	Since(t time.Time) time.Duration
}

func newEventQueue(client rest.Interface, node string, log *slog.Logger) *eventQueue {
	return &eventQueue{
		client: client,
		source: corev1.EventSource{Component: eventComponent, Host: node},
		queue:  make(chan objectEvent, eventQueueSize),
		log:    log,
	}
}

// Event posts an event about a pod without waiting for it. Reason is one word
// in CamelCase, message a sentence for people. Of events of the same pod, type
// and reason at most one a minute is sent; it carries the count of all.
func (c *Client) Event(ref state.PodRef, kind EventType, reason, message string) {
	c.events.add(objectEvent{kind: kind, reason: reason, message: message, object: corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: ref.Namespace, Name: ref.Name, UID: c.pods.objectUID(ref),
	}})
}

// PolicyRef names the object of a policy.
type PolicyRef struct {
	Kind            state.PolicyKind
	Namespace, Name string
	UID             string
}

// PolicyEvent posts an event about a policy, as Event does about a pod.
func (c *Client) PolicyEvent(ref PolicyRef, kind EventType, reason, message string) {
	version := networkingv1.SchemeGroupVersion
	if ref.Kind != state.PolicyKubernetes {
		version = v2.GroupVersion()
	}
	c.events.add(objectEvent{kind: kind, reason: reason, message: message, object: corev1.ObjectReference{
		APIVersion: version.String(), Kind: ref.Kind.String(), Namespace: ref.Namespace, Name: ref.Name, UID: types.UID(ref.UID),
	}})
}

// EventService posts an event about a Service, as Event does about a pod.
func (c *Client) EventService(ref state.ServiceRef, kind EventType, reason, message string) {
	row, _, err := c.tables.ServiceByRef(ref)
	if err != nil {
		c.log.Debug("look up the UID of a Service", "service", ref.String(), "err", err)
	}
	c.events.add(objectEvent{kind: kind, reason: reason, message: message, object: corev1.ObjectReference{
		APIVersion: "v1", Kind: "Service", Namespace: ref.Namespace, Name: ref.Name, UID: types.UID(row.UID),
	}})
}

// EventNode posts an event about a part of this node, as Event does about a pod;
// parts have limits of their own. kubectl describe node shows it: the UID is the
// node's name, as kubelet has it.
func (c *Client) EventNode(part string, kind EventType, reason, message string) {
	name := c.nodeName
	c.events.add(objectEvent{kind: kind, reason: reason, message: message, object: corev1.ObjectReference{
		APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(name), FieldPath: part,
	}})
}

func (q *eventQueue) add(e objectEvent) {
	select {
	case q.queue <- e:
	default:
		q.log.Debug("drop an event: too many are waiting",
			"kind", e.object.Kind, "namespace", e.object.Namespace, "name", e.object.Name, "reason", e.reason)
	}
}

func (q *eventQueue) run(ctx context.Context) {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx), record.WithCorrelatorOptions(record.CorrelatorOptions{
		BurstSize: 1,
		QPS:       eventsPerSecond,
		Clock:     q.clock,
		SpamKeyFunc: func(e *corev1.Event) string {
			o := e.InvolvedObject
			return o.Kind + "/" + o.Namespace + "/" + o.Name + "/" + string(o.UID) + "/" + o.FieldPath + "/" + e.Type + "/" + e.Reason
		},
	}))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&eventSink{ctx: ctx, client: q.client})
	// A reference needs no scheme: it is not looked up.
	recorder := broadcaster.NewRecorder(runtime.NewScheme(), q.source)
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-q.queue:
			recorder.Event(&e.object, string(e.kind), e.reason, e.message)
		}
	}
}

// eventSink writes events through a REST client; its methods are those that
// client-go's recorder calls.
type eventSink struct {
	ctx    context.Context //nolint:containedctx // the recorder's interface has no context
	client rest.Interface
}

func (s *eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
	return s.send(s.client.Post().Body(e), e)
}

func (s *eventSink) Update(e *corev1.Event) (*corev1.Event, error) {
	return s.send(s.client.Put().Name(e.Name).Body(e), e)
}

func (s *eventSink) Patch(e *corev1.Event, patch []byte) (*corev1.Event, error) {
	return s.send(s.client.Patch(types.StrategicMergePatchType).Name(e.Name).Body(patch), e)
}

func (s *eventSink) send(r *rest.Request, e *corev1.Event) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(s.ctx, patchTimeout)
	defer cancel()
	var out corev1.Event
	if err := r.Namespace(e.Namespace).Resource("events").Do(ctx).Into(&out); err != nil {
		return nil, err
	}
	return &out, nil
}
