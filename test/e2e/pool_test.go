package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// waitingPods is how many pods more than addresses there are.
const waitingPods = 2

// testFullPool shows that a pod without an address says which range is full,
// and starts by itself when another pod gives its address back.
func (l *lab) testFullPool(t *testing.T, c cast) {
	h := c.a.node
	st := l.status(t, h)
	i := slices.IndexFunc(st.IPAM, func(p agentapi.IPAMPool) bool { return p.CIDR.Addr().Is4() })
	pool := st.IPAM[i]
	count := pool.Capacity - pool.Used + waitingPods
	objects := make([]any, count)
	for i := range objects {
		p := barePod(fmt.Sprintf("full-%02d", i), h.name)
		p.Labels = map[string]string{"app": "full"}
		objects[i] = p
	}
	l.apply(t, objects...)
	t.Cleanup(func() {
		if _, err := l.try(background(), nil, "kubectl", "-n", namespace, "delete", "pod", "-l", "app=full", "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	var waiting []string
	l.run(t, "the events of pods without an address name the range", func(t *testing.T) {
		eventually(t, podTimeout, "all addresses are used", func() error {
			var ready int
			ready, waiting = l.readyPods(t, "app=full")
			if ready != count-waitingPods {
				return fmt.Errorf("%d of %d pods are ready, want %d", ready, count, count-waitingPods)
			}
			return nil
		})
		for _, name := range waiting {
			for _, reason := range []string{"FailedAddressAllocation", "FailedCreatePodSandBox"} {
				eventually(t, time.Minute, "event of pod "+name, func() error {
					return l.eventSays(t, "Pod", name, reason, pool.CIDR.String(), "until a pod is deleted")
				})
			}
		}
	})
	l.run(t, "deleting a pod lets a waiting one in", func(t *testing.T) {
		before := len(waiting)
		victim := "full-00"
		if slices.Contains(waiting, victim) {
			victim = fmt.Sprintf("full-%02d", count-1)
		}
		l.kubectl(t, "-n", namespace, "delete", "pod", victim)
		eventually(t, podTimeout, "one more pod starts", func() error {
			if _, waiting = l.readyPods(t, "app=full"); len(waiting) != before-1 {
				return fmt.Errorf("%d pods wait, want %d", len(waiting), before-1)
			}
			return nil
		})
	})
}

// readyPods counts the pods that are ready and names those that are not.
func (l *lab) readyPods(t *testing.T, selector string) (ready int, waiting []string) {
	t.Helper()
	for _, p := range get[corev1.PodList](t, l, "-n", namespace, "pods", "-l", selector).Items {
		if podReady(p) {
			ready++
		} else {
			waiting = append(waiting, p.Name)
		}
	}
	return ready, waiting
}

// eventSays is nil when an event about the object has all the texts.
func (l *lab) eventSays(t *testing.T, kind, name, reason string, texts ...string) error {
	t.Helper()
	selector := fmt.Sprintf("involvedObject.kind=%s,involvedObject.name=%s,reason=%s", kind, name, reason)
	err := errors.New("there is no event " + reason)
	for _, e := range get[corev1.EventList](t, l, "-A", "events", "--field-selector="+selector).Items {
		missing := slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return strings.Contains(e.Message, s) })
		if len(missing) == 0 {
			return nil
		}
		err = fmt.Errorf("event %s does not say %q: %s", reason, missing, e.Message)
	}
	return err
}

// testVacant shows what becomes of packets for the address of a deleted pod: an
// error with unreachable routes, else silence.
func (l *lab) testVacant(t *testing.T, c cast, unreachable bool) {
	gone := l.startPods(t, barePod("gone", c.a.node.name))[0]
	l.kubectl(t, "-n", namespace, "delete", "pod", gone.name)
	// The API server forgets a pod without a grace period before its node does.
	eventually(t, time.Minute, "the node takes its interface away", func() error {
		for _, ep := range placidJSON[[]state.Endpoint](t, l, gone.node, "endpoint", "list") {
			if ep.Pod.Name == gone.name {
				return fmt.Errorf("endpoint %d is still there", ep.ID)
			}
		}
		return nil
	})
	answers := [2]string{"Destination Host Unreachable", "Destination unreachable: Address unreachable"}
	for _, f := range families {
		request := []string{"ping", "-n", "-c", "2", "-i", "0.3", "-W", "1", gone.addrs[f].String()}
		for _, from := range []pod{c.sibling, c.far} {
			_, err := l.tryIn(t, from, request...)
			wantVacant(t, fmt.Sprintf("pod on %s over %s", from.node.name, f), err, answers[f], unreachable)
		}
		_, err := l.try(t.Context(), nil, append([]string{"exec", l.outside.name}, request...)...)
		wantVacant(t, fmt.Sprintf("outside over %s", f), err, answers[f], unreachable)
	}
}

// wantVacant looks at a ping that fails; its error holds what it printed.
func wantVacant(t *testing.T, from string, err error, answer string, unreachable bool) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: somebody answers", from)
	case unreachable && !strings.Contains(err.Error(), answer):
		t.Errorf("%s: want %q: %v", from, answer, err)
	case !unreachable && (strings.Contains(err.Error(), "nreachable") || !strings.Contains(err.Error(), "100% packet loss")):
		t.Errorf("%s: want silence: %v", from, err)
	}
}
