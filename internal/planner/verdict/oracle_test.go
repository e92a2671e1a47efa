package verdict

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"testing"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/policy/policytest"
	"github.com/placid-net/placid/internal/state"
)

const (
	oracleClusters   = 5000
	oraclePackets    = 60
	identityClusters = 2000
	resultClusters   = 500
	limitClusters    = 100
)

// randomCluster makes a cluster of which every pod is judged, and has an identity.
func randomCluster(rng *rand.Rand) policytest.Cluster {
	c := policytest.Random(rng)
	for i := range c.Pods {
		c.Pods[i].Endpoint, c.Pods[i].Init = uint32(i)+1, false
	}
	// A filter keeps the name of the namespace in any case.
	c.HiddenDerivedLabels = slices.DeleteFunc(c.HiddenDerivedLabels, func(key string) bool { return key == identity.NamespaceKey })
	c.Number()
	return c
}

// changedCluster gives the cluster with some things about its policies changed.
func changedCluster(rng *rand.Rand, c policytest.Cluster) policytest.Cluster {
	out := c
	out.Policies = slices.Clone(c.Policies)
	for range rng.IntN(3) {
		if n := len(out.Policies); n > 0 {
			i := rng.IntN(n)
			out.Policies = slices.Delete(out.Policies, i, i+1)
		}
	}
	for i := range rng.IntN(3) {
		out.Policies = append(out.Policies, out.RandomPolicy(rng, 100+i))
	}
	switch rng.IntN(16) {
	case 0:
		out.Mode = policytest.ModeAlways
	case 1:
		out.Mode = ""
	case 2:
		out.AuditAll = !out.AuditAll
	case 3:
		out.HiddenPodLabels = []string{"app"}
	case 4:
		out.Namespaces = slices.Clone(c.Namespaces)
		ns := &out.Namespaces[rng.IntN(len(out.Namespaces))]
		ns.Labels = maps.Clone(ns.Labels)
		ns.Labels["team"] = "b"
	}
	return out
}

// sideOf gives the side that a cluster of policytest is.
func sideOf(t *testing.T, c policytest.Cluster) Side {
	t.Helper()
	var items []string
	for _, key := range c.HiddenPodLabels {
		items = append(items, "!"+key+"$")
	}
	for _, key := range c.HiddenNamespaceLabels {
		items = append(items, `!io\.cilium\.k8s\.namespace\.labels\.`+key)
	}
	for _, key := range c.HiddenDerivedLabels {
		items = append(items, "!"+regexp.QuoteMeta(key))
	}
	filter, err := identity.ParseFilter(items)
	if err != nil {
		t.Fatal(err)
	}
	return Side{Policies: c.Policies, Namespaces: c.Namespaces, Filter: filter, Mode: policy.Mode(c.Mode), AuditAll: c.AuditAll}
}

func clusterOf(c policytest.Cluster) Cluster {
	out := Cluster{Name: policytest.Name, Nodes: []snapshot.Node{{Name: "this", Addrs: c.Node}, {Name: "other", Addrs: c.Nodes}}}
	for _, p := range c.Pods {
		out.Pods = append(out.Pods, snapshot.Pod{
			Pod:   state.Pod{Ref: p.Ref, Labels: p.Labels, ServiceAccount: p.ServiceAccount, NamedPorts: p.NamedPorts},
			Addrs: p.Addrs, Node: "this",
		})
	}
	return out
}

// names gives the name of the peer that has an address, which is not the node's
// own.
func (c *comparer) name(world policytest.Cluster, a netip.Addr) string {
	for i, p := range world.Pods {
		if !slices.Contains(p.Addrs, a) {
			continue
		}
		for _, g := range c.peers[:c.groups] {
			if slices.Contains(g.pods, i) {
				return g.Name
			}
		}
	}
	kinds := []PeerKind{Region, World}
	switch {
	case slices.Contains(world.Node, a):
		kinds = []PeerKind{Host}
	case slices.Contains(world.Nodes, a):
		kinds = []PeerKind{RemoteNode}
	}
	longest, name := -1, ""
	for _, p := range c.peers[c.groups:] {
		switch {
		case !slices.Contains(kinds, p.Kind):
		case p.Prefix.IsValid() && p.Prefix.Contains(a) && p.Prefix.Bits() > longest:
			longest, name = p.Prefix.Bits(), p.Name
		case !p.Prefix.IsValid() && longest < 0 && p.place[familyOf(a)] == nowhere:
			name = p.Name
		}
	}
	return name
}

// pair is a change as packets see it.
type pair struct{ from, to, family string }

// TestOracle compares the changes with verdicts that the policies' words give,
// packet by packet.
func TestOracle(t *testing.T) {
	changes, unchanged := 0, 0
	for seed := range uint64(oracleClusters) {
		rng := rand.New(rand.NewPCG(seed, 1))
		old := randomCluster(rng)
		now := changedCluster(rng, old)
		c := newComparer(clusterOf(old), [sides]Side{sideOf(t, old), sideOf(t, now)}, Options{})
		n, m := c.checkPackets(t, seed, rng, [sides]policytest.Cluster{old, now})
		changes, unchanged = changes+n, unchanged+m
	}
	t.Logf("%d packets changed their verdict, %d did not", changes, unchanged)
	if changes < oracleClusters {
		t.Errorf("only %d packets changed their verdict: the test shows little", changes)
	}
}

// TestOracleByIdentity does so where a filter hides labels from all selectors:
// then the pods may as well not have them.
func TestOracleByIdentity(t *testing.T) {
	changes := 0
	for seed := range uint64(identityClusters) {
		rng := rand.New(rand.NewPCG(seed, 4))
		old := randomCluster(rng)
		old.HiddenDerivedLabels = nil
		now := changedCluster(rng, old)
		var in [sides]Side
		var bare [sides]policytest.Cluster
		for i, x := range []policytest.Cluster{old, now} {
			in[i] = sideOf(t, x)
			in[i].ByIdentity = true
			bare[i] = withoutHidden(x)
		}
		n, _ := newComparer(clusterOf(old), in, Options{}).checkPackets(t, seed, rng, bare)
		changes += n
	}
	if changes < identityClusters {
		t.Errorf("only %d packets changed their verdict: the test shows little", changes)
	}
}

// withoutHidden gives the cluster without the labels that identities lack.
func withoutHidden(c policytest.Cluster) policytest.Cluster {
	out := c
	out.HiddenPodLabels, out.HiddenNamespaceLabels, out.HiddenDerivedLabels = nil, nil, nil
	out.Pods, out.Namespaces = slices.Clone(c.Pods), slices.Clone(c.Namespaces)
	without := func(labels map[string]string, keys []string) map[string]string {
		left := maps.Clone(labels)
		maps.DeleteFunc(left, func(key, _ string) bool { return slices.Contains(keys, key) })
		return left
	}
	for i := range out.Pods {
		out.Pods[i].Labels = without(out.Pods[i].Labels, c.HiddenPodLabels)
	}
	for i := range out.Namespaces {
		out.Namespaces[i].Labels = without(out.Namespaces[i].Labels, c.HiddenNamespaceLabels)
	}
	return out
}

// checkPackets compares with what the words of both clusters give, and counts the
// packets whose verdict changes and those whose does not.
func (c *comparer) checkPackets(t *testing.T, seed uint64, rng *rand.Rand, world [sides]policytest.Cluster) (changes, unchanged int) {
	t.Helper()
	old, now := world[before], world[after]
	names := map[string]bool{}
	for _, p := range c.peers {
		if names[p.Name] {
			t.Fatalf("seed %d: two peers are called %s", seed, p.Name)
		}
		names[p.Name] = true
	}
	found := c.differences()
	for _, p := range slices.Concat(old.Packets(rng, oraclePackets/2), now.Packets(rng, oraclePackets/2)) {
		was, is := old.Allowed(p), now.Allowed(p)
		from, to := c.name(old, p.From), c.name(old, p.To)
		if from == "" || to == "" {
			t.Fatalf("seed %d: %+v: no peer: from %q, to %q", seed, p, from, to)
		}
		ports, ok := found[pair{from, to, ""}]
		if !ok {
			ports = found[pair{from, to, familyName(familyOf(p.From))}]
		}
		opened := c.sets.sets[ports[after]].minus(c.sets.sets[ports[before]]).Has(p.Protocol, p.Port)
		closed := c.sets.sets[ports[before]].minus(c.sets.sets[ports[after]]).Has(p.Protocol, p.Port)
		if opened != (is && !was) || closed != (was && !is) {
			t.Fatalf("seed %d: %+v from %s to %s: allowed was %v, is %v; allowed ports were %v, are %v", seed, p, from, to, was, is,
				c.sets.sets[ports[before]], c.sets.sets[ports[after]])
		}
		if was != is {
			changes++
		} else {
			unchanged++
		}
	}
	return changes, unchanged
}

// differences gives all changes by the names of their peers.
func (c *comparer) differences() map[pair][sides]portsID {
	out := map[pair][sides]portsID{}
	for n := range c.classes {
		for _, d := range c.from(n) {
			family := ""
			if d.family >= 0 {
				family = familyName(d.family)
			}
			for _, from := range c.members[n] {
				for _, to := range c.members[d.to] {
					out[pair{c.peers[from].Name, c.peers[to].Name, family}] = d.ports
				}
			}
		}
	}
	return out
}

// TestResult checks that a whole Result agrees with itself.
func TestResult(t *testing.T) {
	for seed := range uint64(resultClusters) {
		rng := rand.New(rand.NewPCG(seed, 3))
		old := randomCluster(rng)
		now := changedCluster(rng, old)
		res, err := Compare(t.Context(), clusterOf(old), sideOf(t, old), sideOf(t, now), Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkCounts(t, seed, res)
	}
}

// checkCounts checks that a Result without a limit agrees with itself, and that
// every change has causes that are of its kind.
func checkCounts(t *testing.T, seed uint64, res Result) {
	t.Helper()
	opened, closed := 0, 0
	seen := map[pair]bool{}
	for _, x := range res.Changes {
		key := pair{x.From.Name, x.To.Name, x.Family}
		if seen[key] {
			t.Fatalf("seed %d: %v is there twice", seed, key)
		}
		seen[key] = true
		closes, opens := false, false
		for _, cause := range x.Causes {
			switch cause.Effect {
			case DeniedNow, IsolatedNow, AllowGone:
				closes = true
			case AllowedNow, IsolationOff, DenyGone:
				opens = true
			case Otherwise:
				closes, opens = true, true
			}
			if len(cause.Rules)+len(cause.Policies)+len(cause.Reason) == 0 {
				t.Fatalf("seed %d: %v: cause %+v names nothing", seed, key, cause)
			}
		}
		if x.Opened.Empty() == opens && !slices.ContainsFunc(x.Causes, isOtherwise) || x.Closed.Empty() == closes && !slices.ContainsFunc(x.Causes, isOtherwise) {
			t.Fatalf("seed %d: %v: opened %v, closed %v, causes %+v", seed, key, x.Opened, x.Closed, x.Causes)
		}
		if !x.Opened.Empty() {
			opened++
		}
		if !x.Closed.Empty() {
			closed++
		}
	}
	if len(res.Changes) != res.Changed || opened != res.Opened || closed != res.Closed {
		t.Fatalf("seed %d: listed %d, opened %d, closed %d; counted %d, %d, %d",
			seed, len(res.Changes), opened, closed, res.Changed, res.Opened, res.Closed)
	}
}

func isOtherwise(c Cause) bool { return c.Effect == Otherwise }

// TestLimit checks that a limit cuts the list and nothing else.
func TestLimit(t *testing.T) {
	for seed := range uint64(limitClusters) {
		rng := rand.New(rand.NewPCG(seed, 2))
		old := randomCluster(rng)
		now := changedCluster(rng, old)
		all, err := Compare(t.Context(), clusterOf(old), sideOf(t, old), sideOf(t, now), Options{})
		if err != nil {
			t.Fatal(err)
		}
		some, err := Compare(t.Context(), clusterOf(old), sideOf(t, old), sideOf(t, now), Options{Limit: 3})
		if err != nil {
			t.Fatal(err)
		}
		all.Changes = all.Changes[:min(3, len(all.Changes))]
		if fmt.Sprint(all) != fmt.Sprint(some) {
			t.Fatalf("seed %d: with a limit\n%+v\nwithout\n%+v", seed, some, all)
		}
	}
}
