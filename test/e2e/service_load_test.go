package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	loadgen "github.com/placid-net/placid/test/load"
)

const (
	fewBackends, manyBackends = 3, 30

	loadInterval = 40 * time.Millisecond
	lossTimeout  = 5 * time.Second // when a datagram counts as lost
	// stopTime is how long a pod goes on after it was told to end: longer than it
	// takes until nobody sends it anything new.
	stopTime = 4
	// minimumQuestions is what every target has to be asked while something happens.
	minimumQuestions = 50
)

// startBackends starts pods that answer, behind a Service of their own.
func (l *lab) startBackends(t *testing.T) *served {
	t.Helper()
	labels := map[string]string{"app": "loaded"}
	spec := corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(stopTime + 2)), AutomountServiceAccountToken: new(false),
		Containers: []corev1.Container{{
			Name: "main", Image: testImage, ImagePullPolicy: corev1.PullIfNotPresent,
			Command: []string{"/agnhost", "netexec", fmt.Sprintf("--http-port=%d", backendPort), fmt.Sprintf("--udp-port=%d", backendPort)},
			ReadinessProbe: &corev1.Probe{
				PeriodSeconds: 1, FailureThreshold: 10, TimeoutSeconds: 5,
				ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(backendPort)}},
			},
			Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: stopTime}}},
		}},
	}
	l.apply(t, appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: "loaded", Namespace: serviceSpace},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(fewBackends)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	})
	s := &served{name: "loaded", number: 40, backends: make([]backend, fewBackends), selector: labels}
	l.createServices(t, s)
	return s
}

// loadTargets are a caller's questions while backends and agents come and go.
func (l *lab) loadTargets(t *testing.T, from caller, s *served) []loadgen.Target {
	t.Helper()
	doors := s.doors(t, l.nodes)
	if from.node == "" {
		doors = doors[3:] // the NodePorts
	} else {
		doors = doors[:1]
	}
	var out []loadgen.Target
	for _, d := range doors {
		for _, f := range families {
			add := func(p corev1.Protocol, socket loadgen.Socket, ask string, timeout time.Duration) {
				out = append(out, loadgen.Target{
					Name:     fmt.Sprintf("%s %s/%s, %s to %s", socket, p, f, from.name, d.name),
					Protocol: loadgen.Protocol(network(p)), Addr: netip.AddrPortFrom(d.addrs[f], uint16(d.port(p))),
					Socket: socket, Ask: ask, Numbered: true, Interval: loadInterval, Timeout: timeout,
				})
			}
			add(corev1.ProtocolTCP, loadgen.Fresh, "/echo?msg=", dataTimeout)
			add(corev1.ProtocolTCP, loadgen.Kept, "/echo?msg=", dataTimeout)
			add(corev1.ProtocolUDP, loadgen.Fresh, "echo", lossTimeout)
		}
	}
	return out
}

// underLoad does something while all callers ask a Service, and fails the test
// when one question got no answer.
func (l *lab) underLoad(t *testing.T, c *serviceCast, s *served, disturb func(t *testing.T)) {
	t.Helper()
	asked := make([]*asking, len(c.callers))
	for i, from := range c.callers {
		asked[i] = c.generator.start(t, from, l.loadTargets(t, from, s))
	}
	began := time.Now()
	disturb(t)
	time.Sleep(time.Until(began.Add(2 * minimumQuestions * loadInterval)))
	questions, slowest := 0, time.Duration(0)
	for _, a := range asked {
		for _, r := range a.end(t) {
			questions += r.Asked
			slowest = max(slowest, r.Slowest)
			if r.Answered != r.Asked {
				t.Errorf("%s: %d of %d questions got no answer: %v; %v", r.Name, r.Asked-r.Answered, r.Asked, r.Errors, r.Failures)
			}
			if r.Asked < minimumQuestions {
				t.Errorf("%s: only %d questions, want at least %d", r.Name, r.Asked, minimumQuestions)
			}
		}
	}
	t.Logf("%d questions in %s, the slowest answer after %s", questions, time.Since(began).Round(time.Second), slowest.Round(time.Millisecond))
}

// scale sets the number of backends, and waits until both nodes serve them.
func (l *lab) scale(t *testing.T, s *served, backends int) {
	t.Helper()
	l.kubectl(t, "-n", serviceSpace, "scale", "deployment", s.name, fmt.Sprintf("--replicas=%d", backends))
	l.waitServedFor(t, podTimeout, map[string]int{s.name: backends})
}

// testUnderLoad shows that clients of a Service notice nothing of what happens to
// its backends and to the agents.
func (l *lab) testUnderLoad(t *testing.T, c *serviceCast) {
	s := l.startBackends(t)
	l.run(t, "scaling up and down", func(t *testing.T) {
		l.underLoad(t, c, s, func(t *testing.T) {
			l.scale(t, s, manyBackends)
			l.scale(t, s, fewBackends)
			l.waitPodCount(t, s, fewBackends)
		})
	})
	l.run(t, "rolling restart of the backends", func(t *testing.T) {
		l.underLoad(t, c, s, func(t *testing.T) {
			l.kubectl(t, "-n", serviceSpace, "rollout", "restart", "deployment/"+s.name)
			l.kubectl(t, "-n", serviceSpace, "rollout", "status", "deployment/"+s.name, "--timeout=50s")
			l.waitPodCount(t, s, fewBackends)
		})
	})
	l.run(t, "kill -9 of both agents while backends change", func(t *testing.T) {
		l.underLoad(t, c, s, func(t *testing.T) {
			l.kubectl(t, "-n", serviceSpace, "scale", "deployment", s.name, fmt.Sprintf("--replicas=%d", 2*fewBackends))
			l.killAgents(t)
			l.scale(t, s, fewBackends)
			l.waitPodCount(t, s, fewBackends)
		})
	})
	l.run(t, "every table resized, with a kill -9 of both agents", func(t *testing.T) {
		l.underLoad(t, c, s, func(t *testing.T) {
			l.resizeTables(t, double)
			l.killAgents(t)
			l.resizeTables(t, halve)
		})
	})
	l.run(t, "rolling restart of both agents", func(t *testing.T) {
		l.underLoad(t, c, s, func(t *testing.T) {
			l.kubectl(t, "-n", systemNamespace, "rollout", "restart", "daemonset/placid-agent")
			l.waitRollout(t)
			for _, h := range l.nodes {
				l.waitAgent(t, h)
			}
		})
	})
}

// waitPodCount waits until no more pods than that are left of the backends.
func (l *lab) waitPodCount(t *testing.T, s *served, want int) {
	t.Helper()
	eventually(t, podTimeout, "backends have ended", func() error {
		if n := len(get[corev1.PodList](t, l, "-n", serviceSpace, "pods", "-l", "app="+s.name).Items); n != want {
			return fmt.Errorf("%d pods, want %d", n, want)
		}
		return nil
	})
}
