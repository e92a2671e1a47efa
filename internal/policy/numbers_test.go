package policy

import (
	"maps"
	"slices"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

// TestNumbersStay holds the numbers that agents gave to rules before a policy
// could deny: an upgrade changes no set that is in force.
func TestNumbersStay(t *testing.T) {
	team := state.PolicyPeer{
		Namespaces: &state.Selector{MatchLabels: map[string]string{"team": "a b"}},
		Pods:       &state.Selector{Expressions: []state.Requirement{{Key: "tier", Operator: state.OperatorNotIn, Values: []string{"x", "a"}}, {Key: "app", Operator: state.OperatorExists}}},
	}
	gone := state.PolicyPeer{Pods: &state.Selector{Expressions: []state.Requirement{{Key: "old", Operator: state.OperatorDoesNotExist}, {Key: "env", Operator: state.OperatorIn, Values: []string{"p", "q"}}}}}
	ports := []state.PolicyPort{tcp(80), tcp(81, 90), tcp(443), {Protocol: protoUDP}, {Protocol: state.ProtocolSCTP, Port: 7}}
	for _, tc := range []struct {
		name     string
		policies []any
		set      SetID
		lists    []PortsID // sorted
	}{
		{"nothing allowed", []any{in("p")}, 0xdd044e2621718e85, nil},
		{"everything allowed", []any{in("p", allow(nil))}, 0xbb4e47c2f540ae3e, nil},
		{"everything allowed for egress", []any{out("p", allow(nil))}, 0x76ea573deb5e4c7b, nil},
		{"all ports of a peer", []any{in("p", allow(from(pods("app", "client"))))}, 0xca3f98b295285a96, nil},
		{"many ports", []any{in("p", allow(nil, ports...))}, 0x69929917932eec46, []PortsID{0xeb80c218cd2ebe76}},
		{"selectors", []any{in("p", allow(from(team, gone), ports...))}, 0xe535e4998b80e326, []PortsID{0xeb80c218cd2ebe76}},
		{"blocks", []any{in("p", allow(from(cidr("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"), cidr("::/0"), cidr("fd00::/8")), tcp(1)))}, 0x825f9a0e1dcc1375, []PortsID{0x9c839f7b29222c25}},
		{"named ports of the subject", []any{in("p", allow(from(pods("app", "client")), namedTCP("http"), namedTCP("none"), tcp(1)))}, 0xe6306e68120aa46f, []PortsID{0x5f49d412d87c5eb6}},
		{"named ports of peers", []any{out("p", allow(nil, namedTCP("http"), tcp(1)), allow(from(pods("app", "client")), namedTCP("http")))}, 0xa1ef00846cb4d907, []PortsID{0x8f51c738f7696f91, 0x9c839f7b29222c25}},
		{"names beside everything", []any{out("p", allow(nil, namedTCP("http")), allow(from(state.PolicyPeer{Namespaces: &state.Selector{}})))}, 0xcc22c322f129ef1e, nil},
		{"several policies", []any{in("a", allow(from(team), tcp(80))), in("b", allow(nil, tcp(81)), allow(from(team), tcp(443))), in("c", allow(from(cidr("10.0.0.0/8"))))}, 0x9cdf8057f4daafc7, []PortsID{0x8f51c738f7696f91}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := engine(t, Config{}, append(tc.policies, web(1, http(8080)), ident(client, "app", "client", http(81)), ident(other, "env", "p"))...)
			p := under(t, e, 1)
			if got := max(p.Ingress, p.Egress); got != tc.set {
				t.Errorf("the set is %#x", got)
			}
			if got := slices.Sorted(maps.Keys(e.Tables().Ports)); !slices.Equal(got, tc.lists) {
				t.Errorf("the lists of ports are %#x", got)
			}
		})
	}
}
