package datapath

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/policy"
)

func TestPortRecords(t *testing.T) {
	k := newPolicyKernel(t, nil, 0)
	w, ctx := k.policy, t.Context()
	const most = int(abi.CPolicyConstantsPOLICY_RANGES * abi.CPolicyConstantsPOLICY_LISTS)
	for n, records := range map[int]int{0: 1, 1: 1, 16: 1, 17: 2, 32: 2, 33: 3, most - 1: 16, most: 16} {
		id := policy.PortsID(1<<40 + n)
		k.wrote = func(what string) {
			found, err := w.ports.list()
			if _, ok := found[uint64(id)]; err != nil || ok && !slices.Equal(chain(found, uint64(id)), ranges(n)) {
				t.Errorf("%s: the list of %d ranges can be found and is not whole, %v", what, n, err)
			}
		}
		noError(t, w.addPorts(ctx, map[policy.PortsID][]policy.PortRange{id: ranges(n)}))
		keys := w.lists[id]
		if len(keys) != records || keys[0] != uint64(id) || len(slices.Compact(slices.Sorted(slices.Values(keys)))) != records {
			t.Errorf("%d ranges: keys %x", n, keys)
		}
		found, err := w.ports.list()
		noError(t, err)
		if got := chain(found, uint64(id)); len(found) != records || !slices.Equal(got, ranges(n)) {
			t.Errorf("%d ranges: %d records, which say %v", n, len(found), got)
		}
		if got := portLists(found); len(got) != 1 || !slices.Equal(got[id], keys) {
			t.Errorf("%d ranges are found as %x", n, got)
		}
		k.wrote = func(string) {}
		noError(t, w.removePorts(ctx, id))
		if found, err = w.ports.list(); err != nil || len(found) != 0 || len(w.lists) != 0 {
			t.Errorf("%d ranges: removed, there are %v, %v", n, found, err)
		}
	}
	err := w.addPorts(ctx, map[policy.PortsID][]policy.PortRange{5: ranges(most + 1)})
	if err == nil || !strings.Contains(err.Error(), "257 port ranges: 256 at most") || len(w.lists) != 0 {
		t.Errorf("too long a list: %v, lists %x", err, w.lists)
	}
}

// TestPortListHalfWritten: what was written of a list that does not fit is
// removed, and others are not touched.
func TestPortListHalfWritten(t *testing.T) {
	k := newPolicyKernel(t, loader.Sizes{PortMap: 4}, 0)
	w, ctx := k.policy, t.Context()
	noError(t, w.addPorts(ctx, map[policy.PortsID][]policy.PortRange{7: ranges(17)}))
	err := w.addPorts(ctx, map[policy.PortsID][]policy.PortRange{8: ranges(33)})
	if !errors.Is(err, ErrNoRoom) || !strings.Contains(err.Error(), PortMap) || !strings.Contains(err.Error(), "4 entries at most") {
		t.Errorf("addPorts = %v", err)
	}
	found, err := w.ports.list()
	if err != nil || len(found) != 2 || !slices.Equal(chain(found, 7), ranges(17)) || w.lists[8] != nil {
		t.Errorf("there are %v, %v; lists %x", found, err, w.lists)
	}
	noError(t, w.addPorts(ctx, map[policy.PortsID][]policy.PortRange{8: ranges(32)}))
}
