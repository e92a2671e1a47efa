package e2e

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// troupe is a few pods in a namespace of their own: two that serve, on different
// nodes, one that their policy allows and one that it does not.
type troupe struct {
	near, far, friend, stranger place // friend, stranger and near are on the first node
	pods                        []pod // in this order
	policy                      networkingv1.NetworkPolicy
	servers                     *servers // in near and far
}

// roleLabel says what a pod of a troupe is: serverRole, friendRole or strangerRole.
const (
	roleLabel    = "role"
	serverRole   = "server"
	friendRole   = "friend"
	strangerRole = "stranger"
)

// newTroupe starts the pods; policy is not applied yet.
func (l *lab) newTroupe(t *testing.T, name string) *troupe {
	t.Helper()
	l.createNamespaces(t, newNamespace(name, nil))
	var specs []corev1.Pod
	for _, p := range []struct {
		name, role string
		node       int
	}{{"near", serverRole, 0}, {"far", serverRole, 1}, {friendRole, friendRole, 0}, {strangerRole, strangerRole, 0}} {
		s := barePod(p.name, l.nodes[p.node].name)
		s.Namespace, s.Labels = name, map[string]string{roleLabel: p.role}
		specs = append(specs, s)
	}
	tr := &troupe{pods: l.startPods(t, specs...)}
	for i, at := range []*place{&tr.near, &tr.far, &tr.friend, &tr.stranger} {
		*at = l.podPlace(t, tr.pods[i])
	}
	tr.policy = ingressPolicy(name, "friends", with(roleLabel, serverRole), ingressRule{From: []policyPeer{{PodSelector: with(roleLabel, friendRole)}}})
	tr.servers = serveProbes(t, probePorts, tr.near, tr.far)
	return tr
}

// startGuarded starts a troupe whose policy stays in force.
func (l *lab) startGuarded(t *testing.T) *troupe {
	t.Helper()
	tr := l.newTroupe(t, "guarded")
	l.enforce(t, tr)
	return tr
}

// permitted and forbidden are the ways to the servers.
func (tr *troupe) permitted() []probe {
	return slices.Concat(waysBetween(tr.friend, tr.near), waysBetween(tr.friend, tr.far))
}

func (tr *troupe) forbidden() []probe {
	return slices.Concat(waysBetween(tr.stranger, tr.near), waysBetween(tr.stranger, tr.far))
}

// enforce applies the policy and waits until the stranger is shut out.
func (l *lab) enforce(t *testing.T, tr *troupe) {
	t.Helper()
	l.apply(t, tr.policy)
	tr.waitShut(t)
}

// guard tries what is forbidden until the returned function is called, which
// fails the test if anything of it arrived, or if there were few attempts.
func (tr *troupe) guard(t *testing.T) (end func()) {
	t.Helper()
	before := tr.servers.visits(tr.stranger)
	tries := keepTrying(t, false, tr.forbidden()...)
	return func() {
		t.Helper()
		tries.end(t, minimumExchanges)
		if n := tr.servers.visits(tr.stranger) - before; n > 0 {
			t.Errorf("%d forbidden packets or connections arrived", n)
		}
	}
}

// waitShut waits until the stranger reaches nobody.
func (tr *troupe) waitShut(t *testing.T) {
	t.Helper()
	eventually(t, policyTimeout, "the stranger is shut out", func() error {
		return wantAnswers(t, tr.forbidden(), false)
	})
}
