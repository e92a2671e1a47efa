package verdict

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

func blockPolicy() state.NetworkPolicy {
	return state.NetworkPolicy{
		Namespace: "a", Name: "p", IsolatesIngress: true, Problems: []string{"spec.ingress[1]: not understood"},
		Ingress: []state.PolicyRule{{Peers: []state.PolicyPeer{{Block: &state.IPBlock{CIDR: netip.MustParsePrefix("10.0.0.0/8")}}}}},
	}
}

func TestSideOf(t *testing.T) {
	s := &snapshot.Snapshot{
		Policies: []state.NetworkPolicy{blockPolicy()},
		Settings: map[string]string{"labels": "k8s:app k8s:!x", "enable-policy": "always", "policy-audit-mode": "true"},
	}
	for platform, outside := range map[snapshot.Platform]bool{snapshot.Placid: false, snapshot.Cilium: true, snapshot.Terway: true} {
		side, notes, err := SideOf(s, platform)
		if err != nil {
			t.Fatal(err)
		}
		if got := side.Policies[0].Ingress[0].Peers[0].Block.Outside; got != outside || side.ByIdentity != outside {
			t.Errorf("%s: blocks are of the outside: %v, by identity: %v, want %v", platform, got, side.ByIdentity, outside)
		}
		if side.Mode != policy.ModeAlways || !side.AuditAll || side.Filter.Keep("k8s", "tier") || !side.Filter.Keep("k8s", "app") {
			t.Errorf("%s: settings are not in force: %+v", platform, side)
		}
		if len(notes) != 1 || notes[0] != "a/p: spec.ingress[1]: not understood" {
			t.Errorf("%s: notes %q", platform, notes)
		}
	}
	if s.Policies[0].Ingress[0].Peers[0].Block.Outside {
		t.Error("the snapshot was changed")
	}
	for key, value := range map[string]string{"labels": "k8s:(", "enable-policy": "sometimes"} {
		bad := &snapshot.Snapshot{Settings: map[string]string{key: value}}
		if _, _, err := SideOf(bad, snapshot.Placid); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s %q: error %v does not name the setting", key, value, err)
		}
	}
}

func TestClusterOf(t *testing.T) {
	if got := ClusterOf(&snapshot.Snapshot{}).Name; got != "default" {
		t.Errorf("the cluster is called %q", got)
	}
	if got := ClusterOf(&snapshot.Snapshot{ClusterName: "x"}).Name; got != "x" {
		t.Errorf("the cluster is called %q", got)
	}
}
