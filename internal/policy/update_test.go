package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

// TestRevokes tells an engine something, then something else.
func TestRevokes(t *testing.T) {
	fromClient := allow(from(pods("app", "client")), tcp(80))
	clients := ident(client, "app", "client", http(8080))
	set := func(p state.NetworkPolicy) func(*Engine) { return func(e *Engine) { e.SetPolicy(p) } }
	drop := func(name string) func(*Engine) {
		return func(e *Engine) {
			e.RemovePolicy("ns/" + name)
			e.RemovePolicy("cnp/ns/" + name)
		}
	}
	audited := in("p")
	audited.Audit = true
	prod := state.PolicyPeer{Pods: &state.Selector{MatchLabels: map[string]string{"app": "client", "env": "prod"}}}

	for _, tc := range []struct {
		name   string
		cfg    Config
		before []any
		change func(*Engine)
		want   bool
	}{
		{"isolated", Config{}, nil, set(in("p", fromClient)), true},
		{"isolated, all allowed", Config{}, nil, set(in("p", state.PolicyRule{})), false},
		{"isolated, audited", Config{}, nil, set(audited), false},
		{"open again", Config{}, []any{in("p")}, drop("p"), false},
		{"a rule more", Config{}, []any{in("p", fromClient)}, set(in("p", fromClient, allow(from(pods("app", "other"))))), false},
		{"a policy more", Config{}, []any{in("p")}, set(in("q", fromClient)), false},
		{"a policy fewer", Config{}, []any{in("p"), in("q", fromClient)}, drop("q"), true},
		{"a rule fewer that others cover", Config{}, []any{in("p", fromClient), in("q", allow(nil, tcp(1, 100)))}, drop("p"), false},
		{"more ports", Config{}, []any{in("p", fromClient)}, set(in("p", allow(fromClient.Peers, tcp(80, 90)))), false},
		{"fewer ports", Config{}, []any{in("p", allow(fromClient.Peers))}, set(in("p", fromClient)), true},
		{"wider selector", Config{}, []any{in("p", allow(from(prod)))}, set(in("p", allow(from(pods("app", "client"))))), false},
		{"narrower selector", Config{}, []any{in("p", allow(from(pods("app", "client"))))}, set(in("p", allow(from(prod)))), true},
		{"wider block", Config{}, []any{in("p", allow(from(cidr("10.1.0.0/16"))))}, set(in("p", allow(from(cidr("10.0.0.0/8"))))), false},
		{"block with an except more", Config{}, []any{in("p", allow(from(cidr("10.0.0.0/8"))))}, set(in("p", allow(from(cidr("10.0.0.0/8", "10.1.0.0/16"))))), true},
		{"except that another block fills", Config{}, []any{in("p", allow(from(cidr("10.0.0.0/8"))))}, set(in("p", allow(from(cidr("10.0.0.0/8", "10.1.0.0/16"), cidr("10.1.0.0/16"))))), false},
		{"two halves for a whole", Config{}, []any{in("p", allow(from(cidr("10.0.0.0/8"))))}, set(in("p", allow(from(cidr("10.0.0.0/9"), cidr("10.128.0.0/9"))))), true},
		{"named egress port for all", Config{}, []any{out("p", allow(from(pods("app", "client")), namedTCP("http")))}, set(out("p", allow(nil, namedTCP("http")))), false},
		{"only renamed", Config{}, []any{in("p", fromClient)}, func(e *Engine) { e.RemovePolicy("ns/p"); e.SetPolicy(in("q", fromClient)) }, false},
		{"new identity", Config{}, []any{in("p", fromClient)}, func(e *Engine) { e.SetIdentity(ident(310, "app", "client")) }, false},
		{"identity gone that is allowed", Config{}, []any{in("p", fromClient)}, func(e *Engine) { e.RemoveIdentity(client) }, true},
		{"identity gone that is not", Config{}, []any{in("p", fromClient), ident(other, "app", "other")}, func(e *Engine) { e.RemoveIdentity(other) }, false},
		{"identity gone, and its set replaced by a wider one", Config{}, []any{in("p", fromClient)}, func(e *Engine) {
			e.SetPolicy(in("p", allow(fromClient.Peers)))
			e.RemoveIdentity(client)
		}, true},
		{"identity relabelled out", Config{}, []any{in("p", fromClient)}, func(e *Engine) { e.SetIdentity(ident(client, "app", "other")) }, true},
		{"identity with a port more", Config{}, []any{out("p", allow(nil, namedTCP("http"), namedTCP("x")))}, func(e *Engine) {
			e.SetIdentity(ident(client, "app", "client", http(8080), state.NamedPort{Name: "x", Protocol: protoTCP, Port: 9}))
		}, false},
		{"identity with another port", Config{}, []any{out("p", allow(nil, namedTCP("http")))}, func(e *Engine) { e.SetIdentity(ident(client, "app", "client", http(81))) }, true},
		{"subject relabelled out", Config{}, []any{in("p", fromClient)}, func(e *Engine) {
			s := web(1)
			s.Labels = nil
			e.SetSubject(s)
		}, false},
		{"new subject", Config{}, []any{in("p", fromClient)}, func(e *Engine) { e.SetSubject(web(2)) }, false},
		{"subject gone", Config{}, []any{in("p", fromClient)}, func(e *Engine) { e.RemoveSubject(1) }, false},
		{"audit ends", Config{AuditAll: true}, []any{in("p", fromClient)}, func(e *Engine) { e.SetAuditAll(false) }, true},
		{"audit begins", Config{}, []any{in("p", fromClient)}, func(e *Engine) { e.SetAuditAll(true) }, false},
		{"a deny more", Config{}, []any{lets("p", state.PolicyRule{})}, set(denies("q", fromClient)), true},
		{"a deny where all is open", Config{}, nil, set(denies("q", fromClient)), true},
		{"a deny of nobody", Config{}, nil, set(denies("q", allow(from(entity(state.EntityNone))))), false},
		{"a deny fewer", Config{}, []any{lets("p", state.PolicyRule{}), denies("q", fromClient)}, drop("q"), false},
		{"the only deny goes", Config{}, []any{denies("q", fromClient)}, drop("q"), false},
		{"a wider deny", Config{}, []any{denies("q", fromClient)}, set(denies("q", allow(fromClient.Peers, tcp(80, 81)))), true},
		{"a narrower deny", Config{}, []any{denies("q", allow(fromClient.Peers))}, set(denies("q", fromClient)), false},
		{"a deny of fewer pods", Config{}, []any{denies("q", allow(from(pods("app", "client"))))}, set(denies("q", allow(from(prod)))), false},
		{"a deny of more pods", Config{}, []any{denies("q", allow(from(prod)))}, set(denies("q", allow(from(pods("app", "client"))))), true},
		{"a deny of a wider block", Config{}, []any{denies("q", allow(from(cidr("10.0.0.0/16"))))}, set(denies("q", allow(from(cidr("10.0.0.0/8"))))), true},
		{"a deny of a narrower block", Config{}, []any{denies("q", allow(from(cidr("10.0.0.0/8"))))}, set(denies("q", allow(from(cidr("10.0.0.0/16"))))), false},
		{"an except more of a deny", Config{}, []any{denies("q", allow(from(cidr("10.0.0.0/8"))))}, set(denies("q", allow(from(cidr("10.0.0.0/8", "10.1.0.0/16"))))), false},
		{"a deny of all instead of one outside", Config{}, []any{denies("q", allow(from(outside("10.0.0.0/8"))))}, set(denies("q", allow(from(cidr("10.0.0.0/8"))))), true},
		{"a deny outside instead of one of all", Config{}, []any{denies("q", allow(from(cidr("10.0.0.0/8"))))}, set(denies("q", allow(from(outside("10.0.0.0/8"))))), false},
		{"a deny of an entity", Config{}, []any{denies("q", allow(from(entity(state.EntityWorld))))}, set(denies("q", allow(from(entity(state.EntityWorld), entity(state.EntityInit))))), true},
		{"an entity fewer that is allowed", Config{}, []any{lets("q", allow(from(entity(state.EntityWorld), entity(state.EntityInit))))}, set(lets("q", allow(from(entity(state.EntityWorld))))), true},
		{"an allow that was denied anyway", Config{}, []any{lets("p", fromClient), denies("q", allow(nil, tcp(80)))}, set(lets("p")), false},
		{"a deny of an open audit", Config{AuditAll: true}, nil, set(denies("q", fromClient)), false},
		{"new identity that is denied", Config{}, []any{denies("q", fromClient)}, func(e *Engine) { e.SetIdentity(ident(310, "app", "client")) }, true},
		{"identity gone that is denied", Config{}, []any{denies("q", fromClient)}, func(e *Engine) { e.RemoveIdentity(client) }, false},
		{"prefix of another set", Config{}, []any{in("p", allow(from(cidr("10.0.0.0/8"))))}, func(e *Engine) {
			s := web(2)
			s.Labels = map[string]string{"app": "db"}
			p := in("q", allow(from(cidr("10.1.0.0/16"))))
			p.Subject = eq("app", "db")
			tell(t, e, s, p)
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := engine(t, tc.cfg, append([]any{clients, ciliumWeb(1)}, tc.before...)...)
			tc.change(e)
			if u := e.Take(); u.Revokes != tc.want {
				t.Errorf("Revokes is %v\n%+v", u.Revokes, u)
			}
		})
	}
}

// TestCameAndWent leaves nothing behind of what no Update had.
func TestCameAndWent(t *testing.T) {
	e := engine(t, Config{}, web(1), in("p", allow(from(cidr("10.0.0.0/8")), tcp(80))), ident(client, "app", "client"))
	tell(t, e, in("q", allow(from(cidr("10.1.0.0/16"), pods("app", "client")), tcp(81))))
	under(t, e, 1) // the set is made
	e.RemovePolicy("ns/q")
	if u := e.Take(); !u.Empty() {
		t.Errorf("Take gives %+v", u)
	}
	if n := len(e.Tables().CIDRs); n != 1 {
		t.Errorf("%d prefixes are left", n)
	}
}

// TestNothingLeft removes everything that an engine was told.
func TestNothingLeft(t *testing.T) {
	e := engine(t, Config{}, web(1), web(2, http(80)), ident(client, "app", "client"),
		in("p", allow(from(cidr("10.0.0.0/8", "10.1.0.0/16"), pods("app", "client")), tcp(80), namedTCP("http"))),
		denies("p", allow(from(outside("10.0.0.0/9"), endpoints("k8s:app", "client"), entity(state.EntityCluster)), namedTCP("http"), tcp(7))))
	e.SetSubject(ciliumWeb(1))
	e.Take()
	e.RemovePolicy("ns/p")
	e.RemovePolicy("cnp/ns/p")
	e.RemoveSubject(1)
	e.RemoveSubject(2)
	e.RemoveIdentity(client)
	e.Take()
	sizes := []int{
		len(e.policies), len(e.subjects), len(e.identities), len(e.contents), len(e.selectors), len(e.sets), len(e.lists),
		len(e.prefixes.byPrefix), len(e.prefixes.byPeer), e.prefixes.tree.Size(), len(e.dirty), len(e.refused),
		len(e.policiesBySubject.filed), len(e.selectorsFor.filed), len(e.subjectsByLabels.byLabel), len(e.identitiesByLabel.byLabel),
		len(e.changes.endpoints), len(e.changes.entries), len(e.changes.sets), len(e.changes.prefixes), len(e.changes.lists),
	}
	if slices.Max(sizes) != 0 {
		t.Errorf("left over: %v", sizes)
	}
}

// oddPorts are n ports that do not touch.
func oddPorts(n int) []state.PolicyPort {
	out := make([]state.PolicyPort, n)
	for i := range out {
		out[i] = tcp(uint16(2*i + 1))
	}
	return out
}

func TestRefusedAtFirst(t *testing.T) {
	e := engine(t, Config{}, web(1))
	tell(t, e, in("big", allow(nil, oddPorts(MaxRanges+1)...)))
	u := e.Take()
	if got := under(t, e, 1); got.Ingress != SetClosed || got.Egress != SetOpen || !u.Revokes || len(u.Sets) != 0 {
		t.Errorf("endpoint is under %+v after %+v", got, u)
	}
	if len(u.Refused) != 1 {
		t.Fatalf("Refused is %+v", u.Refused)
	}
	for id, r := range u.Refused {
		if !slices.Equal(r.Names, []string{"ns/big"}) || !slices.Equal(r.Endpoints, []uint32{1}) || !strings.Contains(r.Reason, "endPort") {
			t.Errorf("set %x is refused: %+v", id, r)
		}
	}
	trace, err := e.Trace(TraceQuery{Query: asks(false, client, "10.0.2.1", 1)})
	if err != nil || trace.Allowed || !strings.Contains(trace.Reason, "does not fit") {
		t.Errorf("Trace = %+v, %v", trace, err)
	}
	if u := e.Take(); !u.Empty() {
		t.Errorf("told again: %+v", u)
	}
	tell(t, e, in("big", allow(nil, oddPorts(MaxRanges)...)))
	if u := e.Take(); len(u.Sets) != 1 || u.Revokes || len(e.Refusals()) != 0 {
		t.Errorf("the set that fits gives %+v", u)
	}
}

func TestRefusedKeepsTheSetBefore(t *testing.T) {
	e := engine(t, Config{}, web(1), ident(client, "app", "client"), in("p", allow(from(pods("app", "client")), tcp(9999))))
	before := under(t, e, 1)
	tell(t, e, in("big", allow(from(pods("app", "other")), oddPorts(MaxRanges+1)...)))
	if u := e.Take(); under(t, e, 1) != before || u.Revokes || len(u.Endpoints) != 0 || len(u.Refused) != 1 {
		t.Errorf("endpoint is under %+v, was under %+v\n%+v", under(t, e, 1), before, u)
	}
	trace, err := e.Trace(TraceQuery{Query: asks(false, client, "10.0.2.1", 9999)})
	if err != nil || !trace.Allowed || !slices.Equal(trace.Rules, []RuleRef{{"ns/p", 0, false}}) {
		t.Errorf("Trace = %+v, %v", trace, err)
	}
	// It stays also when a policy of it goes, and goes with the last one.
	e.RemovePolicy("ns/p")
	if e.Take(); under(t, e, 1) != before {
		t.Errorf("endpoint is under %+v", under(t, e, 1))
	}
	e.RemovePolicy("ns/big")
	if u := e.Take(); under(t, e, 1) != (EndpointPolicy{}) || len(u.DroppedSets) != 1 || len(e.Refusals()) != 0 {
		t.Errorf("endpoint is under %+v, %+v", under(t, e, 1), u)
	}
}

// TestRefusedByIdentity has rules that fit each, but not for a peer that both are
// about.
func TestRefusedByIdentity(t *testing.T) {
	half := oddPorts(2 * MaxRanges)
	p := in("p", allow(from(pods("app", "client")), half[:MaxRanges]...), allow(from(pods("env", "prod")), half[MaxRanges:]...))
	both := ident(client, "app", "client")
	both.Labels["k8s:env"] = "prod"

	t.Run("the set is new", func(t *testing.T) {
		e := engine(t, Config{}, web(1), both, p)
		if under(t, e, 1).Ingress != SetClosed {
			t.Fatalf("endpoint is under %+v", under(t, e, 1))
		}
		e.RemoveIdentity(client)
		if u := e.Take(); under(t, e, 1).Ingress == SetClosed || len(u.Sets) != 1 || len(e.Refusals()) != 0 {
			t.Errorf("without the identity the endpoint is under %+v", under(t, e, 1))
		}
	})
	t.Run("the identity is new", func(t *testing.T) {
		e := engine(t, Config{}, web(1), ident(other, "app", "client"), p)
		before := under(t, e, 1)
		e.SetIdentity(both)
		u := e.Take()
		r := u.Refused[before.Ingress]
		if under(t, e, 1) != before || u.Revokes || len(u.Grown) != 0 || len(r.Endpoints) != 0 || !strings.Contains(r.Reason, "identity 300") {
			t.Errorf("%+v", u)
		}
		// A set that lacks an entry is never taken to allow as much as another.
		e.SetPolicy(in("q", allow(from(pods("app", "none")))))
		e.Take()
		e.RemovePolicy("ns/q")
		if u := e.Take(); u.Revokes {
			t.Errorf("%+v", u)
		}
		e.RemoveIdentity(client)
		if u := e.Take(); len(e.Refusals()) != 0 || len(u.Grown)+len(u.Shrunk) != 0 {
			t.Errorf("%+v, refused %+v", u, e.Refusals())
		}
	})
}

// TestDenyThatDoesNotFit has an identity of which two rules say more than fits: of
// a set in use it denies everything to it, as what it should deny is among that.
func TestDenyThatDoesNotFit(t *testing.T) {
	half := oddPorts(2 * MaxRanges)
	e := engine(t, Config{}, ciliumWeb(1), lets("p", state.PolicyRule{}),
		denies("q", allow(from(endpoints("k8s:app", "client")), half[:MaxRanges]...), allow(from(endpoints("k8s:env", "prod")), half[MaxRanges:]...)))
	before := under(t, e, 1)
	both := ident(client, "app", "client")
	both.Labels["k8s:env"] = "prod"
	e.SetIdentity(both)
	u := e.Take()
	if under(t, e, 1) != before || !u.Revokes || len(u.Refused) != 1 || !strings.Contains(u.Refused[before.Ingress].Reason, "denies until then") {
		t.Errorf("%+v", u)
	}
	x := u.Grown[EntryKey{before.Ingress, client}]
	if !slices.Equal(u.Ports[x.Ports], []PortRange{denyEverything}) || len(x.Rules) != 2 {
		t.Errorf("the entry is %+v of %+v", x, u.Ports)
	}
	if got := e.Tables().Judge(asks(false, client, "10.0.2.1", 2)); got.Allowed || !got.Denied {
		t.Errorf("%+v", got)
	}
	e.RemoveIdentity(client)
	if u := e.Take(); len(u.Shrunk) != 1 || len(u.DroppedPorts) != 1 || u.Revokes || len(e.Refusals()) != 0 {
		t.Errorf("%+v", u)
	}
}

// TestCollisions gives all texts of a kind the same number.
func TestCollisions(t *testing.T) {
	weak := func(kind string) func(string) uint64 {
		return func(text string) uint64 {
			if strings.Contains(text, kind) {
				return 0x77
			}
			return digest(text)
		}
	}
	db := web(2)
	db.Labels = map[string]string{"app": "db"}
	second := func(r state.PolicyRule) state.NetworkPolicy {
		p := in("second", r)
		p.Subject = eq("app", "db")
		return p
	}
	for _, tc := range []struct {
		name, weak string
		a, b       state.PolicyRule
	}{
		{"sets", "any: 8", allow(nil, tcp(80)), allow(nil, tcp(81))},
		{"prefixes", "/8", allow(from(cidr("10.0.0.0/8"))), allow(from(cidr("11.0.0.0/8")))},
		{"prefixes of one set", "/9", allow(nil), allow(from(cidr("10.0.0.0/9"), cidr("10.128.0.0/9")))},
		{"lists", "/TCP", allow(nil, tcp(80)), allow(from(cidr("10.0.0.0/8")), tcp(81))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := NewEngine(Config{})
			e.digest = weak(tc.weak)
			tell(t, e, web(1), db, in("first", tc.a))
			e.Take()
			e.SetPolicy(second(tc.b))
			u := e.Take()
			if under(t, e, 1).Ingress == SetClosed || under(t, e, 2).Ingress != SetClosed || len(u.Refused) != 1 {
				t.Fatalf("under %+v and %+v after %+v", under(t, e, 1), under(t, e, 2), u)
			}
			e.SetPolicy(second(allow(nil)))
			if e.Take(); under(t, e, 2).Ingress == SetClosed || len(e.Refusals()) != 0 {
				t.Errorf("under %+v, refused %+v", under(t, e, 2), e.Refusals())
			}
		})
	}
}

// TestPrefixTakesOver has one set's prefix inside another's block, coming and
// going: the entry is there before the prefix is, and as long.
func TestPrefixTakesOver(t *testing.T) {
	db := web(2)
	db.Labels = map[string]string{"app": "db"}
	inner := in("inner", allow(from(cidr("10.1.0.0/16"))))
	inner.Subject = eq("app", "db")
	e := engine(t, Config{}, web(1), db, in("outer", allow(from(cidr("10.0.0.0/8", "10.9.0.0/16")), tcp(80))))
	prefix := netip.MustParsePrefix("10.1.0.0/16")
	outer := under(t, e, 1).Ingress

	e.SetPolicy(inner)
	u := e.Take()
	key := EntryKey{outer, u.CIDRs[prefix]}
	if _, ok := u.Grown[key]; !ok || len(u.Grown) != 1 || len(u.CIDRs) != 1 {
		t.Errorf("%+v", u)
	}
	e.RemovePolicy("ns/inner")
	u = e.Take()
	if !slices.Equal(u.Shrunk, []EntryKey{key}) || !slices.Equal(u.DroppedCIDRs, []netip.Prefix{prefix}) || u.Revokes {
		t.Errorf("%+v", u)
	}
}
