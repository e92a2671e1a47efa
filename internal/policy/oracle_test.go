package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/policy/policytest"
	"github.com/placid-net/placid/internal/state"
)

// TestAgainstOracle compares the tables' answers, and what Trace says, with those
// of the policies' words, for random clusters.
func TestAgainstOracle(t *testing.T) {
	const clusters, packets = 10_000, 15
	rng := rand.New(rand.NewPCG(1, 2))
	n := map[string]int{}
	for i := range clusters {
		c := policytest.Random(rng)
		engine := c.Engine()
		tables := engine.Tables()
		for _, p := range c.Packets(rng, packets) {
			p = varied(rng, p)
			all := true
			for _, q := range c.Queries(p) {
				ask := c.Ingress
				if q.Egress {
					ask = c.Egress
				}
				want := ask(p)
				got := tables.Judge(q)
				trace, err := engine.Trace(policy.TraceQuery{Query: q})
				said := policytest.Opinion{Allowed: trace.Allowed, Audited: trace.Audited, Allow: names(trace.Rules), Deny: names(trace.Denied)}
				if err != nil || !sameOpinion(said, want) || got.Allowed != want.Allowed || got.Audited != want.Audited || got.Denied != (len(want.Deny) > 0) {
					t.Fatalf("cluster %d: %+v, %+v: tables say %+v, trace says %+v, policies say %+v\npolicies: %+v", i, p, q, got, trace, want, c.Policies)
				}
				all = all && got.Allowed
				count(n, q, want)
			}
			if c.Allowed(p) != all {
				t.Fatalf("cluster %d: %+v: Allowed is %v, its directions say %v", i, p, c.Allowed(p), all)
			}
		}
	}
	t.Logf("%v", n)
	cases := n["cases"]
	if cases < 100_000 || min(n["allowed"], n["not allowed"]) < cases/5 || min(n["audited"], n["denied"], n["denied, allowed by others"]) < cases/50 ||
		min(n["ICMP"], n["other protocol"]) < cases/100 {
		t.Error("too few cases of a kind: the generator has become useless")
	}
}

// varied makes packets of other types and protocols of some.
func varied(rng *rand.Rand, p policytest.Packet) policytest.Packet {
	switch icmp := p.Protocol == state.ProtocolICMP || p.Protocol == state.ProtocolICMPv6; {
	case icmp && rng.IntN(2) == 0:
		p.Port++ // of a type that is no echo request
	case !icmp && rng.IntN(40) == 0:
		p.Protocol, p.Port = 47, 0
	}
	return p
}

func names(rules []policy.RuleRef) []string {
	var out []string
	for _, r := range rules {
		out = append(out, fmt.Sprint(r.Policy, " ", r.Index))
	}
	slices.Sort(out)
	return out
}

func sameOpinion(a, b policytest.Opinion) bool {
	slices.Sort(b.Allow)
	slices.Sort(b.Deny)
	return a.Allowed == b.Allowed && a.Audited == b.Audited && slices.Equal(a.Allow, b.Allow) && slices.Equal(a.Deny, b.Deny)
}

// count says what kind of case it was.
func count(n map[string]int, q policy.Query, o policytest.Opinion) {
	n["cases"]++
	switch {
	case o.Audited:
		n["audited"]++
	case o.Allowed:
		n["allowed"]++
	default:
		n["not allowed"]++
	}
	if len(o.Deny) > 0 {
		n["denied"]++
	}
	if len(o.Deny) > 0 && len(o.Allow) > 0 {
		n["denied, allowed by others"]++
	}
	switch q.Protocol {
	case state.ProtocolTCP, state.ProtocolUDP, state.ProtocolSCTP, state.ProtocolAny:
	case state.ProtocolICMP, state.ProtocolICMPv6:
		n["ICMP"]++
	default:
		n["other protocol"]++
	}
}
