package policy_test

import (
	"math/rand/v2"
	"testing"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/policy/policytest"
)

// TestAgainstOracle compares the tables' answers, and what Trace says, with those
// of the policies' words, for random clusters.
func TestAgainstOracle(t *testing.T) {
	const clusters, packets = 1000, 100
	rng := rand.New(rand.NewPCG(1, 2))
	cases, allowed, denied, audited := 0, 0, 0, 0
	for n := range clusters {
		c := policytest.Random(rng)
		engine := c.Engine()
		tables := engine.Tables()
		for _, p := range c.Packets(rng, packets) {
			all := true
			for _, q := range c.Queries(p) {
				want := c.AllowedIngress
				if q.Egress {
					want = c.AllowedEgress
				}
				ok, audit := want(p)
				got := tables.Judge(q)
				trace, err := engine.Trace(policy.TraceQuery{Query: q})
				if got.Allowed != ok || got.Audited != audit || err != nil || trace.Allowed != ok || trace.Audited != audit {
					t.Fatalf("cluster %d: %+v, %+v: tables say %+v, trace says %+v, policies say allowed %v, audited %v\npolicies: %+v",
						n, p, q, got, trace, ok, audit, c.Policies)
				}
				all = all && got.Allowed
				cases++
				switch {
				case audit:
					audited++
				case ok:
					allowed++
				default:
					denied++
				}
			}
			if c.Allowed(p) != all {
				t.Fatalf("cluster %d: %+v: Allowed is %v, its directions say %v", n, p, c.Allowed(p), all)
			}
		}
	}
	t.Logf("%d cases: %d allowed, %d denied, %d audited", cases, allowed, denied, audited)
	if cases < 100_000 || min(allowed, denied) < cases/5 || audited < cases/50 {
		t.Error("too few cases of a kind: the generator has become useless")
	}
}
