package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// placidOn runs the command line in the agent's container without Kubernetes.
func (l *lab) placidOn(t *testing.T, h host, args ...string) (string, error) {
	t.Helper()
	script := `nsenter -t "$(pgrep -x placid-agent)" -m placid "$@"`
	return l.try(t.Context(), nil, append([]string{"exec", h.name, "bash", "-c", script, "bash"}, args...)...)
}

// separate cuts the node off from the API server, until the returned function is
// called or the test ends.
func (l *lab) separate(t *testing.T, h host) (join func()) {
	t.Helper()
	change := func(verb string) error {
		var errs []error
		for _, a := range l.api {
			_, err := l.try(background(), nil, "exec", h.name, "ip", "route", verb, "blackhole", a.String())
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	if err := change("add"); err != nil {
		t.Fatal(err)
	}
	joined := false
	join = func() {
		if joined {
			return
		}
		joined = true
		if err := change("del"); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(join)
	return join
}

// follower is the node whose operator does not lead.
func (l *lab) follower(t *testing.T) host {
	t.Helper()
	_, leading := l.leader(t)
	for _, h := range l.nodes {
		if h.name != leading.name {
			return h
		}
	}
	t.Fatal("all nodes lead")
	return host{}
}

// testAway takes the API server from one node, kills its agent, and changes a
// policy meanwhile: what was in force stays so, and the change is when it is back.
func (l *lab) testAway(t *testing.T, c cast) {
	h, g := l.follower(t), c.guarded
	server := g.near
	if g.pods[1].node.name == h.name {
		server = g.far
	}
	mine, strange := waysBetween(g.friend, server), waysBetween(g.stranger, server)
	traffic := startLoad(t, [2]place{g.friend, g.near}, [2]place{g.friend, g.far})
	opened, guarded := keepTrying(t, true, g.permitted()...), g.guard(t)
	join := l.separate(t, h)
	old := strings.TrimSpace(l.on(t, h, "pgrep", "-x", "placid-agent"))
	l.on(t, h, "kill", "-9", old)
	eventually(t, podTimeout, "another agent without the API server", func() error {
		out, err := l.placidOn(t, h, "status", "--brief")
		if now := strings.TrimSpace(l.on(t, h, "bash", "-c", "pgrep -x placid-agent || true")); now == "" || now == old {
			return fmt.Errorf("process %q, before %q", now, old)
		}
		if code := exitCode(err); code != 0 && code != 1 {
			return fmt.Errorf("status: %w", err)
		}
		if err == nil {
			return errors.New("it finds all well: " + out)
		}
		return nil
	})
	traffic.end(t, minimumExchanges)
	opened.end(t, minimumExchanges)
	guarded()

	// The other node follows at once; this one cannot know.
	swapped := ingressPolicy(g.policy.Namespace, g.policy.Name, with(roleLabel, serverRole),
		ingressRule{From: []policyPeer{{PodSelector: with(roleLabel, strangerRole)}}})
	l.apply(t, swapped)
	t.Cleanup(func() { join(); l.restore(t, g) })
	other := g.near
	if other.name == server.name && other.addrs == server.addrs {
		other = g.far
	}
	eventually(t, policyTimeout, "the other node follows the change", func() error {
		return errors.Join(wantAnswers(t, waysBetween(g.stranger, other), true), wantAnswers(t, waysBetween(g.friend, other), false))
	})
	if err := errors.Join(wantAnswers(t, mine, true), wantAnswers(t, strange, false)); err != nil {
		t.Errorf("the separated node does not enforce what it did: %v", err)
	}
	join()
	eventually(t, podTimeout, "the node follows when it is back", func() error {
		return errors.Join(wantAnswers(t, strange, true), wantAnswers(t, mine, false))
	})
	l.waitAgent(t, h)
}

// restore puts the troupe's own policy back.
func (l *lab) restore(t *testing.T, g *troupe) {
	t.Helper()
	if _, err := l.try(background(), strings.NewReader(policyJSON(t, g.policy)), "kubectl", "apply", "-f", "-"); err != nil {
		t.Error(err)
	}
}
