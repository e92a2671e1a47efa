package nstest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

// deniedTimeout is how long a connection that policy forbids is tried.
const deniedTimeout = 300 * time.Millisecond

// be gives a pod an identity, on its node and as the others know it.
func (p *pod) be(t testing.TB, identity uint32) {
	t.Helper()
	p.node.must(t, "SetIdentity", IdentityArgs{p.ep.ID, identity})
	for _, n := range p.node.cluster.nodes {
		if n == p.node {
			continue
		}
		// There are two nodes: what this one hears is of the other alone.
		if n.published == nil {
			n.published = []state.NodeEndpoints{{Node: p.node.row.Name}}
		}
		row := &n.published[0]
		row.Endpoints = append(row.Endpoints, state.PublishedEndpoint{
			Pod: p.ep.Pod, Addrs: []netip.Addr{p.ep.IPv4, p.ep.IPv6}, Identity: identity,
		})
		n.must(t, "SetPublished", *row)
		table := n.table(t, datapath.IdentityMap)
		for _, a := range row.Endpoints[len(row.Endpoints)-1].Addrs {
			waitFor(t, "the identity of "+a.String()+" on "+n.row.Name, func() bool {
				var value abi.CIdentityEntry
				return table.Lookup(abi.CIdentityKey{Addr: netorder.Addr(a)}, &value) == nil && value.Identity == identity
			})
		}
	}
}

// isolate lets only peers with these identities reach the pod.
func (p *pod) isolate(t testing.TB, allowed ...uint32) {
	t.Helper()
	p.node.must(t, "SetIngress", IngressArgs{p.ep.ID, policy.SetID(1000 + p.ep.ID), allowed})
}

// reaches opens a connection, which should be allowed or forbidden.
func reaches(t testing.TB, from *testutil.Netns, server netip.AddrPort, want bool) error {
	t.Helper()
	timeout := ioTimeout
	if !want {
		timeout = deniedTimeout
	}
	var err error
	from.Do(t, func() {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", server.String(), timeout); err == nil {
			conn.Close()
		}
	})
	if netErr, ok := errors.AsType[net.Error](err); want && err == nil || !want && ok && netErr.Timeout() {
		return nil
	}
	return fmt.Errorf("connection from %s to %s: error %w, want it to be allowed: %t", from.Name, server, err, want)
}

// stage is a cluster in which each of the paths of everyPath is allowed by an
// isolated pod's set, and others are not.
type stage struct {
	*cluster
	a, b, far, stranger *pod
	servers             map[*pod][2]netip.AddrPort // IPv4, IPv6
}

const (
	identityA uint32 = 1000 + iota
	identityFar
	identityStranger
	identityB
)

func newStage(t *testing.T, o options) *stage {
	t.Helper()
	c := newCluster(t, o)
	c.start(t)
	s := &stage{cluster: c, a: c.nodes[0].addPod(t), b: c.nodes[0].addPod(t), stranger: c.nodes[0].addPod(t), far: c.nodes[1].addPod(t)}
	s.far.be(t, identityFar)
	s.stranger.be(t, identityStranger)
	s.b.be(t, identityB)
	s.a.be(t, identityA)
	s.servers = map[*pod][2]netip.AddrPort{}
	for _, p := range []*pod{s.a, s.b, s.far} {
		s.servers[p] = [2]netip.AddrPort{serveTCP(t, p.Netns, p.ep.IPv4), serveTCP(t, p.Netns, p.ep.IPv6)}
	}
	s.a.isolate(t, identityFar)
	s.b.isolate(t, identityA)
	s.far.isolate(t, identityA)
	return s
}

// verdicts checks what is allowed and what is not, all at once.
func (s *stage) verdicts(t *testing.T) {
	t.Helper()
	ways := []struct {
		from *testutil.Netns
		to   *pod
		want bool
	}{
		{s.a.Netns, s.b, true},
		{s.a.Netns, s.far, true},
		{s.far.Netns, s.a, true},
		{s.nodes[0].Netns, s.a, true}, // its own node
		{s.nodes[1].Netns, s.a, false},
		{s.stranger.Netns, s.a, false},
		{s.stranger.Netns, s.b, false},
		{s.stranger.Netns, s.far, false},
		{s.b.Netns, s.a, false},
		{s.far.Netns, s.b, false},
		{s.outside, s.a, false},
	}
	errs := make([]error, 2*len(ways))
	var all sync.WaitGroup
	for i := range errs {
		w := ways[i/2]
		all.Go(func() { errs[i] = reaches(t, w.from, s.servers[w.to][i%2], w.want) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// TestRestartKeepsVerdicts kills both nodes' processes and starts them again
// without telling them of any policy: what the kernel holds is in force before,
// between and after, and no flow is lost.
func TestRestartKeepsVerdicts(t *testing.T) {
	for _, tunnel := range []bool{false, true} {
		t.Run(fmt.Sprintf("tunnel %t", tunnel), func(t *testing.T) {
			s := newStage(t, options{tunnel: tunnel})
			s.verdicts(t)
			loads := s.everyPath(t, s.a, s.b, s.far)
			for _, n := range s.nodes {
				n.kill(t)
			}
			s.verdicts(t)
			for _, n := range s.nodes {
				n.open(t)
			}
			s.verdicts(t)
			for _, n := range s.nodes {
				n.waitReady(t)
			}
			s.verdicts(t)
			time.Sleep(auditInterval + auditInterval/2) // audits leave it alone
			s.verdicts(t)
			for _, l := range loads {
				l.stop(t, 0)
			}
		})
	}
}

// TestEpochUnderLoad has all flows judged again, again and again, while they
// carry data in both directions: nothing is lost, and nothing denied.
func TestEpochUnderLoad(t *testing.T) {
	for _, tunnel := range []bool{false, true} {
		t.Run(fmt.Sprintf("tunnel %t", tunnel), func(t *testing.T) {
			s := newStage(t, options{tunnel: tunnel})
			before := s.denied(t)
			loads := s.everyPath(t, s.a, s.b, s.far)
			for range 150 {
				for _, n := range s.nodes {
					n.must(t, "Revoke", None{})
				}
				time.Sleep(5 * time.Millisecond)
			}
			for _, l := range loads {
				l.stop(t, 0)
			}
			if n := s.denied(t) - before; n > 0 {
				t.Errorf("%d packets of allowed flows were denied", n)
			}
		})
	}
}

// denied is how many packets policy dropped on both nodes.
func (s *stage) denied(t testing.TB) uint64 {
	t.Helper()
	var sum uint64
	for _, n := range s.nodes {
		for key, packets := range n.counts(t) {
			if _, reason, _ := strings.Cut(key, " "); reason == "Policy denied" {
				sum += packets
			}
		}
	}
	return sum
}
