package services

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/timing"
)

func TestNewRefuses(t *testing.T) {
	n := newNode(t)
	if _, err := New(Config{NodeName: here}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("error %v", err)
	}
	cfg := n.newRunner().cfg
	cfg.Compiler.Algorithm = "rr"
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "bpf-lb-algorithm") {
		t.Errorf("error %v", err)
	}
}

func TestStart(t *testing.T) {
	story(t, "nothing is written before all is known", func(n *node) {
		n.start()
		n.service(web("web", 1))
		n.Pass(3 * time.Minute) // with audits
		if n.kernel.syncs+n.kernel.writes > 0 || !errors.Is(n.runner.Ready(), errUnknown) || n.runner.healthy() {
			n.Errorf("%d comparisons, %d writes, ready %v", n.kernel.syncs, n.kernel.writes, n.runner.Ready())
		}
		if s := n.runner.Status(); s.Problem == "" || !s.Enabled {
			n.Errorf("status %+v", s)
		}
		n.backends("web", "10.0.0.1", "10.0.1.1")
		n.sync()
		n.wantServed("web", "[10.0.0.1 10.0.1.1]")
		if n.kernel.syncs != 1 || n.kernel.writes != 0 || n.runner.Ready() != nil || !n.runner.healthy() || !timing.Closed(n.runner.Written()) {
			n.Errorf("%d comparisons, %d writes, ready %v", n.kernel.syncs, n.kernel.writes, n.runner.Ready())
		}
		if d := n.cluster.timed(); len(d) > 0 || len(n.cluster.changes) > 0 {
			n.Errorf("the start is measured as a change: %v %v", d, n.cluster.changes)
		}
	})
	story(t, "an agent that starts keeps what another served", func(n *node) {
		n.running()
		n.service(web("web", 1))
		n.service(web("old", 2))
		n.backends("web", "10.0.0.1")
		n.Must(n.tables.DeleteService(ref("old")))
		n.backends("gone", "10.0.0.2") // a slice may outlive its Service
		old := web("old", 2)
		n.service(old)
		before := fmt.Sprint(n.kernel.ports, n.kernel.ids)
		n.restart()
		n.Must(n.tables.DeleteService(old.Ref)) // meanwhile
		n.Pass(5 * time.Minute)
		if got := fmt.Sprint(n.kernel.ports, n.kernel.ids); got != before {
			n.Errorf("the kernel has\n%s\nwant what it had\n%s", got, before)
		}
		n.sync()
		n.wantServed("web", "[10.0.0.1]")
		n.wantServed("old", "not served")
	})
	story(t, "nodes are waited for, not for long", func(n *node) {
		hinted := slice("web", "10.0.0.1", "10.0.1.1")
		hinted.Backends[0].HintZones, hinted.Backends[1].HintZones = []string{"b"}, []string{"a"}
		n.service(web("web", 1))
		n.Must(n.tables.UpsertSlice(hinted))
		n.start()
		close(n.cluster.services)
		n.Pass(nodesWait - time.Millisecond)
		n.wantServed("web", "not served")
		n.Pass(time.Millisecond)
		n.wantServed("web", "[10.0.1.1]") // its zone is known
		n.Must(n.tables.UpsertNode(state.Node{Name: here, Zone: "b"}))
		synctest.Wait()
		n.wantServed("web", "[10.0.0.1]")
	})
	story(t, "no API server", func(n *node) {
		n.kernel.ports[loadbalance.PortKey{Service: ref("web")}] = loadbalance.Port{All: []loadbalance.Backend{{Addr: netip.MustParseAddrPort("10.0.0.9:80")}}}
		n.start()
		n.Pass(time.Hour)
		n.wantServed("web", "[10.0.0.9]")
		if err := n.runner.Ready(); err == nil || !strings.Contains(err.Error(), "API server") {
			n.Errorf("ready: %v", err)
		}
		if timing.Closed(n.runner.Written()) {
			n.Error("all is said to be written")
		}
	})
}

func TestOff(t *testing.T) {
	story(t, "what was served is removed", func(n *node) {
		n.running()
		n.service(web("web", 1))
		n.stop()
		n.off = true
		n.kernel.fail = true
		n.start()
		n.wantServed("web", "[]")
		n.kernel.look(func() { n.kernel.fail = false })
		n.Pass(retryMax)
		n.wantServed("web", "not served")
		if err := n.runner.Ready(); err != nil || !timing.Closed(n.runner.Written()) {
			n.Errorf("ready: %v", err)
		}
		services, err := n.runner.Services("")
		tables, lbErr := n.runner.LB()
		if s := n.runner.Status(); s.Enabled || s.Problem != "" || err != nil || len(services) > 0 || lbErr != nil || len(tables.Frontends)+len(tables.Tables) > 0 {
			n.Errorf("status %+v, services %+v %v, tables %+v %v", s, services, err, tables, lbErr)
		}
	})
}

func TestChanges(t *testing.T) {
	story(t, "a change is written at once", func(n *node) {
		n.running()
		began := time.Now()
		n.service(web("web", 1))
		n.backends("web", "10.0.0.1")
		n.wantServed("web", "[10.0.0.1]")
		n.backends("web", "10.0.0.1", "10.0.0.2")
		n.wantServed("web", "[10.0.0.1 10.0.0.2]")
		n.Must(n.tables.DeleteService(ref("web")))
		synctest.Wait()
		n.wantServed("web", "not served")
		if took := time.Since(began); took != 0 {
			n.Errorf("it took %v", took)
		}
		if d := n.cluster.timed(); len(d) != 4 || slices.Max(d) != 0 || n.cluster.deleted != 1 {
			n.Errorf("measured %v, %d of them deletions", d, n.cluster.deleted)
		}
		if c := n.cluster.changes; c[ActionAdd] != 1 || c[ActionUpdate] != 2 || c[ActionDelete] != 1 {
			n.Errorf("counted %v", c)
		}
	})
	story(t, "what comes during a write is the next one, and its time counts", func(n *node) {
		n.running()
		n.kernel.look(func() { n.kernel.takes = 3 * time.Millisecond })
		n.service(web("web", 1))
		n.service(web("api", 2))
		n.Pass(time.Second)
		n.cluster.timed()
		writes := n.kernel.writes
		n.backends("web", "10.0.0.1")
		n.Pass(time.Millisecond)
		n.backends("web", "10.0.0.2")
		n.backends("api", "10.0.0.3")
		n.Pass(2 * time.Millisecond)
		n.wantServed("web", "[10.0.0.1]")
		n.Pass(3 * time.Millisecond)
		n.wantServed("web", "[10.0.0.2]")
		n.wantServed("api", "[10.0.0.3]")
		if d := n.cluster.timed(); n.kernel.writes != writes+2 || !slices.Equal(d, []time.Duration{3 * time.Millisecond, 5 * time.Millisecond}) {
			n.Errorf("%d writes took %v", n.kernel.writes-writes, d)
		}
	})
	story(t, "a change that changes nothing is not written", func(n *node) {
		n.running()
		n.service(web("web", 1))
		writes := n.kernel.writes
		n.backends("other", "10.0.0.1")
		n.Pass(time.Second)
		if n.kernel.writes != writes {
			n.Error("it is written")
		}
	})
	story(t, "node ports follow the node's addresses", func(n *node) {
		n.running()
		s := web("web", 1)
		s.Ports[0].NodePort = 30080
		n.service(s)
		for _, addrs := range [][]string{{"192.0.2.1"}, {"192.0.2.7", "192.0.2.8"}, {}} {
			if len(addrs) != 1 {
				n.kernel.move(addrs...)
				synctest.Wait()
			}
			if got := n.frontends("web", loadbalance.KindNodePort); got != fmt.Sprint(addrs) {
				n.Errorf("node ports at %s, want %s", got, addrs)
			}
		}
	})
	story(t, "an address of a node is not closed", func(n *node) {
		n.running()
		s := web("web", 1)
		s.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
		n.service(s)
		if !n.kernel.addresses[s.ExternalIPs[0]] {
			n.Error("the external IP is open")
		}
		n.Must(n.tables.UpsertNode(state.Node{Name: "node-2", Addrs: s.ExternalIPs}))
		synctest.Wait()
		if n.kernel.addresses[s.ExternalIPs[0]] {
			n.Error("the node's address is closed")
		}
	})
}

// frontends are the addresses of a Service's frontends of a kind, as text.
func (n *node) frontends(name string, kind loadbalance.Kind) string {
	out := []netip.Addr{}
	n.kernel.look(func() {
		for key, p := range n.kernel.ports {
			for _, f := range p.Frontends {
				if key.Service == ref(name) && f.Kind == kind {
					out = append(out, f.Addr.Addr())
				}
			}
		}
	})
	return fmt.Sprint(out)
}

func TestTrouble(t *testing.T) {
	story(t, "a kernel that refuses is tried until it works", func(n *node) {
		n.running()
		n.service(web("web", 1))
		n.kernel.look(func() { n.kernel.fail = true })
		n.backends("web", "10.0.0.1")
		n.backends("web", "10.0.0.1", "10.0.0.2")
		n.wantServed("web", "[]")
		if err := n.runner.Ready(); !errors.Is(err, errFake) || !n.runner.healthy() {
			n.Errorf("ready %v, healthy %t", err, n.runner.healthy())
		}
		for range 300 { // changes are no reason to try earlier
			n.backends("web", "10.0.0.1")
			n.Pass(outageLimit / 600)
			n.backends("web", "10.0.0.1", "10.0.0.2")
			n.Pass(outageLimit / 600)
		}
		if n.kernel.failures < 5 || n.kernel.failures > 12 {
			n.Errorf("tried %d times in %v", n.kernel.failures, outageLimit)
		}
		if n.runner.healthy() {
			n.Error("load balancers are told to come after a long outage")
		}
		if n.kernel.writes != 1 || n.runner.Status().Problem == "" {
			n.Errorf("%d writes, status %+v", n.kernel.writes, n.runner.Status())
		}
		n.kernel.look(func() { n.kernel.fail = false })
		n.cluster.timed()
		n.Pass(retryMax)
		n.wantServed("web", "[10.0.0.1 10.0.0.2]")
		if err := n.runner.Ready(); err != nil || !n.runner.healthy() || n.runner.Status().Problem != "" {
			n.Errorf("ready %v, healthy %t", err, n.runner.healthy())
		}
		if d := n.cluster.timed(); len(d) != 1 || d[0] < outageLimit {
			n.Errorf("measured %v", d)
		}
		if n.runner.Repaired() != 0 {
			n.Error("the outage counts as differences that an audit found")
		}
	})
	story(t, "an audit mends", func(n *node) {
		n.running()
		n.service(web("web", 1))
		n.backends("web", "10.0.0.1")
		n.kernel.look(func() { clear(n.kernel.ports) })
		n.Pass(time.Minute)
		n.wantServed("web", "[10.0.0.1]")
		if n.runner.Repaired() != 1 {
			n.Errorf("%d repaired", n.runner.Repaired())
		}
	})
	story(t, "what does not fit is told once, and comes in by itself", func(n *node) {
		n.running()
		n.kernel.look(func() { n.kernel.room = 2 })
		n.service(web("small", 1))
		n.backends("small", "10.0.0.1", "10.0.0.2")
		n.service(web("web", 2))
		n.backends("web", "10.0.0.3")
		n.Pass(time.Second)
		const want = "service shop/web Warning ServiceRefused: node node-1: port http 80/TCP (IPv4) does not fit: " +
			"it needs 1 entries of table backend and 0 are free; make the table larger (key bpf-lb-service-backend-map-max) or remove Services"
		n.wantEvents(want)
		n.backends("web", "10.0.0.3", "10.0.0.4") // needs more now: no news
		n.Pass(time.Minute)
		n.wantEvents()
		s := n.runner.Status()
		if len(s.Refused) != 1 || !strings.HasPrefix(s.Refused[0], "shop/web: port http 80/TCP (IPv4) does not fit: it needs 2 entries") || s.Problem != "" {
			n.Errorf("status %+v", s)
		}
		if p := n.info("web").Ports[0]; p.State != "refused" || p.Refusal == nil || p.Refusal.Table != "backend" || p.Refusal.Needs != 2 {
			n.Errorf("port %+v", p)
		}
		if p := n.info("small").Ports[0]; p.State != "realised" {
			n.Errorf("another port %+v", p)
		}
		n.backends("small")
		n.Pass(2 * time.Second)
		n.wantServed("web", "[10.0.0.3 10.0.0.4]")
		if s := n.runner.Status(); len(s.Refused) > 0 {
			n.Errorf("refused %q", s.Refused)
		}
		n.backends("small", "10.0.0.1")
		n.Pass(2 * time.Second)
		if e := n.cluster.take(); len(e) != 1 || !strings.Contains(e[0], "shop/small Warning ServiceRefused") {
			n.Errorf("events %q", e)
		}
	})
	story(t, "room that appears without a change is seen", func(n *node) {
		n.running()
		n.kernel.look(func() { n.kernel.room = 0 })
		n.service(web("web", 1))
		n.backends("web", "10.0.0.1")
		n.Pass(time.Second)
		if s := n.runner.Status(); len(s.Refused) != 1 {
			n.Errorf("refused %q", s.Refused)
		}
		n.kernel.look(func() {
			n.kernel.room = 1
			n.kernel.admitLocked()
		})
		n.Pass(refusedPoll)
		if s := n.runner.Status(); len(s.Refused) != 0 {
			n.Errorf("refused %q", s.Refused)
		}
	})
}

func TestProblems(t *testing.T) {
	story(t, "two Services with one address", func(n *node) {
		n.running()
		first, second := web("first", 1), web("second", 2)
		first.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
		second.ExternalIPs = first.ExternalIPs
		n.service(first)
		n.service(second)
		n.Pass(time.Second)
		events := n.cluster.take()
		if len(events) != 1 || !strings.HasPrefix(events[0], "service shop/second Warning ServiceProblem: ") || !strings.Contains(events[0], "shop/first") {
			n.Fatalf("events %q", events)
		}
		n.backends("second", "10.0.0.1")
		n.service(web("third", 3))
		n.Pass(time.Hour)
		n.wantEvents()
		if s := n.runner.Status(); len(s.Problems) != 1 || !strings.HasPrefix(s.Problems[0], "shop/second: ") {
			n.Errorf("problems %q", s.Problems)
		}
		if p := n.info("second").Problems; len(p) != 1 {
			n.Errorf("problems %q", p)
		}
		n.Must(n.tables.DeleteService(first.Ref))
		n.Pass(time.Second)
		if got := n.frontends("second", loadbalance.KindExternalIP); got != "[198.51.100.1]" {
			n.Errorf("it is served at %s", got)
		}
		n.service(first) // again
		n.Pass(time.Second)
		n.wantEvents(events...)
	})
	story(t, "many problems of one Service are one event", func(n *node) {
		n.running()
		second := web("second", 9)
		for i := range byte(6) {
			s := web(fmt.Sprint("first-", i), i)
			s.ExternalIPs = []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, i})}
			second.ExternalIPs = append(second.ExternalIPs, s.ExternalIPs...)
			n.service(s)
		}
		few := second
		few.ExternalIPs = second.ExternalIPs[:2]
		n.service(few)
		n.Pass(time.Second)
		if e := n.cluster.take(); len(e) != 1 || !strings.Contains(e[0], "198.51.100.0") || !strings.Contains(e[0], "198.51.100.1") || strings.Contains(e[0], "more") {
			n.Errorf("events %q", e)
		}
		n.service(second)
		n.Pass(time.Second)
		if e := n.cluster.take(); len(e) != 1 || !strings.Contains(e[0], "and 2 more, see 'placid service get shop/second'") {
			n.Errorf("events %q", e)
		}
	})
	story(t, "a burst is told as it ends", func(n *node) {
		n.running()
		first, second := web("first", 1), web("second", 2)
		second.ClusterIPs = first.ClusterIPs
		n.service(first)
		n.service(second)
		n.Must(n.tables.DeleteService(second.Ref))
		n.Pass(time.Second)
		n.wantEvents()
	})
}

// TestHealthPortInUse follows a health check node port that another program has.
func TestHealthPortInUse(t *testing.T) {
	story(t, "told by name, and tried until it works", func(n *node) {
		var tries atomic.Int32
		var free atomic.Bool
		quiet := n.listen
		n.listen = func(port uint16) (net.Listener, error) {
			tries.Add(1)
			if !free.Load() {
				return nil, unix.EADDRINUSE
			}
			return quiet(port)
		}
		n.running()
		s := web("web", 1)
		s.ExternalLocal, s.HealthCheckPort = true, 31000
		s.LoadBalancers = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
		n.service(s)
		n.Pass(time.Second)
		if e := n.cluster.take(); len(e) != 1 || !strings.HasPrefix(e[0], "service shop/web Warning ServiceProblem: spec.healthCheckNodePort: on node node-1: listen on port 31000: address already in use") {
			n.Errorf("events %q", e)
		}
		if h := n.info("web").HealthCheck; h == nil || h.Port != 31000 || !strings.Contains(h.Problem, "31000") {
			n.Errorf("health check %+v", h)
		}
		if len(n.runner.Status().Problems) != 1 || n.runner.Ready() != nil {
			n.Errorf("status %+v", n.runner.Status())
		}
		before := tries.Load()
		n.Pass(10 * listenRetry)
		if again := tries.Load() - before; again < 9 || again > 11 {
			n.Errorf("tried %d times in %v", again, 10*listenRetry)
		}
		before = tries.Load()
		for range 4 { // other changes are no reason to try earlier
			n.backends("web", "10.0.0.1")
			n.Pass(listenRetry / 10)
			n.backends("web", "10.0.0.2")
			n.Pass(listenRetry / 10)
		}
		if again := tries.Load() - before; again > 1 {
			n.Errorf("tried %d times in less than %v", again, listenRetry)
		}
		free.Store(true)
		n.Pass(listenRetry)
		if h := n.info("web").HealthCheck; h == nil || h.Problem != "" || len(n.runner.Status().Problems) > 0 {
			n.Errorf("health check %+v", h)
		}
		n.wantEvents()
		before = tries.Load()
		n.Pass(time.Minute)
		if tries.Load() != before {
			n.Error("a port that is open is opened again")
		}
	})
}
