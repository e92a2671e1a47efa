package e2e

import "testing"

// TestServices is a cluster with native routing whose pods and hosts reach each
// other by Services. It runs before the other labs and not beside them: it counts
// what is lost, and three clusters are more than a small machine carries.
func TestServices(t *testing.T) {
	l := startLab(t, "services", "--set", "routing-mode=native", "--set", followHints, "--set", fewSlots, "--set", frequentAudits, "--set", frequentCollections)
	l.testServices(t)
}

// testTunnelServices is what is different with a tunnel, in a lab where only the
// sockets of the nodes themselves are balanced.
func (l *lab) testTunnelServices(t *testing.T) {
	c := l.startServiceCast(t)
	for i := range c.callers {
		c.callers[i].sockets = c.callers[i].isNode
	}
	l.run(t, "every way into every Service", func(t *testing.T) { l.testWaysIn(t, c) })
	l.run(t, "pods leave the cluster with their node's address", func(t *testing.T) { l.testMasquerade(t, c) })
}

// testServices is what a lab shows of Services.
func (l *lab) testServices(t *testing.T) {
	c := l.startServiceCast(t)
	l.run(t, "every way into every Service", func(t *testing.T) { l.testWaysIn(t, c) })
	l.run(t, "host ports", func(t *testing.T) { l.testHostPorts(t, c) })
	l.run(t, "pods leave the cluster with their node's address", func(t *testing.T) { l.testMasquerade(t, c) })
	l.run(t, "health check node port", l.testHealthCheck)
	l.run(t, "headless Services", l.testHeadless)
	l.run(t, "two Services with one address", func(t *testing.T) { l.testDuplicates(t, c) })
	l.run(t, "a Service that does not fit", func(t *testing.T) { l.testDoesNotFit(t, c) })
	l.run(t, "a backend goes", func(t *testing.T) { l.testGone(t, c, nil) })
	l.run(t, "a backend goes after the agents were killed", func(t *testing.T) { l.testGone(t, c, l.killAgents) })
	l.run(t, "under load", func(t *testing.T) { l.testUnderLoad(t, c) })
	l.run(t, "agents that are killed keep what there is", func(t *testing.T) { l.testKept(t, c) })
}
