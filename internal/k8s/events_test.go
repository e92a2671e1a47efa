package k8s

import (
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/placid-net/placid/internal/state"
)

// fakeClock is a clock that only moves when told to.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestEventsAreOneAMinute(t *testing.T) {
	api := newAPIServer(t)
	api.put(podsPath, pod("p", "uid-p", "me"))
	f := newClient(t, api)
	clock := &fakeClock{now: time.Now()}
	f.events.clock = clock
	f.start(t)
	await(t, "PodsSynced", f.PodsSynced())
	sent := func() int {
		_, _, events := api.seen()
		return len(events)
	}

	full := state.PodRef{Namespace: "default", Name: "p"} // the UID is found
	for range 50 {
		f.Event(full, EventWarning, "NoFreeAddress", "10.0.0.0/24 is used up")
	}
	eventually(t, "events", 1, sent)
	f.Event(state.PodRef{Namespace: "default", Name: "q", UID: "uid-q"}, EventWarning, "NoFreeAddress", "the same")
	eventually(t, "events of another pod", 2, sent)
	f.Event(full, EventNormal, "Other", "another reason")
	eventually(t, "events of another reason", 3, sent)
	// The queue is in order: all 50 have been judged by now.
	clock.advance(time.Minute + time.Second)
	f.Event(full, EventWarning, "NoFreeAddress", "10.0.0.0/24 is used up")
	eventually(t, "events a minute later", 4, sent)

	_, _, events := api.seen()
	first, last := events[0], events[3]
	ref := first.InvolvedObject
	if ref.Kind != "Pod" || ref.Namespace != "default" || ref.Name != "p" || ref.UID != "uid-p" {
		t.Errorf("the event is about %+v", ref)
	}
	if first.Type != corev1.EventTypeWarning || first.Reason != "NoFreeAddress" || first.Message != "10.0.0.0/24 is used up" ||
		first.Source.Component != "placid-agent" || first.Source.Host != "me" || first.Namespace != "default" {
		t.Errorf("the event is %+v", first)
	}
	if last.Name != first.Name || last.Count != 51 {
		t.Errorf("the repetition is event %s with count %d, want %s with 51", last.Name, last.Count, first.Name)
	}
}

func TestPolicyEvent(t *testing.T) {
	api := newAPIServer(t)
	f := run(t, api)
	// A pod of the same name is another object: each has its event.
	f.Event(state.PodRef{Namespace: "shop", Name: "deny", UID: "uid"}, EventWarning, "Refused", "of the pod")
	for range 3 {
		f.PolicyEvent(PolicyRef{Namespace: "shop", Name: "deny", UID: "uid"}, EventWarning, "Refused", "too many ports")
	}
	f.PolicyEvent(PolicyRef{Namespace: "shop", Name: "deny", UID: "uid"}, EventNormal, "Accepted", "it fits now")
	eventually(t, "events", 3, func() int { _, _, events := api.seen(); return len(events) })
	_, _, events := api.seen()
	ref := events[1].InvolvedObject
	if ref.Kind != "NetworkPolicy" || ref.APIVersion != "networking.k8s.io/v1" || ref.Namespace != "shop" || ref.Name != "deny" || ref.UID != "uid" {
		t.Errorf("the event is about %+v", ref)
	}
	if e := events[1]; e.Namespace != "shop" || e.Reason != "Refused" || e.Message != "too many ports" || e.Type != corev1.EventTypeWarning {
		t.Errorf("the event is %+v", e)
	}
}

func TestEventDoesNotWait(t *testing.T) {
	f := newClient(t, newAPIServer(t)) // does not run: nothing takes events
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 10 * eventQueueSize {
			f.Event(state.PodRef{Namespace: "default", Name: "p"}, EventWarning, "R", "m")
		}
	}()
	await(t, "the end of Event", done)
}
