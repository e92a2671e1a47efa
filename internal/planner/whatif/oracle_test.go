package whatif

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/planner/verdict"
	"github.com/placid-net/placid/internal/policy/policytest"
	"github.com/placid-net/placid/internal/state"
)

const (
	countClusters   = 3000
	proposeClusters = 250
)

// slowKeys gives the key of every pod's identity, by the pod; keep decides about
// each label.
func slowKeys(s *snapshot.Snapshot, ports bool, keep func(source, key string) bool) map[state.PodRef]string {
	out := map[state.PodRef]string{}
	for _, p := range s.Pods {
		if p.HostNetwork {
			continue
		}
		ns := state.Namespace{Name: p.Ref.Namespace}
		for _, n := range s.Namespaces {
			if n.Name == p.Ref.Namespace {
				ns = n
			}
		}
		labels := identity.PodLabels(p.Pod, ns, policytest.Name)
		maps.DeleteFunc(labels, func(name, _ string) bool {
			source, key, _ := strings.Cut(name, ":")
			return !keep(source, key)
		})
		named := p.NamedPorts
		if !ports {
			named = nil
		}
		out[p.Ref] = identity.Key(labels, named)
	}
	return out
}

// distinct are the different values.
func distinct(m map[state.PodRef]string) []string {
	return slices.Compact(slices.Sorted(maps.Values(m)))
}

// TestCountOracle compares counts with identities that are made one by one.
func TestCountOracle(t *testing.T) {
	for seed := range uint64(countClusters) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := randomSnapshot(rng)
		platform := []snapshot.Platform{snapshot.Placid, snapshot.Cilium}[rng.IntN(2)]
		items := strings.Fields(filters()[rng.IntN(len(filters()))])
		res, err := Run(t.Context(), s, Options{For: platform, Labels: items, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		ports := platform == snapshot.Placid
		filterNow, filterThen := parse(t, verdict.Labels(s)), parse(t, items)
		now, then := slowKeys(s, ports, filterNow.Keep), slowKeys(s, ports, filterThen.Keep)
		if res.Now.Identities.Total != len(distinct(now)) || res.Then.Identities.Total != len(distinct(then)) {
			t.Fatalf("seed %d: identities %d, %d; want %d, %d", seed, res.Now.Identities.Total, res.Then.Identities.Total, len(distinct(now)), len(distinct(then)))
		}
		checkNamespaces(t, seed, now, res.Now.Identities)
		checkNamespaces(t, seed, then, res.Then.Identities)
		checkWrites(t, seed, s, res, now, then)
		checkKeys(t, seed, s, res, filterNow, filterThen)
	}
}

func checkNamespaces(t *testing.T, seed uint64, keys map[state.PodRef]string, got Count) {
	t.Helper()
	want := map[string]map[string]bool{}
	for ref, key := range keys {
		if want[ref.Namespace] == nil {
			want[ref.Namespace] = map[string]bool{}
		}
		want[ref.Namespace][key] = true
	}
	if len(want) != len(got.Namespaces) {
		t.Fatalf("seed %d: namespaces %v, want %v", seed, got.Namespaces, want)
	}
	for ns, ids := range want {
		if got.Namespaces[ns] != len(ids) {
			t.Fatalf("seed %d: %s has %d identities, want %d", seed, ns, got.Namespaces[ns], len(ids))
		}
	}
}

func checkWrites(t *testing.T, seed uint64, s *snapshot.Snapshot, res Result, now, then map[state.PodRef]string) {
	t.Helper()
	was, is := distinct(now), distinct(then)
	created, deleted, pods, addrs := 0, 0, 0, 0
	for _, key := range is {
		if !slices.Contains(was, key) {
			created++
		}
	}
	for _, key := range was {
		if !slices.Contains(is, key) {
			deleted++
		}
	}
	nodes := map[string]bool{}
	for _, p := range s.Pods {
		if !p.HostNetwork && now[p.Ref] != then[p.Ref] {
			pods++
			addrs += len(p.Addrs)
			nodes[p.Node] = true
		}
	}
	updated := len(nodes)
	if res.For == snapshot.Cilium {
		updated = pods
	}
	if w := res.Writes; w.Created != created || w.Deleted != deleted || w.Updated != updated || res.Moved != addrs {
		t.Fatalf("seed %d: writes %+v, %d moved; want %d created, %d deleted, %d updated, %d moved", seed, w, res.Moved, created, deleted, updated, addrs)
	}
}

func checkKeys(t *testing.T, seed uint64, s *snapshot.Snapshot, res Result, now, then identity.Filter) {
	t.Helper()
	ports := res.For == snapshot.Placid
	for i, k := range res.Keys {
		if i > 0 && k.Causes > res.Keys[i-1].Causes {
			t.Fatalf("seed %d: %+v comes after %+v", seed, k, res.Keys[i-1])
		}
		base := now
		if !now.Keep(identity.SourceKubernetes, k.Key) {
			base = then
		}
		without := len(distinct(slowKeys(s, ports, func(source, key string) bool { return key != k.Key && base.Keep(source, key) })))
		alone := len(distinct(slowKeys(s, false, func(_, key string) bool { return key == k.Key || isPlace(key) })))
		if k.Alone != alone || (k.Kept || k.KeptThen) && k.Without != without {
			t.Fatalf("seed %d: %+v; want %d alone, %d without", seed, k, alone, without)
		}
		if k.Kept != now.Keep(identity.SourceKubernetes, k.Key) || k.KeptThen != then.Keep(identity.SourceKubernetes, k.Key) {
			t.Fatalf("seed %d: %+v: kept or not is wrong", seed, k)
		}
	}
}

// TestProposeOracle checks that a proposed list keeps every verdict, and that no
// list with fewer keys does.
func TestProposeOracle(t *testing.T) {
	proposed, shorter := 0, 0
	for seed := range uint64(proposeClusters) {
		rng := rand.New(rand.NewPCG(seed, 2))
		s := randomSnapshot(rng)
		platform := []snapshot.Platform{snapshot.Placid, snapshot.Cilium}[rng.IntN(2)]
		res, err := Run(t.Context(), s, Options{For: platform, Propose: true, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if res.Verdicts.Changed != 0 {
			t.Fatalf("seed %d: %q changes %+v", seed, res.Then.Labels, res.Verdicts)
		}
		if !res.Proposal.Smallest {
			t.Fatalf("seed %d: %d labels were not all tried: %q", seed, len(res.Proposal.Keys), res.Then.Labels)
		}
		side, _, err := verdict.SideOf(s, platform)
		if err != nil {
			t.Fatal(err)
		}
		all := []string{"app", "env", "pod-hash", "tier"} // all labels of random pods
		for size := range len(res.Proposal.Keys) {
			for _, keys := range subsets(all, size) {
				then := side
				then.Filter = parse(t, includeList(keys, excluding(verdict.Labels(s))))
				cmp, err := verdict.Compare(t.Context(), verdict.ClusterOf(s), side, then, verdict.Options{Limit: 1})
				if err != nil {
					t.Fatal(err)
				}
				if cmp.Changed == 0 {
					t.Fatalf("seed %d: %v keeps every verdict, and %q was proposed", seed, keys, res.Then.Labels)
				}
			}
		}
		for _, k := range res.Proposal.Keys {
			if len(k.Policies) == 0 || len(k.Fields) == 0 {
				t.Fatalf("seed %d: nothing says why %q is needed", seed, k.Key)
			}
		}
		proposed++
		if len(res.Proposal.Keys) < len(all) {
			shorter++
		}
	}
	if shorter == 0 || proposed != proposeClusters {
		t.Errorf("%d of %d proposals leave something out: the test shows little", shorter, proposed)
	}
}
