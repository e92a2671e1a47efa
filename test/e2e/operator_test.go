package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/placid-net/placid/api/v1alpha1"
)

const (
	// takeover is the lease's duration, and then some.
	takeover   = time.Minute
	fakePrefix = "fake-"
	fakeLabel  = "e2e.placid.io/fake"
)

// fakeNode is a Node without a machine.
func fakeNode(number int) corev1.Node {
	return corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s%02d", fakePrefix, number), Labels: map[string]string{fakeLabel: "yes"}},
		Spec:       corev1.NodeSpec{Unschedulable: true},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("192.0.2.%d", number+1)},
		}},
	}
}

func (l *lab) addFakes(t *testing.T, first, count int) {
	t.Helper()
	objects := make([]any, count)
	for i := range objects {
		objects[i] = fakeNode(first + i)
	}
	l.apply(t, objects...)
}

// testOperators shows that pod CIDRs are given out once, whatever happens to
// the leading operator. ranges is how many the IPv4 pool has.
func (l *lab) testOperators(t *testing.T, ranges int) {
	t.Cleanup(func() {
		if _, err := l.try(background(), nil, "kubectl", "delete", "node", "-l", fakeLabel, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	free := ranges - len(l.nodes)
	l.run(t, "a killed leader is followed by another, and each node gets its own CIDRs", func(t *testing.T) {
		old, h := l.leader(t)
		l.addFakes(t, 0, free/2)
		l.on(t, h, "pkill", "-9", "-x", "placid-operator")
		l.waitCIDRs(t, len(l.nodes)+free/2)
		eventually(t, takeover, "another operator leads", func() error {
			if now, _ := l.leader(t); now == old {
				return errors.New(old + " still holds the lease")
			}
			return nil
		})
	})
	l.run(t, "a frozen leader is followed by the operator of another node and gives out nothing when it wakes", func(t *testing.T) {
		_, h := l.leader(t)
		pid := strings.TrimSpace(l.on(t, h, "pgrep", "-x", "placid-operator"))
		l.on(t, h, "kill", "-STOP", pid)
		l.addFakes(t, free/2, free-free/2)
		eventually(t, takeover, "the operator of another node leads", func() error {
			if _, now := l.leader(t); now.name == h.name {
				return errors.New("the lease is still held on " + h.name)
			}
			return nil
		})
		l.on(t, h, "kill", "-CONT", pid)
		l.waitCIDRs(t, ranges)
		eventually(t, takeover, "the old leader ends", func() error {
			if out, err := l.try(t.Context(), nil, "exec", h.name, "pgrep", "-x", "placid-operator"); err == nil && strings.TrimSpace(out) == pid {
				return errors.New("it still runs")
			}
			return nil
		})
		l.waitCIDRs(t, ranges)
	})
	l.run(t, "a node for which the pool has no CIDR says so, and gets one when another node goes", func(t *testing.T) {
		last := fakeNode(free)
		l.addFakes(t, free, 1)
		const advice = "cluster-pool-ipv4-cidr"
		eventually(t, takeover, "status.operatorError", func() error {
			pn := get[v1alpha1.PlacidNode](t, l, "placidnode", last.Name)
			if !strings.Contains(pn.Status.OperatorError, advice) {
				return fmt.Errorf("%+v", pn)
			}
			return nil
		})
		eventually(t, takeover, "event of the Node", func() error {
			return l.eventSays(t, "Node", last.Name, "PodCIDRExhausted", "10.50.0.0/24", advice)
		})
		l.kubectl(t, "delete", "node", fakeNode(0).Name)
		eventually(t, takeover, "the waiting node has CIDRs", func() error {
			pn := get[v1alpha1.PlacidNode](t, l, "placidnode", last.Name)
			if pn.Status.OperatorError != "" || len(pn.Spec.PodCIDRs) != 2 {
				return fmt.Errorf("%+v", pn)
			}
			return nil
		})
		l.waitCIDRs(t, ranges)
	})
}

// leader returns the identity in the operators' lease, and its host.
func (l *lab) leader(t *testing.T) (string, host) {
	t.Helper()
	lease := get[coordinationv1.Lease](t, l, "-n", systemNamespace, "lease", "placid-operator")
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return "", host{}
	}
	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	return *lease.Spec.HolderIdentity, l.node(t, name)
}

// waitCIDRs waits until as many nodes have CIDRs of both families, and fails
// when two overlap.
func (l *lab) waitCIDRs(t *testing.T, nodes int) {
	t.Helper()
	var list v1alpha1.PlacidNodeList
	eventually(t, takeover, fmt.Sprintf("%d nodes have CIDRs", nodes), func() error {
		list = get[v1alpha1.PlacidNodeList](t, l, "placidnodes")
		complete := slices.DeleteFunc(slices.Clone(list.Items), func(n v1alpha1.PlacidNode) bool { return len(n.Spec.PodCIDRs) != 2 })
		if len(complete) != nodes {
			return fmt.Errorf("%d of %d have both", len(complete), len(list.Items))
		}
		return nil
	})
	holders := map[netip.Prefix]string{}
	for _, n := range list.Items {
		for _, text := range n.Spec.PodCIDRs {
			p := netip.MustParsePrefix(text)
			for other, name := range holders {
				if p.Overlaps(other) {
					t.Errorf("%s of %s overlaps %s of %s", p, n.Name, other, name)
				}
			}
			holders[p] = n.Name
		}
	}
}
