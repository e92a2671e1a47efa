package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/placid-net/placid/api/v1alpha1"
)

const rolloutTimeout = 3 * time.Minute

// pairs are the ways that traffic takes: within a node, between nodes, and
// between a pod and a host outside in both directions.
func (l *lab) trafficPairs(t *testing.T, c cast) [][2]place {
	t.Helper()
	a, sibling, far, outside := l.podPlace(t, c.a), l.podPlace(t, c.sibling), l.podPlace(t, c.far), l.outside.place()
	return [][2]place{{a, sibling}, {a, far}, {far, outside}, {outside, sibling}}
}

// minimumExchanges is what each flow has to carry in a test of restarts, which
// take several seconds: half a second of echo requests.
const minimumExchanges = 50

// undisturbed runs disturb under load, waits until the agents are healthy, and
// fails when a connection, an echo request or a new connection was lost
// meanwhile, when something that policy forbids got through, or when anything
// else than that was dropped.
func (l *lab) undisturbed(t *testing.T, c cast, disturb func()) {
	t.Helper()
	g := c.guarded
	drops := l.allDrops(t)
	traffic := startLoad(t, append(l.trafficPairs(t, c), [2]place{g.friend, g.near}, [2]place{g.friend, g.far})...)
	opened, guarded := keepTrying(t, true, g.permitted()...), g.guard(t)
	disturb()
	for _, h := range l.nodes {
		l.waitAgent(t, h)
	}
	traffic.end(t, minimumExchanges)
	opened.end(t, minimumExchanges)
	guarded()
	for series, n := range l.allDrops(t) {
		if more := n - drops[series]; more > 0 && !strings.Contains(series, policyReason) {
			t.Errorf("%v packets were dropped: %s", more, series)
		}
	}
}

const policyReason = `reason="Policy denied"`

// allDrops are the nodes' counters of dropped packets, by series.
func (l *lab) allDrops(t *testing.T) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, h := range l.nodes {
		for series, n := range l.metrics(t, h) {
			if strings.HasPrefix(series, "cilium_drop_count_total") {
				out[h.name+" "+series] = n
			}
		}
	}
	return out
}

// testRestarts shows that the agents can be restarted and killed while nothing
// is lost.
func (l *lab) testRestarts(t *testing.T, c cast) {
	l.run(t, "rolling restart of both agents loses nothing", func(t *testing.T) {
		l.undisturbed(t, c, func() {
			before := l.agentNames(t)
			l.kubectl(t, "-n", systemNamespace, "rollout", "restart", "daemonset/placid-agent")
			l.waitRollout(t)
			for _, name := range l.agentNames(t) {
				if slices.Contains(before, name) {
					t.Errorf("agent %s was not replaced", name)
				}
			}
		})
	})
	l.run(t, "kill -9 of both agents loses nothing", func(t *testing.T) {
		l.undisturbed(t, c, func() { l.killAgents(t) })
	})
}

// killAgents ends both agents with SIGKILL, and waits until the next ones are
// healthy.
func (l *lab) killAgents(t *testing.T) {
	t.Helper()
	before := l.agentRestarts(t)
	for _, h := range l.nodes {
		l.on(t, h, "pkill", "-9", "-x", "placid-agent")
	}
	eventually(t, podTimeout, "the agents' containers are started again", func() error {
		for name, n := range l.agentRestarts(t) {
			if n <= before[name] {
				return fmt.Errorf("%s was started %d times, before the kill %d", name, n, before[name])
			}
		}
		return nil
	})
	for _, h := range l.nodes {
		l.waitAgent(t, h)
	}
}

// testUpgrade shows that the agents can be replaced by a newer build while
// nothing is lost.
func (l *lab) testUpgrade(t *testing.T, c cast) {
	const version = "e2e-newer"
	l.undisturbed(t, c, func() {
		// Not through must: it builds the programs first.
		cmd := labCommand(t.Context(), l.name, "load-placid", "--version", version)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("lab load-placid: %v\n%s", err, out)
		}
		for _, h := range l.nodes {
			eventually(t, podTimeout, "the new version on "+h.name, func() error { return l.versionIs(t, h, version) })
		}
	})
}

// waitRollout waits until every agent is replaced and ready.
func (l *lab) waitRollout(t *testing.T) {
	t.Helper()
	eventually(t, rolloutTimeout, "roll-out of the agents", func() error {
		_, err := l.try(t.Context(), nil, "kubectl", "-n", systemNamespace, "rollout", "status", "daemonset/placid-agent", "--timeout=50s")
		return err
	})
}

func (l *lab) agents(t *testing.T) []corev1.Pod {
	t.Helper()
	return get[corev1.PodList](t, l, "-n", systemNamespace, "pods", "-l", agentLabel).Items
}

func (l *lab) agentNames(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, p := range l.agents(t) {
		out = append(out, p.Name)
	}
	return out
}

// agentRestarts counts how often each agent's container was started again.
func (l *lab) agentRestarts(t *testing.T) map[string]int32 {
	t.Helper()
	out := map[string]int32{}
	for _, p := range l.agents(t) {
		for _, s := range p.Status.ContainerStatuses {
			out[p.Name] += s.RestartCount
		}
	}
	return out
}

// versionIs asks the agent and its PlacidNode.
func (l *lab) versionIs(t *testing.T, h host, want string) error {
	t.Helper()
	out, err := l.tryPlacid(t, h, "version")
	if err != nil {
		return err
	}
	if strings.Count(out, want) < 2 {
		return fmt.Errorf("placid version tells\n%s\nwant %s of command and agent", out, want)
	}
	if got := get[v1alpha1.PlacidNode](t, l, "placidnode", h.name).Status.AgentVersion; got != want {
		return errors.New("status.agentVersion of the PlacidNode is " + got)
	}
	return nil
}
