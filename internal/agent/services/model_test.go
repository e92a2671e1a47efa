package services

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// TestModel lets things happen in random order, with a kernel that fails at times
// and an agent that is restarted, and compares what the kernel has in the end
// with what a fresh compiler makes of the tables.
func TestModel(t *testing.T) {
	for seed := range uint64(150) {
		story(t, fmt.Sprint("seed ", seed), func(n *node) {
			rng := rand.New(rand.NewPCG(seed, 4))
			n.running()
			for range 40 {
				n.happen(rng)
			}
			n.kernel.look(func() { n.kernel.fail = false })
			n.Pass(2 * retryMax)
			n.equalsFresh()
		})
	}
}

// happen is one event.
func (n *node) happen(rng *rand.Rand) {
	n.Helper()
	name := fmt.Sprint("web-", rng.IntN(5))
	switch rng.IntN(12) {
	case 0:
		n.Must(n.tables.DeleteService(ref(name)))
	case 1:
		n.Must(n.tables.DeleteSlice(ns, name+"-1"))
	case 2, 3:
		s := web(name, byte(rng.IntN(3)))
		s.Ports[0].NodePort = uint16(30000 + rng.IntN(3))
		s.ExternalLocal = rng.IntN(2) == 0
		n.Must(n.tables.UpsertService(s))
	case 4:
		n.Must(n.tables.DeleteEndpoint(uint32(1 + rng.IntN(4))))
	case 5:
		id := uint32(1 + rng.IntN(4))
		n.Must(n.tables.UpsertEndpoint(state.Endpoint{
			ID: id, Attachment: state.AttachmentID{ContainerID: fmt.Sprint(id), IfName: "eth0"}, Pod: state.PodRef{Namespace: ns, Name: fmt.Sprint("pod-", id)},
			IPv4: netip.AddrFrom4([4]byte{10, 0, 9, byte(id)}), HostPorts: []state.HostPort{{Protocol: state.ProtocolTCP, HostPort: uint16(30000 + rng.IntN(3)), ContainerPort: 1}},
		}))
	case 6:
		n.kernel.look(func() { n.kernel.fail = rng.IntN(2) == 0 })
	case 7:
		n.kernel.move("192.0.2.1", fmt.Sprint("192.0.2.", 2+rng.IntN(2)))
	case 8:
		n.restartModel()
	case 9:
		n.Pass(time.Duration(rng.IntN(2000)) * time.Millisecond)
	default:
		var addrs []string
		for range rng.IntN(4) {
			addrs = append(addrs, fmt.Sprint("10.0.0.", 1+rng.IntN(9)))
		}
		n.Must(n.tables.UpsertSlice(slice(name, addrs...)))
	}
	if rng.IntN(2) == 0 {
		synctest.Wait()
	}
}

// restartModel restarts the agent; its tables fill while it runs.
func (n *node) restartModel() {
	n.Helper()
	endpoints, _, err := n.tables.Endpoints()
	n.Must(err)
	n.restart()
	for _, ep := range endpoints {
		n.Must(n.tables.UpsertEndpoint(ep))
	}
	n.sync()
}

// equalsFresh compares the kernel with a compiler that sees the tables for the
// first time.
func (n *node) equalsFresh() {
	n.Helper()
	engine, err := loadbalance.New(compiler())
	n.Must(err)
	nodes, _, err := n.tables.Nodes()
	n.Must(err)
	engine.SetNode(loadbalance.Node{Name: here, Zone: "a", Addrs: n.kernel.node, Nodes: nodes[0].Addrs})
	services, _, err := n.tables.Services()
	n.Must(err)
	for i := range services {
		engine.UpsertService(&services[i])
	}
	all, _, err := n.tables.Slices()
	n.Must(err)
	for i := range all {
		engine.UpsertSlice(&all[i])
	}
	endpoints, _, err := n.tables.Endpoints()
	n.Must(err)
	for _, ep := range endpoints {
		engine.SetHostPorts(refOf(ep.Pod), ep.Addrs(), ep.CreatedAt, ep.HostPorts)
	}
	want := map[string]string{}
	frontends, backends := 0, 0
	for _, p := range engine.Ports() {
		want[fmt.Sprint(p.Key)] = fmt.Sprint(p)
		frontends += len(p.Frontends)
		backends += countBackends(p)
	}
	got := map[string]string{}
	var addresses []netip.Addr
	n.kernel.look(func() {
		for key, p := range n.kernel.ports {
			got[fmt.Sprint(key)] = fmt.Sprint(p)
		}
		for a := range n.kernel.addresses {
			addresses = append(addresses, a)
		}
	})
	same(n, "ports", got, want)
	slices.SortFunc(addresses, netip.Addr.Compare)
	if !slices.Equal(addresses, engine.Addresses()) {
		n.Errorf("addresses %v, want %v", addresses, engine.Addresses())
	}
	if s := n.runner.Status(); s.Ports != len(want) || s.Frontends != frontends || s.Backends != backends || s.Problem != "" {
		n.Errorf("status %+v, want %d ports, %d frontends, %d backends", s, len(want), frontends, backends)
	}
	for _, i := range n.infos("") {
		for _, p := range i.Ports {
			if p.State != "realised" {
				n.Errorf("%s: %+v", i.Service, p)
			}
		}
	}
}
