package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/policy"
)

// portRecords cuts a list of ranges into the records of its chain, by their
// keys: the first has the list's own. Ranges that deny come first, as programs
// go by the first that fits.
func portRecords(id policy.PortsID, ranges []policy.PortRange) (keys []uint64, records []abi.CPortList, err error) {
	const perRecord, limit = int(abi.CPolicyConstantsPOLICY_RANGES), int(abi.CPolicyConstantsPOLICY_LISTS)
	if len(ranges) > perRecord*limit {
		return nil, nil, fmt.Errorf("list of %d port ranges: %d at most", len(ranges), perRecord*limit)
	}
	ordered := slices.Clone(ranges)
	slices.SortStableFunc(ordered, func(a, b policy.PortRange) int { return cmp.Compare(portFlags(b)&portDeny, portFlags(a)&portDeny) })
	for chunk := range slices.Chunk(ordered, perRecord) {
		r := abi.CPortList{Count: uint32(len(chunk))}
		for i, p := range chunk {
			r.Ranges[i] = abi.CPortRange{First: p.First, Last: p.Last, Proto: uint8(p.Protocol), Flags: portFlags(p)}
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

const (
	portDeny    = uint8(abi.CPortFlagsPORT_DENY)
	portOutside = uint8(abi.CPortFlagsPORT_OUTSIDE)
)

func portFlags(r policy.PortRange) (flags uint8) {
	if r.Deny {
		flags |= portDeny
	}
	if r.Outside {
		flags |= portOutside
	}
	return flags
}

// denies tells whether a record has a range that denies. It is before all others.
func denies(r abi.CPortList) bool { return r.Count > 0 && r.Ranges[0].Flags&portDeny != 0 }

// recordKey spreads the records of a chain over the key space.
func recordKey(id policy.PortsID, n int) uint64 {
	const golden = 0x9e3779b97f4a7c15
	return uint64(id) ^ uint64(n)*golden
}

// addPorts writes lists, each from its end, so that a list is whole as soon as
// it can be found.
func (w *policyWriter) addPorts(ctx context.Context, lists map[policy.PortsID][]policy.PortRange) error {
	var errs []error
	for id, ranges := range lists {
		keys, records, err := portRecords(id, ranges)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := w.putRecords(ctx, keys, records); err != nil {
			errs = append(errs, err)
			continue
		}
		w.lists[id] = keys
	}
	return errors.Join(errs...)
}

func (w *policyWriter) putRecords(ctx context.Context, keys []uint64, records []abi.CPortList) error {
	for i, key := range slices.Backward(keys) {
		if err := w.ports.Update(ctx, key, records[i]); err != nil {
			for _, later := range keys[i+1:] {
				_ = w.ports.Delete(ctx, later) // takes room from others only
			}
			if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOMEM) {
				err = fmt.Errorf("%w: %w", ErrNoRoom, err)
			}
			return fmt.Errorf("write a list of ports: %w", err)
		}
	}
	return nil
}

func (w *policyWriter) removePorts(ctx context.Context, id policy.PortsID) error {
	for _, key := range w.lists[id] {
		if err := w.ports.Delete(ctx, key); err != nil {
			return fmt.Errorf("delete a list of ports: %w", err)
		}
	}
	delete(w.lists, id)
	delete(w.denying, id)
	return nil
}

// portLists finds the chains in a table of records, by the keys of their first
// ones. What is left of a chain counts as a list, so that it is removed.
func portLists(records map[uint64]abi.CPortList) map[policy.PortsID][]uint64 {
	inner := map[uint64]bool{}
	for _, r := range records {
		inner[r.More] = true
	}
	lists := map[policy.PortsID][]uint64{}
	for first := range records {
		if inner[first] {
			continue
		}
		var keys []uint64
		for k := first; k != 0 && len(keys) < int(abi.CPolicyConstantsPOLICY_LISTS); k = records[k].More {
			keys = append(keys, k)
		}
		lists[policy.PortsID(first)] = keys
	}
	return lists
}

// comparePorts puts into u what leads from the records found to the lists
// wanted, and tells whether one of these says something else there.
func (w *policyWriter) comparePorts(want map[policy.PortsID][]policy.PortRange, found map[uint64]abi.CPortList, u *policy.Update) (altered bool) {
	wanted := map[uint64]bool{}
	for id, ranges := range want {
		keys, records, err := portRecords(id, ranges)
		whole := err == nil
		for i, key := range keys {
			have, ok := found[key]
			wanted[key] = true
			whole = whole && ok && have == records[i]
			altered = altered || ok && have != records[i]
		}
		if whole {
			w.lists[id] = keys
		} else {
			u.Ports[id] = ranges
			delete(w.lists, id)
		}
	}
	listed := map[uint64]bool{}
	for id, keys := range missing(w.lists, want) {
		w.lists[id] = slices.DeleteFunc(keys, func(key uint64) bool { return wanted[key] })
		u.DroppedPorts = append(u.DroppedPorts, id)
		for _, key := range w.lists[id] {
			listed[key] = true
		}
	}
	for key := range found { // chains without a beginning
		if id := policy.PortsID(key); !wanted[key] && !listed[key] {
			w.lists[id] = []uint64{key}
			u.DroppedPorts = append(u.DroppedPorts, id)
		}
	}
	return altered
}

func portCodec() codec[uint64, abi.CPortList, uint64, abi.CPortList] {
	id, record := func(k uint64) uint64 { return k }, func(r abi.CPortList) abi.CPortList { return r }
	return codec[uint64, abi.CPortList, uint64, abi.CPortList]{key: id, fromKey: id, value: record, fromValue: record}
}
