package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	loadgen "github.com/placid-net/placid/test/load"
)

const (
	drainTime   = 2 * time.Second // that a deleted pod goes on for
	endTime     = 2 * time.Second // until sockets to what is gone have ended
	quietAfter  = time.Second     // until no packet goes there
	quietFor    = 3 * time.Second // that this is watched
	askInterval = 50 * time.Millisecond
)

// testGone shows what becomes of sockets to a backend that goes: while it
// terminates they work, when it is gone they end or go to another one, and nothing
// is sent to its address any more.
func (l *lab) testGone(t *testing.T, c *serviceCast, disturb func(t *testing.T)) {
	leaving := l.startLeaving(t)
	s := &served{name: "leaving", number: 30, backends: []backend{leaving}, selector: map[string]string{"member": "yes"}}
	l.createServices(t, s)
	t.Cleanup(func() {
		for _, args := range [][]string{{"delete", "service", s.name}, {"label", "pod", "far", "member-"}} {
			if _, err := l.try(background(), nil, append([]string{"kubectl", "-n", serviceSpace}, args...)...); err != nil {
				t.Error(err)
			}
		}
	})
	asked := make([]*asking, len(c.callers))
	for i, from := range c.callers {
		asked[i] = c.generator.start(t, from, l.lasting(t, from, s))
	}
	time.Sleep(10 * askInterval) // every socket has asked: its answers are checked at the end
	l.kubectl(t, "-n", serviceSpace, "label", "pod", "far", "member=yes")
	l.waitServed(t, map[string]int{s.name: 2})
	if disturb != nil {
		disturb(t)
	}
	deleted := time.Now()
	l.kubectl(t, "-n", serviceSpace, "delete", "pod", leaving.name, "--wait=false")
	gone := l.waitGone(t, s.name, leaving)
	time.Sleep(time.Until(gone.Add(quietAfter)))
	l.quiet(t, leaving)
	for _, a := range asked {
		for _, r := range a.end(t) {
			judgeLasting(t, r, leaving, c.far, deleted, gone)
		}
	}
}

// startLeaving starts a pod on the second node that takes its time to end. This
// process answers in it: nobody closes its connections when it is gone.
func (l *lab) startLeaving(t *testing.T) backend {
	t.Helper()
	spec := barePod("leaving", l.nodes[1].name)
	spec.Namespace, spec.Labels = serviceSpace, map[string]string{"member": "yes"}
	spec.Spec.TerminationGracePeriodSeconds = new(int64(10))
	spec.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: int64(drainTime.Seconds())}}}
	p := l.startPods(t, spec)[0]
	b := backend{l.podPlace(t, p), p.node.name}
	serveName(t, b.place, backendPort)
	return b
}

// held is what the names of targets begin with whose sockets ask only once.
const held = "held"

// lasting are targets with sockets of every kind that stay. One that is held is
// ended by the node only where it was translated itself.
func (l *lab) lasting(t *testing.T, from caller, s *served) []loadgen.Target {
	t.Helper()
	doors := s.doors(t, l.nodes)
	d := doors[0]
	if from.node == "" {
		d = doors[3] // the NodePort of the first node
	}
	var out []loadgen.Target
	for _, f := range families {
		for _, kind := range []struct {
			protocol corev1.Protocol
			socket   loadgen.Socket
		}{
			{corev1.ProtocolTCP, loadgen.Kept},
			{corev1.ProtocolUDP, loadgen.Kept},
			{corev1.ProtocolUDP, loadgen.Open},
			{corev1.ProtocolTCP, loadgen.Held},
			{corev1.ProtocolUDP, loadgen.Held},
		} {
			if kind.socket == loadgen.Held && !from.sockets {
				continue
			}
			out = append(out, loadgen.Target{
				Name:     fmt.Sprintf("%s %s/%s, %s to %s", kind.socket, kind.protocol, f, from.name, d.name),
				Protocol: loadgen.Protocol(network(kind.protocol)), Addr: netip.AddrPortFrom(d.addrs[f], uint16(d.port(kind.protocol))),
				Socket: kind.socket, Ask: "/", Interval: askInterval, Timeout: time.Second,
			})
		}
	}
	return out
}

// waitGone waits until no EndpointSlice has the backend, and returns when that was.
func (l *lab) waitGone(t *testing.T, service string, b backend) time.Time {
	t.Helper()
	eventually(t, podTimeout, "the EndpointSlices are without "+b.name, func() error {
		for _, s := range get[discoveryv1.EndpointSliceList](t, l, "-n", serviceSpace, "endpointslices", "-l", discoveryv1.LabelServiceName+"="+service).Items {
			for _, e := range s.Endpoints {
				if slices.Contains(b.addrs[:], netip.MustParseAddr(e.Addresses[0])) {
					return fmt.Errorf("%s has %s", s.Name, e.Addresses[0])
				}
			}
		}
		return nil
	})
	return time.Now()
}

// quiet fails when a packet goes to the backend's addresses on one of the nodes.
func (l *lab) quiet(t *testing.T, b backend) {
	t.Helper()
	type capture struct {
		host host
		out  string
		err  error
	}
	captures := make(chan capture, len(l.nodes))
	for _, h := range l.nodes {
		go func() {
			script := fmt.Sprintf("timeout %v tcpdump -n -l -i any 'dst host %s or dst host %s' 2>&1 || true",
				quietFor.Seconds(), b.addrs[ipv4], b.addrs[ipv6])
			out, err := l.try(background(), nil, "exec", h.name, "bash", "-c", script)
			captures <- capture{h, out, err}
		}()
	}
	for range l.nodes {
		if c := <-captures; c.err != nil || !strings.Contains(c.out, "\n0 packets captured") {
			t.Errorf("on %s packets went to %s, which is gone: %v\n%.2000s", c.host.name, b.name, c.err, c.out)
		}
	}
}

// judgeLasting checks what one socket, or row of sockets, saw.
func judgeLasting(t *testing.T, r loadgen.Result, left, stays backend, deleted, gone time.Time) {
	t.Helper()
	answered := func(b backend) int {
		n := 0
		for text, times := range r.Answers {
			if strings.HasPrefix(text, b.name+" ") {
				n += times
			}
		}
		return n
	}
	bad := func(why string) {
		t.Errorf("%s: %s: deleted at %s, gone at %s; answers %v, errors %v, failures %v",
			r.Name, why, deleted.Format(time.StampMilli), gone.Format(time.StampMilli), r.Answers, r.Errors, r.Failures)
	}
	for _, f := range r.Failures {
		switch {
		case f.At.Before(deleted.Add(drainTime)):
			bad("it failed while the backend was terminating")
		case f.At.After(gone.Add(endTime)):
			bad("it failed long after the backend was gone")
		default:
			continue
		}
		return
	}
	switch {
	case answered(left) == 0:
		bad("the backend that left never answered")
	case strings.HasPrefix(r.Name, held) && len(r.Failures) != 1:
		bad("it did not end")
	case !strings.HasPrefix(r.Name, held) && answered(stays) == 0:
		bad("no other backend took over")
	}
}
