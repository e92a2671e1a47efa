package datapath

import (
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/state"
)

// Conntrack is the collector of expired flows, through which flows are also
// listed and removed.
func (d *Datapath) Conntrack() *conntrack.Collector { return d.conntrack }

func (d *Datapath) openConntrack() error {
	outer := func(name string) *ebpf.Map { return d.loader.Map(name).Outer }
	d.conntrack = conntrack.New(conntrack.Config{
		Tables: conntrack.Tables{
			TCP: outer(CTTCPMap), Any: outer(CTAnyMap), New: outer(CTNewMap), Settings: outer(SettingsMap),
		},
		Sources:  d.node.sources(),
		Schedule: d.node.cfg.CTSchedule, Needed: d.hasFlows, Pods: &podNames{tables: d.tables}, Log: d.node.cfg.Log,
	})
	counted := map[string]*ebpf.Map{}
	for _, name := range []string{EndpointMap, IdentityMap, PolicyMap, PortMap, CTTCPMap, CTAnyMap, CTNewMap, FragmentMap} {
		counted[name] = outer(name)
	}
	for _, name := range []string{FrontendMap, BackendMap, MaglevMap, AffinityMap, SockMap} {
		if d.loader.Map(name) != nil { // a program has it
			counted[name] = outer(name)
		}
	}
	var err error
	d.counter, err = conntrack.NewCounter(counted)
	return err
}

// hasFlows tells whether packets make flows here: those of pods, or to services.
func (d *Datapath) hasFlows() bool {
	eps, _, err := d.tables.Endpoints()
	return err != nil || len(eps) > 0 || d.node.cfg.Services.Enabled
}

// podNames finds the pods of this node by their addresses and back.
type podNames struct {
	tables *state.Tables

	mu      sync.Mutex
	names   map[netip.Addr]string // "namespace/name"
	changed <-chan struct{}       // closed when names are out of date; nil: there are none yet
}

// NameOf returns "namespace/name" of the pod that has addr, or "".
func (p *podNames) NameOf(addr netip.Addr) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.changed:
	default:
		if p.changed != nil {
			return p.names[addr]
		}
	}
	eps, changed, err := p.tables.Endpoints()
	if err != nil {
		return ""
	}
	p.names, p.changed = make(map[netip.Addr]string, 2*len(eps)), changed
	for _, ep := range eps {
		for _, a := range ep.Addrs() {
			p.names[a] = ep.Pod.String()
		}
	}
	return p.names[addr]
}

// AddrsOf returns the addresses of the named pod; none when it is not here.
func (p *podNames) AddrsOf(pod string) []netip.Addr {
	eps, _, err := p.tables.Endpoints()
	if err != nil {
		return nil
	}
	for _, ep := range eps {
		if ep.Pod.String() == pod {
			return ep.Addrs()
		}
	}
	return nil
}

// tableSize tells how many entries a map has, where that is known.
func (d *Datapath) tableSize(m *loader.Map, counts map[string]uint64) (uint64, bool) {
	if n, ok := counts[m.Name]; ok {
		return n, true
	}
	switch m.Name {
	case IPCacheMap:
		return uint64(d.ipcache.Status().Desired), true
	case CIDRMap:
		return uint64(d.policy.prefixCount()), true
	case NativeMap:
		return uint64(d.native.Status().Desired), true
	case SourceRangeMap:
		if d.services != nil {
			used, _ := d.services.tableSizes()
			return uint64(used[inRanges]), true
		}
	}
	return 0, false
}
