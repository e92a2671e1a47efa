package datapath

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/policy"
)

// portRecords cuts a list of ranges into the records of its chain, by their
// keys: the first has the list's own.
func portRecords(id policy.PortsID, ranges []policy.PortRange) (keys []uint64, records []abi.CPortList, err error) {
	const perRecord, limit = int(abi.CPolicyConstantsPOLICY_RANGES), int(abi.CPolicyConstantsPOLICY_LISTS)
	if len(ranges) > perRecord*limit {
		return nil, nil, fmt.Errorf("list of %d port ranges: %d at most", len(ranges), perRecord*limit)
	}
	for chunk := range slices.Chunk(ranges, perRecord) {
		r := abi.CPortList{Count: uint32(len(chunk))}
		for i, p := range chunk {
			r.Ranges[i] = abi.CPortRange{First: p.First, Last: p.Last, Proto: uint8(p.Protocol)}
		}
		if n := len(records); n > 0 {
			records[n-1].More = recordKey(id, n)
		}
		keys = append(keys, recordKey(id, len(records)))
		records = append(records, r)
	}
	if len(records) == 0 { // allows nothing, and is there all the same
		return []uint64{uint64(id)}, []abi.CPortList{{}}, nil
	}
	return keys, records, nil
}

// recordKey spreads the records of a chain over the key space.
func recordKey(id policy.PortsID, n int) uint64 {
	const golden = 0x9e3779b97f4a7c15
	return uint64(id) ^ uint64(n)*golden
}

// addPorts writes lists, each from its end, so that a list is whole as soon as
// it can be found.
func (w *policyWriter) addPorts(lists map[policy.PortsID][]policy.PortRange) error {
	var errs []error
	for id, ranges := range lists {
		keys, records, err := portRecords(id, ranges)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := w.putRecords(keys, records); err != nil {
			errs = append(errs, err)
			continue
		}
		w.lists[id] = keys
	}
	return errors.Join(errs...)
}

func (w *policyWriter) putRecords(keys []uint64, records []abi.CPortList) error {
	for i := len(keys) - 1; i >= 0; i-- {
		if err := w.ports.Put(&keys[i], &records[i]); err != nil {
			for _, key := range keys[i+1:] {
				_ = w.ports.Delete(&key) // takes room from others only
			}
			if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOMEM) {
				err = fmt.Errorf("%w: %w", ErrNoRoom, err)
			}
			return fmt.Errorf("write a list of ports to %s (%d entries at most): %w", PortMap, w.ports.MaxEntries(), err)
		}
	}
	return nil
}

func (w *policyWriter) removePorts(id policy.PortsID) error {
	for _, key := range w.lists[id] {
		if err := w.ports.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete a list of ports from %s: %w", PortMap, err)
		}
	}
	delete(w.lists, id)
	return nil
}

// readPortLists finds the whole chains that a table holds, by the key of their
// first records. What is left of a chain counts as a list, so that it is removed.
func readPortLists(table *ebpf.Map) (map[policy.PortsID][]uint64, error) {
	more := map[uint64]uint64{}
	inner := map[uint64]bool{}
	var key uint64
	var record abi.CPortList
	it := table.Iterate()
	for it.Next(&key, &record) {
		more[key] = record.More
		if record.More != 0 {
			inner[record.More] = true
		}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", PortMap, err)
	}
	lists := map[policy.PortsID][]uint64{}
	for first := range more {
		if inner[first] {
			continue
		}
		var keys []uint64
		for k := first; k != 0 && len(keys) < int(abi.CPolicyConstantsPOLICY_LISTS); k = more[k] {
			keys = append(keys, k)
		}
		lists[policy.PortsID(first)] = keys
	}
	return lists, nil
}
