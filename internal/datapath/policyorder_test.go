package datapath

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/policy/policytest"
	"github.com/placid-net/placid/internal/state"
)

// changing is a cluster that changes, and the engine that is told of it.
type changing struct {
	rng     *rand.Rand
	cluster policytest.Cluster
	engine  *policy.Engine
	known   map[uint32]state.Identity
	names   int
	before  policy.Tables             // the engine's at the last Update
	earlier map[uint32]state.Identity // known at the last Update
	last    []policy.Query            // asked at the last Update
}

func newChanging(seed uint64) *changing {
	rng := rand.New(rand.NewPCG(seed, 1))
	c := &changing{rng: rng, cluster: policytest.Random(rng), known: map[uint32]state.Identity{}, names: 1000}
	c.cluster.Mode, c.cluster.AuditAll = "", false
	c.engine = policy.NewEngine(c.cluster.Config())
	for _, p := range c.cluster.Policies {
		c.engine.SetPolicy(p)
	}
	c.tell()
	return c
}

// tell tells the engine who there is.
func (c *changing) tell() {
	now := map[uint32]state.Identity{}
	for _, id := range c.cluster.Identities() {
		now[id.ID] = id
		c.engine.SetIdentity(id)
	}
	for id := range missing(c.known, now) {
		c.engine.RemoveIdentity(id)
	}
	c.known = now
	for _, s := range c.cluster.Subjects() {
		c.engine.SetSubject(s)
	}
}

// step changes policies, or a pod, and gives what follows from it.
func (c *changing) step() policy.Update {
	for range 1 + c.rng.IntN(3) {
		n := len(c.cluster.Policies)
		switch choice := c.rng.IntN(7); {
		case choice < 3 || n == 0:
			c.names++
			p := c.cluster.RandomPolicy(c.rng, c.names)
			c.cluster.Policies = append(slices.Clone(c.cluster.Policies), p)
			c.engine.SetPolicy(p)
		case choice < 6:
			i := c.rng.IntN(n)
			c.engine.RemovePolicy(c.cluster.Policies[i].Key())
			c.cluster.Policies = slices.Delete(slices.Clone(c.cluster.Policies), i, i+1)
		default:
			i, p := c.rng.IntN(len(c.cluster.Pods)), c.cluster.RandomPod(c.rng, 0)
			c.cluster.Pods = slices.Clone(c.cluster.Pods)
			c.cluster.Pods[i].Labels, c.cluster.Pods[i].NamedPorts = p.Labels, p.NamedPorts
			c.cluster.Number()
			c.tell()
		}
	}
	return c.engine.Take()
}

// queries are those of packets at the edges of the policies, and of their prefixes.
func (c *changing) queries(tables ...policy.Tables) []policy.Query {
	var out []policy.Query
	for _, p := range c.cluster.Packets(c.rng, 20) {
		out = append(out, c.cluster.Queries(p)...)
	}
	for _, t := range tables {
		for p := range t.CIDRs {
			for id := range t.Endpoints {
				q := policy.Query{Endpoint: id, Peer: p.Addr(), Identity: state.IdentityWorld, Protocol: state.ProtocolTCP, Port: 80}
				egress := q
				egress.Egress = true
				out = append(out, q, egress)
			}
		}
	}
	return out
}

// clear makes the kernel forget the last cluster, and connects the pods of c.
func (k *policyKernel) clear(t *testing.T, c *changing) {
	t.Helper()
	open := map[uint32]policy.EndpointPolicy{}
	for id := range k.securities.all() {
		open[id] = policy.EndpointPolicy{}
	}
	k.sync(t, policy.Tables{Endpoints: open})
	k.holds(t, "cleared", policy.Tables{})
	for _, s := range c.cluster.Subjects() {
		k.connect(t, s.Endpoint)
	}
}

func answersOf(t policy.Tables, queries []policy.Query) []bool {
	out := make([]bool, len(queries))
	for i, q := range queries {
		out[i] = t.Judge(q).Allowed
	}
	return out
}

// between tells whether an Update has a third answer to a query besides that of
// before and that of after: its identity comes or goes, and the endpoint changes its
// sets. Package policy says so of itself.
func (c *changing) between(u policy.Update, q policy.Query) bool {
	_, was := c.earlier[q.Identity]
	_, is := c.known[q.Identity]
	_, changed := u.Endpoints[q.Endpoint]
	return was != is && changed
}

// apply writes u with everything watched.
func (c *changing) apply(t *testing.T, k *policyKernel, u policy.Update, complete bool) {
	t.Helper()
	after := c.engine.Tables()
	queries := c.queries(c.before, after)
	asked := append(slices.Clone(queries), c.last...)
	k.watchedApply(t, u, slices.DeleteFunc(asked, func(q policy.Query) bool { return c.between(u, q) }), c.before, after, complete)
	c.before, c.earlier, c.last = after, c.known, queries
}

// watchedApply writes u and looks at the kernel after each write: complete says
// that all of it fits.
func (k *policyKernel) watchedApply(t *testing.T, u policy.Update, queries []policy.Query, old, after policy.Tables, complete bool) {
	t.Helper()
	before, want := answersOf(k.inKernel(t), queries), answersOf(after, queries)
	judged := before // by flows that the epoch makes the programs judge again
	var log []string
	k.wrote = func(what string) {
		log = append(log, what)
		if what == "wait" {
			return
		}
		now := answersOf(k.inKernel(t), queries)
		for i, got := range now {
			if got && !before[i] && !want[i] {
				t.Fatalf("%s: %+v is allowed, and neither before nor after\n%s", what, queries[i], strings.Join(log, "\n"))
			}
			if complete && !got && before[i] && want[i] {
				t.Fatalf("%s: %+v is denied, and allowed before and after\n%s", what, queries[i], strings.Join(log, "\n"))
			}
			if !strings.HasPrefix(what, "epoch") {
				now[i] = judged[i] || got // what an old flow was, or a new one is
			}
		}
		judged = now
	}
	if err := k.ApplyPolicy(t.Context(), u); err != nil && (complete || !errors.Is(err, ErrNoRoom)) {
		t.Fatal(err)
	}
	k.wrote = func(string) {}
	final := answersOf(k.inKernel(t), queries)
	for i := range queries {
		// A pod that the engine did not know has no flows yet.
		if _, known := old.Endpoints[queries[i].Endpoint]; known && judged[i] && !final[i] {
			t.Fatalf("%+v was allowed and is not, and no epoch follows\n%s", queries[i], strings.Join(log, "\n"))
		}
	}
	if complete && !slices.Equal(final, want) {
		t.Fatal("in the end the kernel does not answer as the tables do")
	}
	waits(t, u, log)
}

// waits checks that no program has a name in hand when what it names goes: the
// endpoints' sets, and the prefixes of entries in use, are changed before a wait.
func waits(t *testing.T, u policy.Update, log []string) {
	t.Helper()
	inUse := map[string]bool{}
	for _, key := range u.Shrunk {
		inUse[fmt.Sprintf("delete entry %v", key)] = true
	}
	endpoint, cidr := false, false
	for i, what := range log {
		switch {
		case what == "wait":
			endpoint, cidr = false, false
		case strings.HasPrefix(what, "endpoint"):
			endpoint = true
		case strings.HasPrefix(what, "delete") && endpoint, inUse[what] && cidr:
			t.Fatalf("%s: no wait before it\n%s", what, strings.Join(log[:i+1], "\n"))
		case strings.HasPrefix(what, "delete CIDR"):
			cidr = true
		}
	}
}

// TestOrderOfOneUpdate has all kinds of writes in one: a prefix that another set
// spoke of goes, and another comes; one identity goes; endpoints change their sets.
func TestOrderOfOneUpdate(t *testing.T) {
	k := newPolicyKernel(t, nil, 3)
	lists := map[policy.PortsID][]policy.PortRange{7: ranges(20), 8: ranges(40)}
	stays := func(peers ...policy.PeerID) *policy.Set {
		entries := map[policy.PeerID]policy.PortsID{}
		for _, p := range peers {
			entries[p] = 7
		}
		return setOf(10, entries)
	}
	old := policy.Tables{
		Ports:     map[policy.PortsID][]policy.PortRange{7: lists[7]},
		CIDRs:     map[netip.Prefix]policy.PeerID{prefix("10.0.0.0/8"): cidrPeer(1), prefix("10.1.0.0/16"): cidrPeer(2)},
		Sets:      setsOf(stays(cidrPeer(1), cidrPeer(2), 5000, 5001), setOf(20, map[policy.PeerID]policy.PortsID{cidrPeer(1): 7})),
		Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: 20, 3: policy.SetOpen}),
	}
	after := policy.Tables{
		Ports:     lists,
		CIDRs:     map[netip.Prefix]policy.PeerID{prefix("10.0.0.0/8"): cidrPeer(1), prefix("10.2.0.0/16"): cidrPeer(3)},
		Sets:      setsOf(stays(cidrPeer(1), cidrPeer(3), 5000), setOf(30, map[policy.PeerID]policy.PortsID{cidrPeer(1): 7, 5000: 8})),
		Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: 30, 3: 30}),
	}
	var queries []policy.Query
	for id := range uint32(3) {
		for _, peer := range []string{"10.1.0.1", "10.2.0.1", "10.3.0.1", "11.0.0.1"} {
			queries = append(queries, asksFor(id+1, peer))
		}
		for identity := uint32(5000); identity < 5003; identity++ {
			q := asksFor(id+1, "192.168.0.1")
			q.Identity = identity
			queries = append(queries, q)
		}
	}
	comes := setOf(30, map[policy.PeerID]policy.PortsID{cidrPeer(1): 7, cidrPeer(2): 7, 5000: 8}) // its prefix goes last
	k.sync(t, old)
	k.watchedApply(t, policy.Update{
		Ports: map[policy.PortsID][]policy.PortRange{8: lists[8]}, Sets: setsOf(comes),
		Grown:     map[policy.EntryKey]policy.Entry{{Set: 10, Peer: cidrPeer(3)}: {Ports: 7}, {Set: 20, Peer: cidrPeer(3)}: {Ports: 7}},
		CIDRs:     map[netip.Prefix]policy.PeerID{prefix("10.2.0.0/16"): cidrPeer(3)},
		Endpoints: ingress(map[uint32]policy.SetID{2: 30, 3: 30}), Revokes: true,
		DroppedCIDRs: []netip.Prefix{prefix("10.1.0.0/16")}, DroppedSets: []policy.SetID{20},
		Shrunk: []policy.EntryKey{{Set: 10, Peer: cidrPeer(2)}, {Set: 10, Peer: 5001}, {Set: 30, Peer: cidrPeer(2)}},
	}, queries, old, after, true)
	k.holds(t, "in the end", after)
}

// TestOrderOfWrites changes random clusters: whatever write was the last, nothing
// is allowed or denied that is not so before or after, and every flow that may
// not be any more is judged again.
func TestOrderOfWrites(t *testing.T) {
	k := newPolicyKernel(t, nil, 0)
	revoked, dropped := 0, 0
	for seed := range uint64(8) {
		c := newChanging(seed)
		k.clear(t, c)
		u := c.engine.Take()
		for step := range 8 {
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
			c.apply(t, k, u, true)
			k.holds(t, fmt.Sprintf("seed %d, step %d", seed, step), c.before)
			k.noProblem(t, "with room")
			if u.Revokes {
				revoked++
			}
			dropped += len(u.DroppedCIDRs) + len(u.Shrunk)
			u = c.step()
		}
	}
	if revoked < 10 || dropped < 15 {
		t.Errorf("%d updates revoked something, %d prefixes and entries went: too few", revoked, dropped)
	}
}

// TestOrderWithoutRoom is the same where little fits: nothing opens, and with room
// SyncPolicy completes everything.
func TestOrderWithoutRoom(t *testing.T) {
	const room = 512
	k := newPolicyKernel(t, loader.Sizes{PolicyMap: room}, 0)
	refused, kept := 0, 0
	for seed := range uint64(10) {
		c := newChanging(100 + seed)
		k.clear(t, c)
		u := c.engine.Take()
		ballast := wide(5, room-4-int(seed)*8)
		k.apply(t, policy.Update{Sets: setsOf(ballast)})
		for range 6 {
			c.apply(t, k, u, false)
			for _, p := range k.PolicyProblems() {
				refused += len(p.Endpoints)
			}
			kept += len(k.policy.keptSets)
			u = c.step()
		}
		k.apply(t, policy.Update{DroppedSets: []policy.SetID{ballast.ID}})
		after := c.engine.Tables()
		k.sync(t, after)
		k.sync(t, after) // what was kept took room until now
		k.holds(t, fmt.Sprintf("seed %d, with room", seed), after)
		k.noProblem(t, "with room")
	}
	if refused < 10 || kept < 3 {
		t.Errorf("%d endpoints had to wait, %d sets were kept: too few", refused, kept)
	}
}

// TestWider compares it with a look at every prefix's addresses.
func TestWider(t *testing.T) {
	w := &policyWriter{keptSets: map[policy.SetID]bool{1: true}, prefixes: map[netip.Prefix]policy.PeerID{}}
	for i, p := range []string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/24", "::/0", "fd00::/8", "fd00:1::/32"} {
		w.prefixes[prefix(p)] = cidrPeer(i)
	}
	for p, want := range map[string]string{
		"10.1.0.0/24": "10.1.0.0/16", "10.1.0.0/16": "10.0.0.0/8", "10.0.0.0/8": "0.0.0.0/0", "10.2.0.0/16": "10.0.0.0/8",
		"0.0.0.0/0": "::/0", "fd00:1::/32": "fd00::/8", "fd00::/8": "::/0", "2001:db8::/32": "::/0", "::/0": "",
	} {
		got, ok := w.wider(prefix(p))
		if ok != (want != "") || ok && got != prefix(want) {
			t.Errorf("around %s: %s, %t, want %q", p, got, ok, want)
		}
	}
}
