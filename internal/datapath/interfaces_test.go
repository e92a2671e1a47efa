package datapath

import (
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

// TestPruneInterfaces: an audit removes what belongs to nobody. A pod that was
// added, or is being removed, while the audit runs is not that.
func TestPruneInterfaces(t *testing.T) {
	const leftOver, added, removing = pair.HostPrefix + "00000001", pair.HostPrefix + "00000002", pair.HostPrefix + "00000003"
	n := testutil.NewNetns(t, "prune")
	h := n.Handle(t)
	for _, name := range []string{leftOver, added, removing} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "pod" + name[len(pair.HostPrefix):]}); err != nil {
			t.Fatal(err)
		}
	}
	tables, err := state.NewTables()
	if err != nil {
		t.Fatal(err)
	}
	// In the table already, but not yet when the desired rows were read.
	err = tables.UpsertEndpoint(state.Endpoint{
		ID: 2, HostIfName: added, HostIndex: 2, IPv4: netip.MustParseAddr("10.0.0.2"),
		Attachment: state.AttachmentID{ContainerID: "added", IfName: "eth0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := h.LinkByName(removing)
	if err != nil {
		t.Fatal(err)
	}
	ops := interfaceOps{&sync.Mutex{}, tables}
	n.Do(t, func() {
		// Out of the table already, but in it when the desired rows were read.
		repaired, pruneErr := ops.Prune(t.Context(), map[string]int{removing: l.Attrs().Index})
		if pruneErr != nil || repaired != 1 {
			t.Errorf("Prune = %d, %v, want one device removed", repaired, pruneErr)
		}
	})
	links, err := h.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{leftOver: false, added: true, removing: true} {
		if got := slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == name }); got != want {
			t.Errorf("device %s exists: %t, want %t", name, got, want)
		}
	}
}
