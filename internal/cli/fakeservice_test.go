package cli

import (
	"context"
	"net/netip"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// Services answers with those of that name.
func (f *fakeAgent) Services(ctx context.Context, ref string) ([]agentapi.ServiceInfo, error) {
	if err := f.fail(ctx); err != nil {
		return nil, err
	}
	var out []agentapi.ServiceInfo
	for _, s := range f.ServicesResult {
		if ref == "" || s.Service.String() == ref {
			out = append(out, s)
		}
	}
	if ref != "" && len(out) == 0 {
		return nil, &agentapi.Error{Code: agentapi.CodeNotFound, Message: "no service " + ref}
	}
	return out, nil
}

// LB answers with LBResult.
func (f *fakeAgent) LB(ctx context.Context) (agentapi.LBTables, error) {
	return f.LBResult, f.fail(ctx)
}

// addServices gives the agent a service of every kind: one with everything, one
// that does not fit, one with nothing to serve, and a pod with a host port.
func addServices(f *fakeAgent) {
	addr := netip.MustParseAddrPort
	all := func(list uint32, n int) agentapi.ServiceScope {
		return agentapi.ServiceScope{Reach: agentapi.ReachAll, List: list, Backends: n}
	}
	none := agentapi.ServiceScope{Reach: agentapi.ReachNone}
	web := agentapi.ServiceInfo{
		Service: state.ServiceRef{Namespace: "default", Name: "web"},
		Ports: []agentapi.ServicePort{{
			Name: "http", Protocol: state.ProtocolTCP, Port: 80, State: agentapi.ServiceRealised, ID: 12, Affinity: 10800,
			SourceRanges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			Frontends: []agentapi.ServiceFrontend{
				{Addr: addr("10.96.0.10:80"), Kind: "ClusterIP", Cluster: all(7, 2), Outside: none},
				{
					Addr: addr("192.0.2.1:30080"), Kind: "NodePort", Cluster: all(7, 2), Maglev: true,
					Outside: agentapi.ServiceScope{Reach: agentapi.ReachLocal, List: 8, Backends: 1},
				},
				{Addr: addr("198.51.100.1:80"), Kind: "LoadBalancer", Cluster: all(7, 2), Outside: agentapi.ServiceScope{Reach: agentapi.ReachLocal}, SourceRanges: true},
			},
			Backends: []agentapi.ServiceBackend{
				{Addr: addr("10.244.0.5:8080"), State: agentapi.BackendActive, All: true, Local: true, ID: 21},
				{Addr: addr("10.244.1.7:8080"), State: agentapi.BackendActive, All: true, ID: 22},
				{Addr: addr("10.244.1.8:8080"), State: agentapi.BackendDraining, ID: 23},
			},
			Entries: agentapi.ServiceEntries{Frontends: 3, Backends: 6, Maglev: 1, SourceRanges: 1}, Estimate: 2,
		}},
		HealthCheck: &agentapi.ServiceHealth{Port: 31234, LocalEndpoints: 1, Problem: "listen on port 31234: address already in use"},
		Entries:     agentapi.ServiceEntries{Frontends: 5, Backends: 6, Maglev: 1, SourceRanges: 1}, Estimate: 2,
		Problems: []string{"spec.ports[1]: port 53 of 10.96.0.10 belongs to kube-system/dns, which is older"},
	}
	large := agentapi.ServiceInfo{
		Service: state.ServiceRef{Namespace: "default", Name: "large"},
		Ports: []agentapi.ServicePort{{
			Protocol: state.ProtocolUDP, Port: 53, IPv6: true, State: agentapi.ServiceRefused,
			Refusal:   &agentapi.LBRefusal{Table: "backend", Needs: 5000, Free: 12},
			Frontends: []agentapi.ServiceFrontend{{Addr: addr("[fd01::a]:53"), Kind: "ClusterIP", Cluster: agentapi.ServiceScope{Reach: agentapi.ReachAll}, Outside: none}},
			Entries:   agentapi.ServiceEntries{Frontends: 1, Backends: 5000}, Estimate: 5000,
		}},
		Entries: agentapi.ServiceEntries{Frontends: 2, Backends: 5000}, Estimate: 5000,
	}
	pod := agentapi.ServiceInfo{
		Service: state.ServiceRef{Namespace: "kube-system", Name: "dns-x"}, HostPort: true,
		Ports: []agentapi.ServicePort{{
			Protocol: state.ProtocolTCP, Port: 5353, State: agentapi.ServicePending,
			Frontends: []agentapi.ServiceFrontend{{Addr: addr("192.0.2.1:5353"), Kind: "HostPort", Cluster: all(9, 1), Outside: all(9, 1)}},
			Backends:  []agentapi.ServiceBackend{{Addr: addr("10.244.0.12:53"), State: agentapi.BackendActive, All: true, Local: true, ID: 24}},
			Entries:   agentapi.ServiceEntries{Frontends: 1, Backends: 1}, Estimate: 1,
		}},
		Entries: agentapi.ServiceEntries{Frontends: 1, Backends: 1}, Estimate: 1,
	}
	f.ServicesResult = []agentapi.ServiceInfo{
		large, web,
		{Service: state.ServiceRef{Namespace: "default", Name: "odd"}, Problems: []string{"spec.ports[0]: port 0 is none"}},
		pod,
	}
	backend := func(a string, id uint32) agentapi.LBBackend { return agentapi.LBBackend{Addr: addr(a), ID: id} }
	var many []agentapi.LBBackend
	for i := range uint32(10) {
		many = append(many, agentapi.LBBackend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 2, byte(i)}), 80), ID: 30 + i})
	}
	f.LBResult = agentapi.LBTables{
		Frontends: []agentapi.LBFrontend{
			{Addr: addr("10.96.0.10:0"), Flags: []string{"closed"}},
			{
				Addr: addr("10.96.0.10:80"), Protocol: state.ProtocolTCP, ID: 12, Service: "default/web", Port: "http",
				Flags: []string{"affinity", "cluster-only"}, Affinity: 10800, Cluster: 7,
			},
			{Addr: addr("192.0.2.1:30080"), Protocol: state.ProtocolTCP, ID: 12, Service: "default/web", Port: "http", Flags: []string{"affinity", "maglev"}, Affinity: 10800, Cluster: 7, Outside: 8},
			{Addr: addr("[fd01::b]:53"), Protocol: state.ProtocolUDP, ID: 40, Cluster: 10, Outside: 10},
		},
		Lists: []agentapi.LBList{
			{ID: 7, Backends: []agentapi.LBBackend{backend("10.244.0.5:8080", 21), backend("10.244.1.7:8080", 22)}},
			{ID: 8, Backends: []agentapi.LBBackend{backend("10.244.0.5:8080", 21)}},
			{ID: 10, Backends: many},
		},
		Tables: []agentapi.LBTable{{Name: "frontend", Entries: 4, Size: 65536}, {Name: "backend", Entries: 16, Size: 16}},
	}
	f.status.Services = &agentapi.ServicesStatus{
		Enabled: true, Services: 2, HostPorts: 1, Ports: 3, Frontends: 5, Backends: 4, Tables: f.LBResult.Tables,
		Problems: []string{"default/odd: spec.ports[0]: port 0 is none"},
	}
	f.status.Masquerade = []string{"IPv4"}
}
