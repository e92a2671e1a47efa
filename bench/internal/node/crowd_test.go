package node

import (
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// entries are those of the sets that one pod is under.
func entries(t *testing.T, e *policy.Engine, namespace string, labels map[string]string) (ingress, egress *policy.Set) {
	t.Helper()
	e.SetSubject(policy.Subject{Endpoint: 1, Labels: labels, Pod: state.PodRef{Namespace: namespace, Name: "pod"}})
	tables := e.Tables()
	p := tables.Endpoints[1]
	return tables.Sets[p.Ingress], tables.Sets[p.Egress]
}

func TestCrowd(t *testing.T) {
	c := Crowd{Policies: 1000, Identities: 10_000}
	for _, tc := range []struct{ member, want int }{{0, 1000}, {100, 10}, {101, 10}} {
		m := c.Member(tc.member)
		in, out := entries(t, c.Engine(), m.Namespace, m.Labels)
		if in == nil || out == nil || len(in.Entries) != tc.want || len(out.Entries) != tc.want {
			t.Errorf("pod of identity %d: ingress %v, egress %v, want %d entries each", tc.member, in, out, tc.want)
		}
	}
}

func TestGroups(t *testing.T) {
	for _, tc := range []struct {
		group           Group
		ingress, egress int // entries; -1 where nothing isolates
	}{
		{GroupOpen, -1, -1}, {GroupServer, 1, 0}, {GroupPorts, 3, 3}, {GroupBlocks, 1 + 2*Blocks, 1 + 2*Blocks},
	} {
		e := newEngine()
		for _, p := range tc.group.policies() {
			if len(p.Problems) > 0 {
				t.Errorf("group %q: %v", tc.group, p.Problems)
			}
			e.SetPolicy(p)
		}
		in, out := entries(t, e, namespace, tc.group.labels())
		for _, d := range []struct {
			set  *policy.Set
			want int
		}{{in, tc.ingress}, {out, tc.egress}} {
			got := -1
			if d.set != nil {
				got = len(d.set.Entries)
			}
			if got != d.want {
				t.Errorf("group %q: %d entries, want %d", tc.group, got, d.want)
			}
		}
	}
}

// A flow has one key, whichever end begins.
func TestFlowKey(t *testing.T) {
	for _, ends := range [][2]string{
		{"10.0.0.1:40000", "10.0.0.2:80"}, {"10.1.0.0:1", "10.0.0.1:1"}, {"[fd00::1]:80", "[fd00:1::1]:80"}, {"203.0.113.9:80", "10.0.1.1:4000"},
	} {
		a, b := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
		key := FlowKey(a, b)
		if key != FlowKey(b, a) {
			t.Errorf("%v: the key depends on who begins", ends)
		}
		for i := range key.Addr {
			got := netorder.HostAddrPort(key.Addr[i], key.Port[i])
			if got != a && got != b {
				t.Errorf("%v: side %d is %s", ends, i, got)
			}
		}
		if key.Addr[0] == key.Addr[1] {
			t.Errorf("%v: both sides are the same", ends)
		}
	}
}
