package policy_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/policy/policytest"
	"github.com/placid-net/placid/internal/state"
)

// world is an engine, the cluster that it was told of, and the tables that its
// Updates made.
type world struct {
	rng     *rand.Rand
	cluster policytest.Cluster
	engine  *policy.Engine
	mirror  policy.Tables
	next    int
	known   map[uint32]state.Identity // that the engine has
	before  map[uint32]state.Identity // that it had at the Update before
	last    []policy.Query            // asked at the Update before
}

func newWorld(rng *rand.Rand) *world {
	w := &world{rng: rng, cluster: policytest.Random(rng), next: 100, known: map[uint32]state.Identity{}}
	w.cluster.Mode = ""
	w.engine = policy.NewEngine(w.cluster.Config())
	w.sync()
	return w
}

// sync tells the engine everything that the cluster has and had not.
func (w *world) sync() {
	for _, p := range w.cluster.Policies {
		w.engine.SetPolicy(p)
	}
	for _, s := range w.cluster.Subjects() {
		w.engine.SetSubject(s)
	}
	w.syncIdentities()
}

func (w *world) syncIdentities() {
	want := map[uint32]state.Identity{}
	for _, id := range w.cluster.Identities() {
		want[id.ID] = id
		w.engine.SetIdentity(id)
	}
	for id := range w.known {
		if _, ok := want[id]; !ok {
			w.engine.RemoveIdentity(id)
		}
	}
	w.known = want
}

// step changes one thing in the cluster and in the engine.
func (w *world) step() {
	c, r := &w.cluster, w.rng
	switch r.IntN(10) {
	case 0, 1, 2:
		w.next++
		p := c.RandomPolicy(r, w.next)
		c.Policies = append(c.Policies, p)
		w.engine.SetPolicy(p)
	case 3, 4:
		if len(c.Policies) > 0 {
			i := r.IntN(len(c.Policies))
			w.engine.RemovePolicy(c.Policies[i].Key())
			c.Policies = slices.Delete(slices.Clone(c.Policies), i, i+1)
		}
	case 5:
		if len(c.Policies) > 0 {
			i := r.IntN(len(c.Policies))
			old, p := c.Policies[i], c.RandomPolicy(r, 0)
			for p.Kind != old.Kind {
				p = c.RandomPolicy(r, 0)
			}
			p.Namespace, p.Name, p.Part = old.Namespace, old.Name, old.Part
			c.Policies = slices.Clone(c.Policies)
			c.Policies[i] = p
			w.engine.SetPolicy(p)
		}
	case 6, 7:
		w.next++
		p := c.RandomPod(r, w.next%200)
		if c.PodAt(p.Addrs[0]) == nil && c.PodAt(p.Addrs[1]) == nil {
			c.Pods = append(slices.Clone(c.Pods), p)
			c.Number()
			w.sync()
		}
	case 8:
		if len(c.Pods) > 1 {
			i := r.IntN(len(c.Pods))
			w.engine.RemoveSubject(c.Pods[i].Endpoint)
			c.Pods = slices.Delete(slices.Clone(c.Pods), i, i+1)
			c.Number()
			w.syncIdentities()
		}
	case 9:
		i := r.IntN(len(c.Pods))
		p := c.RandomPod(r, 0)
		c.Pods = slices.Clone(c.Pods)
		c.Pods[i].Labels, c.Pods[i].NamedPorts, c.Pods[i].Init = p.Labels, p.NamedPorts, p.Init
		c.Number()
		w.sync()
	}
	if r.IntN(20) == 0 {
		c.AuditAll = !c.AuditAll
		w.engine.SetAuditAll(c.AuditAll)
	}
}

// fatal is how a test ends.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

func same(t fatal, what string, want, got policy.Tables) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

// TestEvolution changes random clusters step by step. After each Update the
// tables are those of a fresh engine, and those that the Updates make; on the way
// there nothing is denied that both sides of it allow, nor the other way round;
// and what is denied afterwards but was not before is announced by Revokes.
func TestEvolution(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		evolve(t, newWorld(rand.New(rand.NewPCG(seed, 1))), 12)
	})
}

func evolve(t fatal, w *world, steps int) {
	for range steps {
		for range w.rng.IntN(4) {
			w.step()
			if w.rng.IntN(4) == 0 {
				w.engine.Subject(1) // settles in the middle of a batch
			}
		}
		u := w.engine.Take()
		queries := append(w.queries(u), w.last...)
		w.last = queries[:len(queries)-len(w.last)]
		before := answers(w.mirror, queries)
		after := w.engine.Tables()
		writeAll(t, w, u, queries, before, answers(after, queries))
		w.before = w.known
		same(t, "tables by updates", after, w.mirror)
		same(t, "tables of a fresh engine", w.cluster.Engine().Tables(), after)
		if again := w.engine.Take(); !again.Empty() {
			t.Fatalf("a second Take gives %+v", again)
		}
	}
}

// between tells whether an Update has a third answer to a query besides that of
// before and that of after: the peer's identity came or went, and what the pod is
// under changed at another moment.
func (w *world) between(u policy.Update, q policy.Query) bool {
	_, was := w.before[q.Identity]
	_, is := w.known[q.Identity]
	_, changed := u.Endpoints[q.Endpoint]
	return was != is && changed
}

// queries are those of packets at the edges of policies as they are now, and as
// the mirror has them.
func (w *world) queries(u policy.Update) []policy.Query {
	var out []policy.Query
	for _, p := range w.cluster.Packets(w.rng, 25) {
		out = append(out, w.cluster.Queries(p)...)
	}
	var prefixes []netip.Prefix
	for _, m := range []map[netip.Prefix]policy.PeerID{w.mirror.CIDRs, u.CIDRs} {
		prefixes = append(prefixes, slices.SortedFunc(maps.Keys(m), func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })...)
	}
	for endpoint := range w.mirror.Endpoints {
		for range 4 {
			if len(prefixes) == 0 {
				break
			}
			out = append(out, policy.Query{
				Endpoint: endpoint, Egress: w.rng.IntN(2) == 0, Peer: prefixes[w.rng.IntN(len(prefixes))].Addr(),
				Identity: state.IdentityWorld, Protocol: state.ProtocolTCP, Port: 80,
			})
		}
	}
	return out
}

func answers(t policy.Tables, queries []policy.Query) []bool {
	out := make([]bool, len(queries))
	for i, q := range queries {
		out[i] = t.Judge(q).Allowed
	}
	return out
}

// writeAll writes u into the mirror, one row after the other in the documented
// order, and looks after each row. Within a group the order is the map's: any.
func writeAll(t fatal, w *world, u policy.Update, queries []policy.Query, before, after []bool) {
	to := &w.mirror
	known := maps.Clone(to.Endpoints)
	check := func(format string, args ...any) {
		t.Helper()
		for i, got := range answers(*to, queries) {
			if _, ok := known[queries[i].Endpoint]; ok && before[i] == after[i] && got != before[i] && !w.between(u, queries[i]) {
				t.Fatalf("%s: %+v: allowed is %v for a moment, and %v before and after\n%+v", fmt.Sprintf(format, args...), queries[i], got, before[i], u)
			}
		}
	}
	for _, id := range u.DroppedEndpoints {
		delete(known, id)
	}
	one := func(part policy.Update, format string, args ...any) {
		to.Apply(part)
		check(format, args...)
	}
	for id, list := range u.Ports {
		one(policy.Update{Ports: map[policy.PortsID][]policy.PortRange{id: list}}, "ports %x", id)
	}
	for id, s := range u.Sets {
		one(policy.Update{Sets: map[policy.SetID]*policy.Set{id: s}}, "set %x", id)
	}
	for key, x := range u.Grown {
		one(policy.Update{Grown: map[policy.EntryKey]policy.Entry{key: x}}, "grown %x", key)
	}
	for p, id := range u.CIDRs {
		one(policy.Update{CIDRs: map[netip.Prefix]policy.PeerID{p: id}}, "CIDR %s", p)
	}
	for id, p := range u.Endpoints {
		one(policy.Update{Endpoints: map[uint32]policy.EndpointPolicy{id: p}}, "endpoint %d", id)
	}
	one(policy.Update{DroppedEndpoints: u.DroppedEndpoints}, "dropped endpoints")
	for _, p := range u.DroppedCIDRs {
		one(policy.Update{DroppedCIDRs: []netip.Prefix{p}}, "dropped CIDR %s", p)
	}
	for _, key := range u.Shrunk {
		one(policy.Update{Shrunk: []policy.EntryKey{key}}, "shrunk %x", key)
	}
	for i := range queries {
		_, ok := known[queries[i].Endpoint]
		if ok && before[i] && !after[i] && !u.Revokes {
			t.Fatalf("%+v was allowed and is not, but Revokes is false\n%+v", queries[i], u)
		}
	}
	if got := answers(*to, queries); !slices.Equal(got, after) {
		t.Fatalf("at the epoch the tables do not answer as they do in the end\n%+v", u)
	}
	for _, id := range u.DroppedSets {
		one(policy.Update{DroppedSets: []policy.SetID{id}}, "dropped set %x", id)
	}
	for _, id := range u.DroppedPorts {
		one(policy.Update{DroppedPorts: []policy.PortsID{id}}, "dropped ports %x", id)
	}
	to.Apply(policy.Update{Renamed: u.Renamed})
}
