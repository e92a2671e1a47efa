package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// OpenMap opens a pinned map of the node.
func OpenMap(name string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(Root+"/maps/"+name, nil)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return m, nil
}

// OpenTable opens the table in the current slot of a pinned map.
func OpenTable(name string) (*ebpf.Map, error) {
	outer, err := OpenMap(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = outer.Close() }()
	var id ebpf.MapID
	if err = outer.Lookup(uint32(abi.CTableSlotTABLE_CURRENT), &id); err != nil {
		return nil, fmt.Errorf("find the table of %s: %w", name, err)
	}
	table, err := ebpf.NewMapFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open the table of %s: %w", name, err)
	}
	return table, nil
}

// OpenTables opens what conntrack works with. The caller ends with CloseTables.
func OpenTables() (t conntrack.Tables, err error) {
	var errs [4]error
	t.TCP, errs[0] = OpenMap(datapath.CTTCPMap)
	t.Any, errs[1] = OpenMap(datapath.CTAnyMap)
	t.New, errs[2] = OpenMap(datapath.CTNewMap)
	t.Settings, errs[3] = OpenMap(datapath.SettingsMap)
	return t, errors.Join(errs[:]...)
}

// CloseTables lets go of the maps.
func CloseTables(t conntrack.Tables) error {
	return errors.Join(t.TCP.Close(), t.Any.Close(), t.New.Close(), t.Settings.Close())
}

// less is addr_less() of conntrack.h.
func less(a, b [16]byte) bool {
	for i := 3; i >= 0; i-- {
		x, y := binary.NativeEndian.Uint32(a[4*i:]), binary.NativeEndian.Uint32(b[4*i:])
		if x != y {
			return x < y
		}
	}
	return false
}

// FlowKey is the key of a TCP flow between two ends, whichever begins.
func FlowKey(a, b netip.AddrPort) abi.CCtKey {
	key := abi.CCtKey{Proto: unix.IPPROTO_TCP}
	if less(b.Addr().As16(), a.Addr().As16()) {
		a, b = b, a
	}
	for i, end := range []netip.AddrPort{a, b} {
		key.Addr[i], key.Port[i] = netorder.AddrPort(end)
	}
	return key
}
