package verdict

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

func eq(key, value string) state.Selector {
	return state.Selector{MatchLabels: map[string]string{key: value}}
}

func podsOf(app string) state.PolicyPeer { return state.PolicyPeer{Pods: new(eq("app", app))} }

func blockOf(cidr string) state.PolicyPeer {
	return state.PolicyPeer{Block: &state.IPBlock{CIDR: netip.MustParsePrefix(cidr)}}
}

func ports(list ...uint16) []state.PolicyPort {
	var out []state.PolicyPort
	for i := 0; i < len(list); i += 2 {
		out = append(out, state.PolicyPort{Protocol: state.ProtocolTCP, Port: list[i], EndPort: list[i+1]})
	}
	return out
}

// allow is a rule for one peer.
func allow(peer state.PolicyPeer, on ...uint16) state.PolicyRule {
	return state.PolicyRule{Peers: []state.PolicyPeer{peer}, Ports: ports(on...)}
}

// in is a policy for the ingress of the pods app=db.
func in(name string, rules ...state.PolicyRule) state.NetworkPolicy {
	return state.NetworkPolicy{Namespace: "shop", Name: name, Subject: eq("app", "db"), IsolatesIngress: true, Ingress: rules}
}

// denying is one of Cilium's kind that denies the same pods something and isolates
// nothing.
func denying(name string, rules ...state.PolicyRule) state.NetworkPolicy {
	return state.NetworkPolicy{
		Kind: state.PolicyCilium, Namespace: "shop", Name: name, IngressDeny: rules,
		Subject: state.Selector{MatchLabels: map[string]string{"k8s:app": "db", "k8s:io.kubernetes.pod.namespace": "shop"}},
	}
}

// shop has a pod of each of two apps and a node.
func shop() Cluster {
	c := Cluster{Name: "default", Nodes: []snapshot.Node{{Name: "n", Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.1")}}}}
	for i, app := range []string{"web", "db"} {
		c.Pods = append(c.Pods, snapshot.Pod{
			Pod:  state.Pod{Ref: state.PodRef{Namespace: "shop", Name: app + "-0"}, Labels: map[string]string{"app": app}},
			Node: "n", Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})},
		})
	}
	c.Pods = append(c.Pods, snapshot.Pod{
		Pod: state.Pod{Ref: state.PodRef{Namespace: "shop", Name: "proxy"}, Labels: map[string]string{"app": "db"}}, HostNetwork: true, Node: "n",
	})
	return c
}

func under(policies ...state.NetworkPolicy) Side { return Side{Policies: policies} }

// describe gives the changes from one peer to the database as text.
func describe(res Result, from string) string {
	var out []string
	for _, x := range res.Changes {
		if x.From.Name != from || x.To.Name != "shop/app=db" {
			continue
		}
		out = append(out, fmt.Sprintf("closed %v, opened %v", x.Closed, x.Opened))
		for _, c := range x.Causes {
			out = append(out, strings.TrimSpace(fmt.Sprint(c.Direction, ": ", c.Effect, " ", strings.Join(slices.Concat(c.Rules, c.Policies), ", "), c.Reason)))
		}
	}
	return strings.Join(out, "; ")
}

// TestCauses names what a change comes from.
func TestCauses(t *testing.T) {
	allowed, elsewhere := in("a", allow(podsOf("web"), 80, 90)), in("a")
	elsewhere.Subject = eq("app", "x")
	for name, c := range map[string]struct {
		old, now Side
		want     string // of traffic from web to db
	}{
		"isolated":     {under(), under(in("a")), "closed everything, opened nothing; ingress: isolated now shop/a"},
		"not isolated": {under(in("a"), in("b")), under(), "closed nothing, opened everything; ingress: not isolated any more shop/a, shop/b"},
		"one less":     {under(in("a"), in("b")), under(in("b")), ""},
		"rule gone":    {under(allowed), under(in("a")), "closed 80-90/TCP, opened nothing; ingress: not allowed any more shop/a spec.ingress[0]"},
		"rule new":     {under(in("a")), under(allowed), "closed nothing, opened 80-90/TCP; ingress: allowed now shop/a spec.ingress[0]"},
		"rule moves":   {under(allowed), under(in("a", allow(podsOf("x")), allow(podsOf("web"), 80, 90))), ""},
		"port changes": {
			under(allowed), under(in("a", allow(podsOf("web"), 85, 100))),
			"closed 80-84/TCP, opened 91-100/TCP; ingress: allowed now shop/a spec.ingress[0]; ingress: not allowed any more shop/a spec.ingress[0]",
		},
		"several rules": {
			under(in("a", allow(podsOf("web"), 80, 85), allow(podsOf("web"), 84, 90)), in("b", allow(podsOf("web"), 90, 95))), under(in("a")),
			"closed 80-95/TCP, opened nothing; ingress: not allowed any more shop/a spec.ingress[0], shop/a spec.ingress[1], shop/b spec.ingress[0]",
		},
		"denied": {
			under(allowed), under(allowed, denying("d", allow(podsOf("web"), 85, 85))),
			"closed 85/TCP, opened nothing; ingress: denied now cnp/shop/d spec.ingressDeny[0]",
		},
		"not denied": {
			under(allowed, denying("d", allow(podsOf("web"), 85, 85))), under(allowed),
			"closed nothing, opened 85/TCP; ingress: not denied any more cnp/shop/d spec.ingressDeny[0]",
		},
		"not enforced": {
			under(in("a")),
			Side{Policies: []state.NetworkPolicy{in("a")}, Mode: policy.ModeNever},
			"closed nothing, opened everything; ingress: not isolated any more shop/a",
		},
		"always": {
			under(elsewhere),
			Side{Policies: []state.NetworkPolicy{elsewhere}, Mode: policy.ModeAlways},
			"closed everything, opened nothing; ingress: for another reason every pod is isolated (enable-policy: always) and no policy selects this one for ingress, " +
				"and there is no rule that allows anything",
		},
		"audited": {under(in("a")), Side{Policies: []state.NetworkPolicy{in("a")}, AuditAll: true}, "closed nothing, opened everything; ingress: not isolated any more shop/a"},
	} {
		res, err := Compare(t.Context(), shop(), c.old, c.now, Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := describe(res, "shop/app=web")
		if name == "always" {
			got, _, _ = strings.Cut(got, "; egress")
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

// TestPeers names the peers that a policy with blocks makes.
func TestPeers(t *testing.T) {
	now := under(in("a", allow(blockOf("10.0.0.0/8")), allow(blockOf("10.0.0.1/32"), 80, 80), allow(blockOf("192.168.0.0/16")), allow(blockOf("::/0"))))
	c := newComparer(shop(), [sides]Side{under(), now}, Options{})
	var names []string
	for _, p := range c.peers {
		names = append(names, string(p.Kind)+" "+p.Name)
	}
	want := []string{
		"pods shop/app=db", "pods shop/app=web",
		"host host in 192.168.0.0/16", "remote-node remote-node in 192.168.0.0/16",
		"region 10.0.0.0/8 without 10.0.0.1/32", "region 10.0.0.1/32", "region 192.168.0.0/16", "region ::/0",
		"world world (IPv4)", "init init",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	res, err := Compare(t.Context(), shop(), under(), now, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Groups != 2 || res.Others != 8 || res.Pairs != 10*10-8*8 {
		t.Errorf("%d groups, %d others, %d pairs", res.Groups, res.Others, res.Pairs)
	}
	for from, want := range map[string]string{
		"shop/app=web":           "", // 10.0.0.1 is in the wider block too, of which a policy of Kubernetes means pods as well
		"10.0.0.1/32":            "",
		"::/0":                   "",
		"world (IPv4)":           "closed everything, opened nothing; ingress: isolated now shop/a",
		"host in 192.168.0.0/16": "",
	} {
		if got := describe(res, from); got != want {
			t.Errorf("from %s: %q, want %q", from, got, want)
		}
	}
}

// TestGroupNames tells groups apart by what policies name, and only by that.
func TestGroupNames(t *testing.T) {
	c := shop()
	named := c.Pods[1]
	named.Ref.Name, named.NamedPorts = "db-1", []state.NamedPort{{Name: "sql", Protocol: state.ProtocolTCP, Port: 5432}, {Name: "x", Protocol: state.ProtocolTCP, Port: 1}}
	alone := c.Pods[0]
	alone.Ref = state.PodRef{Namespace: "other", Name: "one"}
	alone.Labels = map[string]string{"tier": "x"}
	c.Pods = append(c.Pods, named, alone)
	rule := allow(podsOf("web"))
	rule.Ports = []state.PolicyPort{{Protocol: state.ProtocolTCP, Name: "sql"}}
	var names []string
	for _, p := range newComparer(c, [sides]Side{under(), under(in("a", rule))}, Options{}).peers {
		if p.Kind == Pods {
			names = append(names, fmt.Sprintf("%s (%d, %s)", p.Name, p.Pods, p.Example))
		}
	}
	want := []string{
		"other/(all pods) (1, other/one)", "shop/app=db without named ports (1, shop/db-0)", "shop/app=db with sql=5432/TCP (1, shop/db-1)", "shop/app=web (1, shop/web-0)",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

// TestCut finds the flows that are closed.
func TestCut(t *testing.T) {
	web, db, node, world := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("8.8.8.8")
	tcp := func(from, to netip.Addr, id uint32, port uint16) Flow {
		return Flow{From: from, To: to, FromIdentity: id, ToIdentity: state.IdentityWorld, Protocol: state.ProtocolTCP, Port: port}
	}
	flows := []Flow{
		tcp(web, db, 0, 80), tcp(web, db, 0, 81), tcp(node, db, state.IdentityHost, 81), tcp(node, db, state.IdentityRemoteNode, 81),
		tcp(world, db, state.IdentityWorld, 80), tcp(db, world, 0, 80), tcp(world, node, state.IdentityWorld, 80),
		tcp(netip.MustParseAddr("::ffff:10.0.0.1"), db, 0, 82),
	}
	res, err := Compare(t.Context(), shop(), under(), under(in("a", allow(podsOf("web"), 80, 80))), Options{Limit: 1, Flows: flows})
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, x := range res.Cut {
		got = append(got, x.Flow)
		if len(x.Causes) != 1 || x.Causes[0].Effect != IsolatedNow {
			t.Errorf("flow %d: causes %+v", x.Flow, x.Causes)
		}
	}
	if want := []int{1, 3, 4, 7}; !slices.Equal(got, want) {
		t.Errorf("flows %v are cut, want %v", got, want)
	}
}

// TestBaseline compares one side with others.
func TestBaseline(t *testing.T) {
	base := NewBaseline(shop(), under(in("a")))
	for mode, want := range map[policy.Mode]bool{policy.ModeDefault: true, policy.ModeNever: false} {
		now := under(in("a"))
		now.Mode = mode
		if same, err := base.Same(t.Context(), now); err != nil || same != want {
			t.Errorf("mode %s: same %v (%v), want %v", mode, same, err, want)
		}
	}
}

// TestUnfit tells about a set that the datapath cannot hold.
func TestUnfit(t *testing.T) {
	var many []uint16
	for i := range uint16(policy.MaxRanges + 1) {
		many = append(many, 2*i+1, 2*i+1)
	}
	res, err := Compare(t.Context(), shop(), under(), under(in("a", allow(podsOf("web"), many...))), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Unfit[0]) != 0 || len(res.Unfit[1]) != 1 || !strings.Contains(res.Unfit[1][0], "shop/a") {
		t.Errorf("unfit %q", res.Unfit)
	}
	if got := describe(res, "shop/app=web"); !strings.HasPrefix(got, "closed everything") {
		t.Errorf("under a set that does not fit: %s", got)
	}
}

func TestEnded(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Compare(ended, shop(), under(), under(in("a")), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestPrefixesIn(t *testing.T) {
	for _, c := range []struct {
		first, last uint32
		want        int
	}{{80, 80, 1}, {0, 65535, 1}, {1, 65535, 16}, {1, 65534, 30}, {8000, 8007, 1}, {80, 81, 1}, {81, 82, 2}} {
		if got := prefixesIn(c.first, c.last); got != c.want {
			t.Errorf("%d-%d takes %d prefixes, want %d", c.first, c.last, got, c.want)
		}
	}
}
