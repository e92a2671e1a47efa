package services

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// point is where a frontend is in the kernel.
type point struct {
	addr     netip.AddrPort
	protocol state.Protocol
}

// kernel is what the kernel has, by frontend.
type kernel map[point]datapath.FrontendState

func (r *Runner) inspect() ([]datapath.FrontendState, error) {
	if r.cfg.Off {
		return nil, nil
	}
	found, err := r.cfg.Datapath.InspectServices()
	if err != nil {
		return nil, fmt.Errorf("read services from the kernel: %w", err)
	}
	return found, nil
}

// Services describes every Service and every pod of this node with host ports, or only those named ref ("namespace/name"), ordered by name. An error is
// that of reading the kernel.
func (r *Runner) Services(ref string) ([]agentapi.ServiceInfo, error) {
	found, err := r.inspect()
	if err != nil {
		return nil, err
	}
	k := make(kernel, len(found))
	for _, f := range found {
		k[point{f.Addr, f.Protocol}] = f
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.detailsLocked()
	var out []agentapi.ServiceInfo
	for _, s := range r.summariesLocked(ref) {
		out = append(out, d.info(s, k))
	}
	return out, nil
}

// summariesLocked are all, or those of one name.
func (r *Runner) summariesLocked(ref string) []loadbalance.Summary {
	if ref == "" {
		return r.engine.Services()
	}
	namespace, name, _ := strings.Cut(ref, "/")
	var out []loadbalance.Summary
	for _, hostPort := range []bool{false, true} {
		if s, ok := r.engine.Service(state.ServiceRef{Namespace: namespace, Name: name}, hostPort); ok {
			out = append(out, s)
		}
	}
	return out
}

// details are what is known beside what should be.
type details struct {
	refused map[loadbalance.PortKey]loadbalance.Refusal
	health  map[state.ServiceRef]healthState
}

func (r *Runner) detailsLocked() details {
	d := details{refused: map[loadbalance.PortKey]loadbalance.Refusal{}, health: map[state.ServiceRef]healthState{}}
	for _, f := range r.state.refused {
		d.refused[f.Key] = f
	}
	for _, h := range r.state.health {
		d.health[h.Service] = h
	}
	return d
}

func (d details) info(s loadbalance.Summary, k kernel) agentapi.ServiceInfo {
	out := agentapi.ServiceInfo{
		Service: s.Service, HostPort: s.HostPort, Ports: make([]agentapi.ServicePort, 0, len(s.Ports)),
		Entries: agentapi.ServiceEntries(s.Entries), Estimate: s.Estimate,
	}
	for _, p := range s.Problems {
		out.Problems = append(out.Problems, p.Message)
	}
	if h, ok := d.health[s.Service]; ok && !s.HostPort {
		out.HealthCheck = &agentapi.ServiceHealth{Port: h.Port, LocalEndpoints: h.Local}
		if h.err != nil {
			out.HealthCheck.Problem = h.err.Error()
		}
	}
	for _, p := range s.Ports {
		info := portInfo(p, k)
		if f, ok := d.refused[p.Key]; ok {
			info.State, info.Refusal = agentapi.ServiceRefused, &agentapi.LBRefusal{Table: tableName(f.Table), Needs: f.Needs, Free: f.Free}
		}
		out.Ports = append(out.Ports, info)
	}
	return out
}

// portInfo sets what should be beside what is.
func portInfo(p loadbalance.Port, k kernel) agentapi.ServicePort {
	out := agentapi.ServicePort{
		Name: p.Key.Name, Protocol: p.Key.Protocol, Port: p.Key.Port, IPv6: p.Key.IPv6, State: agentapi.ServiceRealised,
		Affinity: p.Affinity, SourceRanges: p.SourceRanges, Frontends: []agentapi.ServiceFrontend{},
		Entries: agentapi.ServiceEntries(loadbalance.Cost(p)), Estimate: loadbalance.DocumentedEstimate(p),
	}
	ids := map[netip.AddrPort]uint32{}
	for _, f := range p.Frontends {
		is, ok := k[point{f.Addr, p.Key.Protocol}]
		if !ok || !serves(is.Outside, p.Backends(f.Outside)) || !serves(is.Cluster, p.Backends(f.Cluster)) || out.ID != 0 && out.ID != is.Service {
			out.State = agentapi.ServicePending
		}
		if ok && out.ID == 0 {
			out.ID = is.Service
		}
		for _, b := range slices.Concat(is.Outside.Backends, is.Cluster.Backends) {
			ids[b.Addr] = b.ID
		}
		out.Frontends = append(out.Frontends, agentapi.ServiceFrontend{
			Addr: f.Addr, Kind: string(f.Kind), Outside: scope(f.Outside, is.Outside), Cluster: scope(f.Cluster, is.Cluster),
			Maglev: f.Maglev, SourceRanges: f.SourceRanges,
		})
	}
	out.Backends = backends(p, ids)
	return out
}

// serves tells whether a list of the kernel holds exactly what it should.
func serves(is datapath.ListState, should []loadbalance.Backend) bool {
	if len(is.Backends) != len(should) || is.Missing > 0 {
		return false
	}
	have := map[netip.AddrPort]bool{}
	for _, b := range is.Backends {
		have[b.Addr] = true
	}
	return !slices.ContainsFunc(should, func(b loadbalance.Backend) bool { return !have[b.Addr] })
}

func scope(reach loadbalance.Reach, is datapath.ListState) agentapi.ServiceScope {
	return agentapi.ServiceScope{Reach: cmp.Or(string(reach), agentapi.ReachNone), List: is.ID, Backends: len(is.Backends)}
}

// backends are all of a port's, ordered by address.
func backends(p loadbalance.Port, ids map[netip.AddrPort]uint32) []agentapi.ServiceBackend {
	all := map[netip.AddrPort]agentapi.ServiceBackend{}
	add := func(in []loadbalance.Backend, set func(*agentapi.ServiceBackend)) {
		for _, b := range in {
			s, ok := all[b.Addr]
			if !ok {
				s = agentapi.ServiceBackend{Addr: b.Addr, State: agentapi.BackendActive, ID: ids[b.Addr]}
			}
			set(&s)
			all[b.Addr] = s
		}
	}
	add(p.Draining, func(s *agentapi.ServiceBackend) { s.State = agentapi.BackendDraining })
	add(p.All, func(s *agentapi.ServiceBackend) { s.All, s.State = true, agentapi.BackendActive })
	add(p.Local, func(s *agentapi.ServiceBackend) { s.Local, s.State = true, agentapi.BackendActive })
	out := slices.Collect(maps.Values(all))
	slices.SortFunc(out, func(a, b agentapi.ServiceBackend) int { return a.Addr.Compare(b.Addr) })
	if out == nil {
		out = []agentapi.ServiceBackend{}
	}
	return out
}

// LB describes what the kernel has of services. An error is that of reading it.
func (r *Runner) LB() (agentapi.LBTables, error) {
	found, err := r.inspect()
	if err != nil {
		return agentapi.LBTables{}, err
	}
	names := r.names()
	out := agentapi.LBTables{Tables: r.tables()}
	lists := map[uint32]agentapi.LBList{}
	for _, f := range found {
		key, known := names[point{f.Addr, f.Protocol}]
		entry := agentapi.LBFrontend{
			Addr: f.Addr, Protocol: f.Protocol, ID: f.Service, Flags: f.Flags, Affinity: f.Affinity, Outside: f.Outside.ID, Cluster: f.Cluster.ID,
		}
		if known {
			entry.Service, entry.Port = key.Service.String(), key.Name
		}
		out.Frontends = append(out.Frontends, entry)
		for _, l := range []datapath.ListState{f.Outside, f.Cluster} {
			if _, ok := lists[l.ID]; l.ID != 0 && !ok {
				lists[l.ID] = listOf(l)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(lists)) {
		out.Lists = append(out.Lists, lists[id])
	}
	return out, nil
}

func listOf(l datapath.ListState) agentapi.LBList {
	out := agentapi.LBList{ID: l.ID, Backends: make([]agentapi.LBBackend, 0, len(l.Backends))}
	for _, b := range l.Backends {
		out.Backends = append(out.Backends, agentapi.LBBackend{Addr: b.Addr, ID: b.ID})
	}
	return out
}

// names tells which port should be at each frontend.
func (r *Runner) names() map[point]loadbalance.PortKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[point]loadbalance.PortKey, r.counts.total.frontends)
	for _, p := range r.engine.Ports() {
		for _, f := range p.Frontends {
			out[point{f.Addr, p.Key.Protocol}] = p.Key
		}
	}
	return out
}

func (r *Runner) tables() []agentapi.LBTable {
	if r.cfg.Off {
		return nil
	}
	var out []agentapi.LBTable
	for _, t := range r.cfg.Datapath.ServiceTables() {
		out = append(out, agentapi.LBTable{Name: tableName(t.Name), Entries: t.Entries, Size: t.Size})
	}
	return out
}

// Status counts what should be served and tells what is not.
func (r *Runner) Status() agentapi.ServicesStatus {
	tables := r.tables()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := agentapi.ServicesStatus{
		Enabled: !r.cfg.Off, Tables: tables, HostPorts: r.counts.pods, Services: len(r.counts.owners) - r.counts.pods,
		Ports: len(r.counts.ports), Frontends: r.counts.total.frontends, Backends: r.counts.total.backends,
	}
	if r.cfg.Off {
		return out
	}
	if err := r.state.trouble(); err != nil {
		out.Problem = err.Error()
	}
	for _, f := range r.state.refused {
		out.Refused = append(out.Refused, subject(ownerOf(f.Key))+refusal(f))
	}
	for _, p := range r.state.problems {
		out.Problems = append(out.Problems, subject(owner{p.Service, p.HostPort})+p.Message)
	}
	return out
}

// Repaired counts the differences that audits found in the kernel and mended.
func (r *Runner) Repaired() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.repaired
}

// subject begins a sentence about a Service or a pod.
func subject(o owner) string {
	if o.hostPort {
		return "host ports of pod " + o.ref.String() + ": "
	}
	return o.ref.String() + ": "
}

// tableName is the name of a map as people know it.
func tableName(name string) string { return strings.TrimSuffix(name, "_map") }
