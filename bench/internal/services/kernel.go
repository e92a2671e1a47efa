package services

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/bench/internal/cluster"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// kernel is what the programs read.
type kernel struct{ frontends, backends *ebpf.Map }

func openKernel() (k kernel, err error) {
	if k.frontends, err = node.OpenTable(datapath.FrontendMap); err != nil {
		return k, err
	}
	k.backends, err = node.OpenTable(datapath.BackendMap)
	return k, err
}

func (k kernel) close() error { return errors.Join(k.frontends.Close(), k.backends.Close()) }

// list is the list of backends that clients in the cluster get of a service.
func (k kernel) list(address netip.Addr) (abi.CBackendList, error) {
	addr, port := netorder.AddrPort(netip.AddrPortFrom(address, cluster.Port))
	key := abi.CFrontendKey{Addr: addr, Port: port, Proto: unix.IPPROTO_TCP}
	var f abi.CFrontend
	if err := k.frontends.Lookup(&key, &f); err != nil {
		return abi.CBackendList{}, fmt.Errorf("look for the frontend %s: %w", address, err)
	}
	return f.List[abi.CFrontendScopeSCOPE_CLUSTER], nil
}

// has tells whether a list has a backend.
func (k kernel) has(list abi.CBackendList, address netip.Addr) (bool, error) {
	for slot := range list.Count {
		var b abi.CBackend
		if err := k.backends.Lookup(&abi.CBackendKey{List: list.Id, Slot: slot}, &b); err != nil {
			return false, fmt.Errorf("look for slot %d of list %d: %w", slot, list.Id, err)
		}
		if netorder.HostAddr(b.Addr) == address {
			return true, nil
		}
	}
	return false, nil
}

// check looks for all services and their backends in the kernel, and counts the
// entries.
func (m *measurement) check() (err error) {
	k, err := openKernel()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	for i := range m.spec.Count {
		rows, err := node.Slices(m.shape, i, 0)
		if err != nil {
			return err
		}
		list, err := k.list(cluster.Address(i, false))
		if err != nil {
			return err
		}
		ok, err := k.has(list, rows[0].Backends[cluster.Backends-1].Addr)
		if err != nil {
			return err
		}
		if !ok || list.Count != cluster.Backends {
			return fmt.Errorf("service %d has %d backends in the kernel, or others than it should have", i, list.Count)
		}
		m.result.Entries += int(list.Count) + 2 // the frontend, and its address
	}
	return nil
}

// copyRows reads all rows of a table, and gives an empty table of the same kind.
func copyRows[K, V any](from *ebpf.Map) (keys []K, values []V, to *ebpf.Map, err error) {
	info, err := from.Info()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("inspect %s: %w", from, err)
	}
	var key K
	var value V
	rows := from.Iterate()
	for rows.Next(&key, &value) {
		keys, values = append(keys, key), append(values, value)
	}
	if err = rows.Err(); err != nil {
		return nil, nil, nil, fmt.Errorf("read %s: %w", from, err)
	}
	to, err = ebpf.NewMap(&ebpf.MapSpec{
		Type: info.Type, KeySize: info.KeySize, ValueSize: info.ValueSize, MaxEntries: info.MaxEntries, Flags: info.Flags,
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("make a table like %s: %w", from, err)
	}
	return keys, values, to, nil
}

// maps measures the system calls that write the rows of the writer to empty
// tables.
func (m *measurement) maps() (err error) {
	if err = m.writer(); err != nil {
		return err
	}
	k, err := openKernel()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	frontends, values, toFrontends, err := copyRows[abi.CFrontendKey, abi.CFrontend](k.frontends)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, toFrontends.Close()) }()
	slots, backends, toBackends, err := copyRows[abi.CBackendKey, abi.CBackend](k.backends)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, toBackends.Close()) }()
	m.result.Cold, err = timed(func() error {
		_, first := toBackends.BatchUpdate(slots, backends, nil)
		_, second := toFrontends.BatchUpdate(frontends, values, nil)
		return errors.Join(first, second)
	})
	if err != nil {
		return fmt.Errorf("write the rows: %w", err)
	}
	return nil
}
