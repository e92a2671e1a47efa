package services

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

func (n *node) infos(name string) []agentapi.ServiceInfo {
	n.Helper()
	out, err := n.runner.Services(name)
	n.Must(err)
	return out
}

func (n *node) info(name string) agentapi.ServiceInfo {
	n.Helper()
	out := n.infos(ns + "/" + name)
	if len(out) != 1 {
		n.Fatalf("%d services are %s", len(out), name)
	}
	return out[0]
}

func same(n *node, what string, got, want any) {
	n.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		n.Errorf("%s -want +got:\n%s", what, diff)
	}
}

func TestInspect(t *testing.T) {
	addr := netip.MustParseAddrPort
	story(t, "a service with everything", func(n *node) {
		n.running()
		s := web("web", 1)
		s.Ports[0].NodePort = 30080
		s.LoadBalancers = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
		s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		s.ExternalLocal, s.HealthCheckPort, s.Affinity = true, 31000, 1e10
		n.service(s)
		draining := slice("web", "10.0.0.1", "10.0.1.1", "10.0.1.2")
		draining.Backends[2].Ready, draining.Backends[2].Terminating = false, true
		n.Must(n.tables.UpsertSlice(draining))
		n.service(web("other", 2))
		n.Pass(settleDelay)
		all := agentapi.ServiceScope{Reach: agentapi.ReachAll, List: 1, Backends: 2}
		local := agentapi.ServiceScope{Reach: agentapi.ReachLocal, List: 1, Backends: 1}
		port := agentapi.ServicePort{
			Name: "http", Protocol: state.ProtocolTCP, Port: 80, State: agentapi.ServiceRealised, ID: 1, Affinity: 10, SourceRanges: s.SourceRanges,
			Frontends: []agentapi.ServiceFrontend{
				{Addr: addr("10.96.0.1:80"), Kind: "ClusterIP", Outside: agentapi.ServiceScope{Reach: agentapi.ReachNone}, Cluster: all},
				{Addr: addr("192.0.2.1:30080"), Kind: "NodePort", Outside: local, Cluster: all},
				{Addr: addr("198.51.100.1:80"), Kind: "LoadBalancer", Outside: local, Cluster: all, SourceRanges: true},
			},
			Backends: []agentapi.ServiceBackend{
				{Addr: addr("10.0.0.1:8080"), State: agentapi.BackendActive, All: true, Local: true, ID: 1},
				{Addr: addr("10.0.1.1:8080"), State: agentapi.BackendActive, All: true, ID: 2},
				{Addr: addr("10.0.1.2:8080"), State: agentapi.BackendDraining},
			},
			Entries: agentapi.ServiceEntries{Frontends: 3, Backends: 7, SourceRanges: 1}, Estimate: 2,
		}
		want := agentapi.ServiceInfo{
			Service: s.Ref, Ports: []agentapi.ServicePort{port}, HealthCheck: &agentapi.ServiceHealth{Port: 31000, LocalEndpoints: 1},
			Entries: agentapi.ServiceEntries{Frontends: 5, Backends: 7, SourceRanges: 1}, Estimate: 2,
		}
		same(n, "service", n.info("web"), want)
		if all := n.infos(""); len(all) != 2 || all[0].Service != ref("other") {
			n.Errorf("services %+v", all)
		}
		if none := n.infos("shop/none"); len(none) != 0 {
			n.Errorf("services %+v", none)
		}
		st := n.runner.Status()
		if st.Services != 2 || st.Ports != 2 || st.Frontends != 4 || st.Backends != 3 || len(st.Tables) != 1 || st.Tables[0].Name != "backend" {
			n.Errorf("status %+v", st)
		}

		// The lists of one scope alone are not what they should be.
		for _, spoil := range []func(*loadbalance.Port){
			func(p *loadbalance.Port) { p.All = p.All[:1] }, func(p *loadbalance.Port) { p.Local = nil },
			func(p *loadbalance.Port) { p.Frontends = p.Frontends[:2] },
		} {
			n.kernel.look(func() {
				for key, p := range n.kernel.ports {
					if key.Service == s.Ref {
						spoil(&p)
						n.kernel.ports[key] = p
					}
				}
			})
			if p := n.info("web").Ports[0]; p.State != agentapi.ServicePending {
				n.Errorf("port %+v", p)
			}
			n.Pass(time.Minute) // the audit
			if p := n.info("web").Ports[0]; p.State != agentapi.ServiceRealised {
				n.Errorf("port %+v", p)
			}
		}

		n.kernel.look(func() { clear(n.kernel.ports) })
		pending := n.info("web").Ports[0]
		if pending.State != agentapi.ServicePending || pending.ID != 0 || pending.Frontends[0].Cluster != (agentapi.ServiceScope{Reach: agentapi.ReachAll}) {
			n.Errorf("port %+v", pending)
		}
		n.kernel.look(func() { n.kernel.fail = true })
		if _, err := n.runner.Services(""); !errors.Is(err, errFake) {
			n.Errorf("error %v", err)
		}
		if _, err := n.runner.LB(); !errors.Is(err, errFake) {
			n.Errorf("error %v", err)
		}
	})
	story(t, "the kernel's tables", func(n *node) {
		n.running()
		n.service(web("web", 1))
		n.backends("web", "10.0.0.1", "10.0.1.1")
		stray := addr("10.96.0.9:53")
		n.kernel.look(func() {
			key := loadbalance.PortKey{Service: ref("stray"), Protocol: state.ProtocolUDP}
			n.kernel.ids[key] = 9
			n.kernel.ports[key] = loadbalance.Port{Key: key, Frontends: []loadbalance.Frontend{{Addr: stray}}}
		})
		got, err := n.runner.LB()
		n.Must(err)
		same(n, "tables", got, agentapi.LBTables{
			Frontends: []agentapi.LBFrontend{
				{Addr: addr("10.96.0.1:0"), Flags: []string{"closed"}},
				{Addr: addr("10.96.0.1:80"), Protocol: state.ProtocolTCP, ID: 1, Service: "shop/web", Port: "http", Cluster: 1},
				{Addr: stray, Protocol: state.ProtocolUDP, ID: 9},
			},
			Lists:  []agentapi.LBList{{ID: 1, Backends: []agentapi.LBBackend{{Addr: addr("10.0.0.1:8080"), ID: 1}, {Addr: addr("10.0.1.1:8080"), ID: 2}}}},
			Tables: []agentapi.LBTable{{Name: "backend", Entries: 1, Size: 1000}},
		})
	})
}

func TestServeTable(t *testing.T) {
	addr := netip.MustParseAddrPort
	port := loadbalance.Port{All: []loadbalance.Backend{{Addr: addr("10.0.0.1:1")}, {Addr: addr("10.0.0.2:1")}}}
	list := func(missing int, addrs ...string) datapath.ListState {
		l := datapath.ListState{Missing: missing}
		for _, a := range addrs {
			l.Backends = append(l.Backends, datapath.BackendState{Addr: addr(a)})
		}
		return l
	}
	for name, tc := range map[string]struct {
		list  datapath.ListState
		reach loadbalance.Reach
		want  bool
	}{
		"all":           {list(0, "10.0.0.2:1", "10.0.0.1:1"), loadbalance.ReachAll, true},
		"one too few":   {list(0, "10.0.0.2:1"), loadbalance.ReachAll, false},
		"another":       {list(0, "10.0.0.2:1", "10.0.0.3:1"), loadbalance.ReachAll, false},
		"a hole":        {list(1, "10.0.0.2:1", "10.0.0.1:1"), loadbalance.ReachAll, false},
		"none":          {list(0), loadbalance.ReachNone, true},
		"empty":         {list(0), loadbalance.ReachLocal, true},
		"one too many":  {list(0, "10.0.0.1:1"), loadbalance.ReachLocal, false},
		"should be no":  {list(0, "10.0.0.1:1"), loadbalance.ReachNone, false},
		"nothing there": {list(0), loadbalance.ReachAll, false},
	} {
		if got := serves(tc.list, port.Backends(tc.reach)); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
