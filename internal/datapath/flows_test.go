package datapath

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

// TestPodNames follows pods that come, change their addresses and go.
func TestPodNames(t *testing.T) {
	tables, err := state.NewTables()
	if err != nil {
		t.Fatal(err)
	}
	p := &podNames{tables: tables}
	names := func(when string, want map[string]string) {
		t.Helper()
		for a, name := range want {
			if got := p.NameOf(addr(a)); got != name {
				t.Errorf("%s: %s is %q, want %q", when, a, got, name)
			}
		}
	}
	write := func(ep state.Endpoint, name string) {
		t.Helper()
		ep.Pod = state.PodRef{Namespace: "shop", Name: name}
		ep.Attachment = state.AttachmentID{ContainerID: name, IfName: "eth0"}
		if err := tables.UpsertEndpoint(ep); err != nil {
			t.Fatal(err)
		}
	}
	names("without pods", map[string]string{"10.1.1.5": "", "fd00:1::5": ""})
	write(podA, "a")
	write(podB, "b")
	names("with two", map[string]string{"10.1.1.5": "shop/a", "fd00:1::5": "shop/a", "10.1.1.6": "shop/b", "10.1.1.7": ""})
	if got := p.AddrsOf("shop/a"); !slices.Equal(got, []netip.Addr{podA.IPv4, podA.IPv6}) {
		t.Errorf("shop/a has %v", got)
	}
	moved := podA
	moved.IPv4 = addr("10.1.1.7")
	write(moved, "a")
	names("moved", map[string]string{"10.1.1.5": "", "fd00:1::5": "shop/a", "10.1.1.7": "shop/a"})
	if err := tables.DeleteEndpoint(podA.ID); err != nil {
		t.Fatal(err)
	}
	names("with one", map[string]string{"10.1.1.7": "", "fd00:1::5": "", "10.1.1.6": "shop/b"})
	if got := p.AddrsOf("shop/a"); got != nil {
		t.Errorf("shop/a is gone and has %v", got)
	}
}
