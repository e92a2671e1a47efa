package datapath

import (
	"cmp"
	"slices"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/state"
)

// flagName is what people read for a flag of a frontend.
type flagName struct {
	flag abi.CFrontendFlags
	name string
}

func frontendFlagNames() []flagName {
	return []flagName{
		{abi.CFrontendFlagsFRONTEND_CLOSED, "closed"},
		{abi.CFrontendFlagsFRONTEND_AFFINITY, "affinity"},
		{abi.CFrontendFlagsFRONTEND_SOURCE_RANGES, "source-ranges"},
		{abi.CFrontendFlagsFRONTEND_MAGLEV, "maglev"},
		{abi.CFrontendFlagsFRONTEND_CLUSTER_ONLY, "cluster-only"},
		{abi.CFrontendFlagsFRONTEND_SILENT_OUTSIDE, "silent-outside"},
		{abi.CFrontendFlagsFRONTEND_SILENT_CLUSTER, "silent-cluster"},
	}
}

// inspect reads the tables without the lock of changes: what changes meanwhile
// may show as missing.
func (w *serviceWriter) inspect() ([]FrontendState, error) {
	f, err := w.read()
	if err != nil {
		return nil, err
	}
	out := make([]FrontendState, 0, len(f.rows))
	for key, v := range f.rows {
		state := FrontendState{
			Addr:     netorder.HostAddrPort(key.Addr, key.Port),
			Protocol: state.Protocol(key.Proto), Service: v.Service, Affinity: v.Affinity,
			Outside: f.inspectList(v.List[abi.CFrontendScopeSCOPE_OUTSIDE]),
			Cluster: f.inspectList(v.List[abi.CFrontendScopeSCOPE_CLUSTER]),
		}
		for _, n := range frontendFlagNames() {
			if v.Flags&uint32(n.flag) != 0 {
				state.Flags = append(state.Flags, n.name)
			}
		}
		out = append(out, state)
	}
	slices.SortFunc(out, func(a, b FrontendState) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out, nil
}

func (f *found) inspectList(ref abi.CBackendList) ListState {
	out := ListState{ID: ref.Id, Maglev: f.maglev[ref.Id]}
	for _, s := range f.lists[ref.Id] {
		if s.slot < ref.Count {
			out.Backends = append(out.Backends, BackendState{Addr: addrOf(s.value), ID: s.value.Id})
		}
	}
	out.Missing = int(ref.Count) - len(out.Backends)
	return out
}
