package nstest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/testutil"
)

// load is traffic that must not notice anything: a TCP stream whose data is
// checked, and 100 echo requests a second.
type load struct {
	name  string
	conn  net.Conn
	moved atomic.Int64 // bytes that came back
	end   chan struct{}
	done  chan error
	ping  *exec.Cmd
	out   *syncBuffer
}

var pingSummary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// startLoad starts traffic between two namespaces.
func startLoad(t testing.TB, from, to *testutil.Netns, addr netip.Addr) *load {
	t.Helper()
	l := &load{
		name: from.Name + " to " + addr.String(), out: &syncBuffer{},
		end: make(chan struct{}), done: make(chan error, 1),
	}
	l.conn = dialTCP(t, from, serveTCP(t, to, addr))
	go func() { l.done <- l.stream() }()
	l.ping = exec.Command("ping", "-n", "-q", "-i", "0.01", "-W", "2", addr.String())
	l.ping.Stdout, l.ping.Stderr = l.out, l.out
	from.Start(t, l.ping)
	t.Cleanup(func() { _ = l.ping.Process.Kill() })
	return l
}

// stream sends blocks and compares their echoes until the load ends.
func (l *load) stream() error {
	block, back := make([]byte, 32<<10), make([]byte, 32<<10)
	for i := uint64(0); ; i++ {
		select {
		case <-l.end:
			return l.conn.Close()
		default:
		}
		fill(block, i)
		if err := l.conn.SetDeadline(time.Now().Add(ioTimeout)); err != nil {
			return err
		}
		if _, err := l.conn.Write(block); err != nil {
			return err
		}
		if _, err := io.ReadFull(l.conn, back); err != nil {
			return err
		}
		if string(back) != string(block) {
			return errors.New("the data that came back differs")
		}
		l.moved.Add(int64(len(block)))
		time.Sleep(time.Millisecond) // the machine is shared
	}
}

// stop ends the traffic and fails the test if the stream broke or more echoes
// were lost than may be.
func (l *load) stop(t testing.TB, mayLose int) {
	t.Helper()
	close(l.end)
	if err := <-l.done; err != nil {
		t.Errorf("TCP stream from %s: %v", l.name, err)
	}
	if l.moved.Load() == 0 {
		t.Errorf("TCP stream from %s carried nothing", l.name)
	}
	time.Sleep(100 * time.Millisecond) // the last echoes
	_ = l.ping.Process.Signal(syscall.SIGINT)
	_ = l.ping.Wait()
	m := pingSummary.FindStringSubmatch(l.out.String())
	if m == nil {
		t.Fatalf("ping from %s said:\n%s", l.name, l.out)
	}
	sent, _ := strconv.Atoi(m[1])
	received, _ := strconv.Atoi(m[2])
	// The last one may still be under way.
	if sent < 20 || received < sent-1-mayLose || mayLose == 0 && strings.Contains(l.out.String(), "error") {
		t.Errorf("ping from %s: %d of %d echoes lost\n%s", l.name, sent-received, sent, l.out)
	}
}

// everyPath starts load on each kind of path that Placid's programs carry.
func (c *cluster) everyPath(t testing.TB, a, b, far *pod) []*load {
	t.Helper()
	var out []*load
	for _, is6 := range []bool{false, true} {
		out = append(out,
			startLoad(t, a.Netns, b.Netns, b.addr(is6)),
			startLoad(t, a.Netns, far.Netns, far.addr(is6)),
			startLoad(t, far.Netns, a.Netns, a.addr(is6)),
			startLoad(t, c.nodes[0].Netns, a.Netns, a.addr(is6)),
			startLoad(t, a.Netns, c.outside, underlayAddr(outsideHost, is6)),
		)
	}
	return out
}

// kernelIDs are the identities of what is pinned, by pin.
func (n *node) kernelIDs(t testing.TB) (links, programs, tables map[string]uint32) {
	t.Helper()
	links, programs, tables = map[string]uint32{}, map[string]uint32{}, map[string]uint32{}
	for _, path := range n.pins(t, "links") {
		l, err := link.LoadPinnedLink(path, nil)
		must(t, err)
		info, err := l.Info()
		must(t, err)
		links[filepath.Base(path)], programs[filepath.Base(path)] = uint32(info.ID), uint32(info.Program)
		must(t, l.Close())
	}
	for _, path := range n.pins(t, "maps") {
		m, err := ebpf.LoadPinnedMap(path, nil)
		must(t, err)
		tables[filepath.Base(path)] = mapID(t, m)
		if m.Type() == ebpf.ArrayOfMaps {
			var id ebpf.MapID
			must(t, m.Lookup(uint32(abi.CTableSlotTABLE_CURRENT), &id))
			tables[filepath.Base(path)+" inner"] = uint32(id)
		}
		must(t, m.Close())
	}
	return links, programs, tables
}

func mapID(t testing.TB, m *ebpf.Map) uint32 {
	t.Helper()
	info, err := m.Info()
	must(t, err)
	id, ok := info.ID()
	if !ok {
		t.Fatal("the kernel does not tell map ids")
	}
	return uint32(id)
}

func (n *node) pins(t testing.TB, folder string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(n.cfg.BPFRoot, loader.Folder, folder, "*"))
	must(t, err)
	return slices.DeleteFunc(paths, func(p string) bool { return strings.HasSuffix(p, ":next") }) // being made
}

// TestKillUnderLoad ends both nodes' processes with SIGKILL and starts them
// again, as they were and with other settings, while traffic flows.
func TestKillUnderLoad(t *testing.T) {
	for _, tc := range []struct {
		name   string
		opts   options
		change func(testing.TB, *node) // before the second start
		// While one node is in another routing mode than the other, packets
		// between them are lost; flows must live through it.
		mayLose int
	}{
		{"native as it was", options{}, nil, 0},
		{"tunnel as it was", options{tunnel: true}, nil, 0},
		{"smaller MTU", options{}, func(_ testing.TB, n *node) { n.cfg.MTU = 1400 }, 0},
		{"unreachable routes", options{}, func(_ testing.TB, n *node) { n.cfg.UnreachableRoutes = true }, 0},
		{"native to tunnel", options{}, func(_ testing.TB, n *node) { n.cfg.Tunnel = true }, 100},
		{"tunnel to native", options{tunnel: true}, func(_ testing.TB, n *node) { n.cfg.Tunnel = false }, 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(t, tc.opts)
			c.start(t)
			a, b, far := c.nodes[0].addPod(t), c.nodes[0].addPod(t), c.nodes[1].addPod(t)
			first := c.nodes[0]
			first.settle(t)
			links, _, tables := first.kernelIDs(t)
			loads := c.everyPath(t, a, b, far)
			time.Sleep(300 * time.Millisecond)
			for _, n := range c.nodes {
				n.kill(t)
			}
			time.Sleep(300 * time.Millisecond) // nobody is there
			for _, n := range c.nodes {
				if tc.change != nil {
					tc.change(t, n)
				}
				n.open(t)
			}
			for _, n := range c.nodes {
				n.waitReady(t)
			}
			time.Sleep(300 * time.Millisecond)
			for _, l := range loads {
				l.stop(t, tc.mayLose)
			}
			first.sameKernel(t, links, tables, tc.change == nil)
			first.quiet(t)
		})
	}
}

// sameKernel compares links and maps with what they were. Those of the overlay
// may change with the settings.
func (n *node) sameKernel(t testing.TB, links, tables map[string]uint32, all bool) {
	t.Helper()
	links2, _, tables2 := n.kernelIDs(t)
	for pin, id := range links {
		got, ok := links2[pin]
		mayGo := !all && strings.HasPrefix(pin, datapath.OverlayDevice)
		if got != id && (ok || !mayGo) {
			t.Errorf("link %s was %d, is %d", pin, id, got)
		}
	}
	for pin, id := range tables {
		if tables2[pin] != id {
			t.Errorf("map %s was %d, is %d", pin, id, tables2[pin])
		}
	}
}

// quiet lets an audit pass and checks that none found anything to do.
func (n *node) quiet(t testing.TB) {
	t.Helper()
	time.Sleep(auditInterval + auditInterval/2)
	for _, c := range n.status(t).Controllers {
		if c.Repaired != 0 || c.Failing != 0 || c.LastError != "" {
			t.Errorf("%s should have found nothing to mend: %+v", c.Name, c)
		}
	}
}

// TestIncompatibleMap starts a node whose pinned endpoint map has another
// layout, as after an upgrade: the programs that run go on with theirs until
// the new ones, with a new and full map, take over.
func TestIncompatibleMap(t *testing.T) {
	c := newCluster(t, options{})
	c.start(t)
	n := c.nodes[0]
	a, b, far := n.addPod(t), n.addPod(t), c.nodes[1].addPod(t)
	n.settle(t)
	links, _, tables := n.kernelIDs(t)
	loads := c.everyPath(t, a, b, far)
	n.kill(t)

	pin := filepath.Join(n.cfg.BPFRoot, loader.Folder, "maps", datapath.EndpointMap)
	must(t, os.Remove(pin))
	inner := &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 16, ValueSize: 64, MaxEntries: 16384}
	old, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 2, InnerMap: inner})
	must(t, err)
	defer old.Close()
	table, err := ebpf.NewMap(inner)
	must(t, err)
	defer table.Close()
	must(t, old.Put(uint32(abi.CTableSlotTABLE_CURRENT), table))
	must(t, old.Pin(pin))

	n.start(t)
	time.Sleep(300 * time.Millisecond)
	for _, l := range loads {
		l.stop(t, 0)
	}
	_, _, tables2 := n.kernelIDs(t)
	if got := tables2[datapath.EndpointMap]; got == tables[datapath.EndpointMap] || got == mapID(t, old) {
		t.Errorf("%s has id %d, want a new map", datapath.EndpointMap, got)
	}
	for _, name := range []string{datapath.EndpointMap, datapath.EndpointMap + " inner"} {
		delete(tables, name)
	}
	n.sameKernel(t, links, tables, true)
	n.must(t, "Check", a.ep)
	n.quiet(t)
}

// TestDeadSandbox starts a node one of whose pods ended at that moment: its
// device is gone, but nobody knows yet. The others must not wait for it.
func TestDeadSandbox(t *testing.T) {
	c := newCluster(t, options{})
	n := c.nodes[0]
	n.start(t)
	a, dead := n.addPod(t), n.addPod(t)
	n.kill(t)
	dead.Remove(t)
	waitFor(t, "the interface to go", func() bool { return len(n.devices(t, dead.ep.HostIfName)) == 0 })
	n.start(t)
	ping(t, n.Netns, a.addr(false), 56)
	if c := n.controller(t, "interfaces"); c.Failing != 1 || !strings.Contains(c.LastError, dead.ep.HostIfName) {
		t.Errorf("the missing device is not reported: %+v", c)
	}
	n.delPod(t, dead)
	noTraceOf(t, n, dead)
}

// TestNodes adds a node and takes it away again.
func TestNodes(t *testing.T) {
	for _, tunnel := range []bool{false, true} {
		t.Run(fmt.Sprintf("tunnel %t", tunnel), func(t *testing.T) {
			c := newCluster(t, options{tunnel: tunnel})
			second := c.nodes[1]
			c.nodes = c.nodes[:1]
			n := c.nodes[0]
			n.start(t)
			routes := func() string {
				return n.MustRun(t, "ip", "route", "show", "proto", "80") + n.MustRun(t, "ip", "-6", "route", "show", "proto", "80")
			}
			alone := routes()
			n.must(t, "SetNode", second.row)
			for _, p := range second.row.PodCIDRs {
				waitFor(t, "a route to "+p.String(), func() bool { return strings.Contains(routes(), p.String()) })
			}
			dump := agentapi.MapDump{}
			n.call(t, "MapDump", "ipcache", &dump)
			if len(dump.Rows) != 4 {
				t.Errorf("ipcache is %v, want two pod CIDRs and two addresses", dump.Rows)
			}
			if peers := n.status(t).Nodes; len(peers) != 1 || peers[0].Problem != "" || (peers[0].Route == "tunnel") != tunnel {
				t.Errorf("peers are %+v", peers)
			}
			before := n.status(t).Controllers
			n.must(t, "DeleteNode", second.row.Name)
			waitFor(t, "its routes to go", func() bool { return routes() == alone })
			n.quietSince(t, before)
			n.call(t, "MapDump", "ipcache", &dump)
			if len(dump.Rows) != 0 {
				t.Errorf("ipcache still has %v", dump.Rows)
			}
		})
	}
}

// TestWithoutAPIServer starts nodes that do not know the other nodes yet.
func TestWithoutAPIServer(t *testing.T) {
	for _, tunnel := range []bool{false, true} {
		t.Run(fmt.Sprintf("tunnel %t", tunnel), func(t *testing.T) {
			c := newCluster(t, options{tunnel: tunnel})
			n := c.nodes[0]
			c.nodes[1].start(t)
			must(t, n.tryOpen(t, nil, true))
			time.Sleep(500 * time.Millisecond)
			for _, ctl := range n.status(t).Controllers {
				if ctl.Name == "ipcache" && !ctl.LastSuccess.IsZero() {
					t.Error("a new node filled the ipcache before it knew the nodes")
				}
			}
			n.must(t, "ReleaseNodes", None{})
			n.waitReady(t)

			a, far := n.addPod(t), c.nodes[1].addPod(t)
			l := startLoad(t, a.Netns, far.Netns, far.addr(false))
			n.kill(t)
			must(t, n.tryOpen(t, nil, true))
			n.must(t, "Attached", None{})
			time.Sleep(auditInterval + auditInterval/2) // audits leave the other nodes' rows alone
			b := n.addPod(t)
			ping(t, b.Netns, far.addr(true), 56)
			n.must(t, "ReleaseNodes", None{})
			n.waitReady(t)
			l.stop(t, 0)
		})
	}
}

// settle waits until every pod has its link, and nobody else one.
func (n *node) settle(t testing.TB) {
	t.Helper()
	waitFor(t, "one link a pod", func() bool {
		return strings.Count(strings.Join(n.pins(t, "links"), "\n"), "plc") == len(n.pods)
	})
}

// waitFor polls for at most a few seconds.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(callTimeout)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", callTimeout, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
