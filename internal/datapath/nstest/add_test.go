package nstest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/state"
)

// devices lists the node's devices whose names begin with prefix, sorted.
func (n *node) devices(t testing.TB, prefix string) []string {
	t.Helper()
	links, err := n.Handle(t).LinkList()
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return n.devices(t, prefix)
	}
	must(t, err)
	var out []string
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, prefix) {
			out = append(out, fmt.Sprintf("%s %d mtu %d", l.Attrs().Name, l.Attrs().Index, l.Attrs().MTU))
		}
	}
	slices.Sort(out)
	return out
}

// TestManyPodsAtOnce adds and removes pods together.
func TestManyPodsAtOnce(t *testing.T) {
	c := newCluster(t, options{})
	n := c.nodes[0]
	n.start(t)
	n.settle(t)
	const count = 8
	var wg sync.WaitGroup
	pods := make([]*pod, count)
	errs := make([]error, count)
	for i := range pods {
		pods[i] = n.newPod(t)
	}
	for i, p := range pods {
		wg.Go(func() { errs[i] = n.rpc.Call("Node.Connect", ConnectArgs{Endpoint: p.ep}, &p.ep) })
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	n.pods = pods
	for _, p := range pods {
		n.must(t, "Check", p.ep)
		ping(t, pods[0].Netns, p.addr(true), 56)
	}
	n.settle(t)
	for i, p := range pods {
		wg.Go(func() { errs[i] = n.rpc.Call("Node.Disconnect", p.ep, &None{}) })
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	n.pods = nil
	n.settle(t)
	if got := n.devices(t, pair.HostPrefix); len(got) > 0 {
		t.Errorf("after all DELs these are left: %v", got)
	}
	n.quiet(t)
}

// TestHalfMade ends an ADD in its middle, by an error and by SIGKILL: nothing
// of it stays, and the next ADD of the same pod works.
func TestHalfMade(t *testing.T) {
	c := newCluster(t, options{})
	n := c.nodes[0]
	n.start(t)
	n.settle(t)
	other := n.addPod(t)
	n.settle(t)
	p := n.newPod(t)
	noTrace := func(t *testing.T) {
		t.Helper()
		waitFor(t, "the half-made pair to go", func() bool {
			_, err := p.Run(t, "ip", "link", "show", "eth0")
			return err != nil && len(n.devices(t, pair.HostPrefix)) == len(n.pods)
		})
		for _, addr := range p.ep.Addrs() {
			out, _ := n.Run(t, "ip", "route", "show", netip.PrefixFrom(addr, addr.BitLen()).String())
			if out != "" {
				t.Errorf("a route is left: %s", out)
			}
		}
		n.settle(t)
	}
	t.Run("its record fails", func(t *testing.T) {
		err := n.rpc.Call("Node.Connect", ConnectArgs{Endpoint: p.ep, FailRecord: true}, &state.Endpoint{})
		if err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("Connect says %v", err)
		}
		noTrace(t)
	})
	t.Run("its interface's name is taken", func(t *testing.T) {
		ep := p.ep
		ep.Attachment.IfName = "lo"
		err := n.rpc.Call("Node.Connect", ConnectArgs{Endpoint: ep}, &state.Endpoint{})
		if err == nil || !strings.Contains(err.Error(), pair.ErrIfNameTaken.Error()) {
			t.Errorf("Connect says %v", err)
		}
		noTrace(t)
	})
	t.Run("its sandbox is gone", func(t *testing.T) {
		ep := p.ep
		ep.Netns = "/run/netns/no-such-sandbox"
		err := n.rpc.Call("Node.Connect", ConnectArgs{Endpoint: ep}, &state.Endpoint{})
		if err == nil || !strings.Contains(err.Error(), ep.Netns) {
			t.Errorf("Connect says %v", err)
		}
		noTrace(t)
	})
	t.Run("killed", func(t *testing.T) {
		l := startLoad(t, n.Netns, other.Netns, other.addr(false))
		if err := n.rpc.Call("Node.Connect", ConnectArgs{Endpoint: p.ep, KillAt: killAtRecord}, &state.Endpoint{}); err == nil {
			t.Error("the process lives")
		}
		p.MustRun(t, "ip", "link", "show", "eth0") // half-made indeed
		n.restart(t)
		noTrace(t)
		l.stop(t, 0)
	})
	n.connect(t, p)
	ping(t, p.Netns, other.addr(true), 56)
	n.must(t, "Check", other.ep)
	t.Run("a sandbox that ends takes its interface along", func(t *testing.T) {
		p.Remove(t)
		waitFor(t, "the interface to go", func() bool {
			return !slices.ContainsFunc(n.devices(t, pair.HostPrefix), func(s string) bool { return strings.HasPrefix(s, p.ep.HostIfName) })
		})
		n.delPod(t, p)
		noTraceOf(t, n, p)
	})
}

// noTraceOf looks for what a DEL should have removed.
func noTraceOf(t testing.TB, n *node, p *pod) {
	t.Helper()
	n.settle(t)
	for _, c := range n.status(t).Controllers {
		if c.Failing > 0 {
			t.Errorf("%+v", c)
		}
	}
	out := n.MustRun(t, "ip", "neigh", "show", "nud", "permanent") + n.MustRun(t, "ip", "-6", "route") + n.MustRun(t, "ip", "route")
	for _, addr := range p.ep.Addrs() {
		if strings.Contains(out, addr.String()+" ") {
			t.Errorf("%s is still known:\n%s", addr, out)
		}
	}
}
