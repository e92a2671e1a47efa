package security

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// TestModel does random things to a node, with a kernel that fails at times and
// agents that are killed. Whatever came before, the kernel ends up as a fresh
// engine would have it, every pod with the identity that its labels have, and no
// pod was ever admitted without its policies.
func TestModel(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &model{node: newNode(t), rng: rand.New(rand.NewPCG(seed, 1))}
				defer func() { m.stop() }()
				m.otherNode()
				m.publishes(there)
				m.start()
				m.sync()
				for range 120 {
					m.step()
				}
				m.kernel.set(func(k *fakeKernel) { k.fail = false })
				m.Pass(2 * stageLimit)
				m.check()
			})
		})
	}
}

type model struct {
	*node
	rng  *rand.Rand
	pods int
}

var values = []string{"web", "db", "client"}

func (m *model) pick() string { return values[m.rng.IntN(len(values))] }

func (m *model) step() {
	switch m.rng.IntN(12) {
	case 0, 1:
		m.addPod()
	case 2:
		for id := range m.eps { // any of them
			delete(m.eps, id)
			m.agent.Forget(id)
			break
		}
	case 3, 4:
		m.allow(m.pick(), "app="+m.pick(), "app="+m.pick())
	case 5:
		m.removePolicy(m.pick())
	case 6:
		i := m.rng.IntN(len(values))
		m.identify(uint32(300+i), "app="+values[i])
	case 7:
		m.Must(m.tables.DeleteIdentity(uint32(300 + m.rng.IntN(len(values)))))
	case 8:
		if m.pods > 0 {
			m.pod(fmt.Sprint("pod-", m.rng.IntN(m.pods)), "app="+m.pick())
		}
	case 9:
		m.kernel.set(func(k *fakeKernel) { k.fail = !k.fail })
	case 10:
		m.Pass(time.Duration(m.rng.IntN(40)) * time.Second)
	case 11:
		m.stop()
		m.cluster.synced = make(chan struct{})
		m.start()
		m.sync()
	}
	synctest.Wait()
}

// addPod admits a pod; it is under its policies when it may get its interface.
func (m *model) addPod() {
	name := fmt.Sprint("pod-", m.pods)
	m.pods++
	m.pod(name, "app="+m.pick())
	id, err := m.add(podRef(name))
	if err != nil {
		return
	}
	policies, _, err := m.tables.NetworkPolicies()
	m.Must(err)
	pod, _, err := m.tables.PodByName(ns, name)
	m.Must(err)
	for _, p := range policies {
		if p.Subject.MatchLabels["app"] == pod.Labels["app"] && m.open(id) {
			m.Errorf("%s was admitted without policy %s", name, p.Name)
		}
	}
}

// check compares the kernel with an engine that knows nothing but the tables.
func (m *model) check() {
	fresh := policy.NewEngine(policy.Config{
		Mode: m.mode, PodLabelKnown: m.filter.KeepPodLabel, NamespaceLabelKnown: m.filter.KeepNamespaceLabel,
	})
	policies, _, err := m.tables.NetworkPolicies()
	m.Must(err)
	for _, p := range policies {
		fresh.SetPolicy(p)
	}
	ids, _, err := m.tables.Identities()
	m.Must(err)
	numbers := map[string]uint32{}
	for _, id := range ids {
		fresh.SetIdentity(id)
		numbers[identity.Key(id.Labels, id.NamedPorts)] = id.ID
	}
	namespace, _, err := m.tables.NamespaceByName(ns)
	m.Must(err)
	for _, n := range slices.Sorted(maps.Keys(m.eps)) {
		ep := m.eps[n]
		pod, _, err := m.tables.PodByName(ns, ep.Pod.Name)
		m.Must(err)
		fresh.SetSubject(policy.Subject{Endpoint: ep.ID, Pod: ep.Pod, Labels: pod.Labels, NamedPorts: pod.NamedPorts})
		labels, ports := identity.Of(pod, namespace, "default", m.filter)
		want, ok := numbers[identity.Key(labels, ports)]
		got := m.identityOf(ep.ID)
		_, kept := numbers[keyOf(ids, got)]
		if ok && got != want || !ok && got != state.IdentityInit && !kept {
			m.Errorf("%s has identity %d, want %d (%t)", ep.Pod, got, want, ok)
		}
	}
	m.kernel.mu.Lock()
	defer m.kernel.mu.Unlock()
	want := fresh.Tables()
	if diff := cmp.Diff(judgeable(want), judgeable(m.kernel.tables)); diff != "" {
		m.Errorf("the kernel differs from what it should hold (-want +got):\n%s", diff)
	}
}

func keyOf(ids []state.Identity, number uint32) string {
	for _, id := range ids {
		if id.ID == number {
			return identity.Key(id.Labels, id.NamedPorts)
		}
	}
	return "none"
}

// judgeable is what the datapath judges by: without the names of rules.
func judgeable(t policy.Tables) any {
	sets := map[policy.SetID]map[policy.PeerID]policy.PortsID{}
	for id, s := range t.Sets {
		sets[id] = map[policy.PeerID]policy.PortsID{}
		for peer, x := range s.Entries {
			sets[id][peer] = x.Ports
		}
	}
	return struct {
		Sets      map[policy.SetID]map[policy.PeerID]policy.PortsID
		Ports     map[policy.PortsID][]policy.PortRange
		Endpoints map[uint32]policy.EndpointPolicy
		Prefixes  int
	}{sets, t.Ports, t.Endpoints, len(t.CIDRs)}
}
