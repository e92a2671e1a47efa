package nstest

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

// node is one simulated node: a namespace, a BPF file system, what its agent
// would remember, and the process that runs its datapath, if any.
type node struct {
	*testutil.Netns
	row     state.Node
	cfg     datapath.Config
	cluster *cluster
	pods    []*pod
	// published is what this node knows of the endpoints of others.
	published []state.NodeEndpoints

	cmd *exec.Cmd
	rpc *rpc.Client
	log *syncBuffer
}

// pod is one simulated pod.
type pod struct {
	*testutil.Netns
	node *node
	ep   state.Endpoint
}

// syncBuffer collects what a process logs.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// spawn starts the node's process without its datapath, as root unless
// credential says otherwise.
func (n *node) spawn(t testing.TB, credential *syscall.Credential) {
	t.Helper()
	n.cmd = exec.Command("/proc/self/exe")
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	n.cmd.Env = append(os.Environ(), nodeEnv+"=1")
	n.cmd.Stderr = n.log
	in, err := n.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	n.Start(t, n.cmd)
	n.rpc = jsonrpc.NewClient(pipes{out, in})
}

type pipes struct {
	io.ReadCloser
	w io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.w.Write(b) }

func (p pipes) Close() error { return p.w.Close() }

// start runs the datapath of the node and waits until it is ready.
func (n *node) start(t testing.TB) {
	t.Helper()
	n.open(t)
	n.waitReady(t)
}

func (n *node) waitReady(t testing.TB) {
	t.Helper()
	n.must(t, "Attached", None{})
	n.must(t, "Ready", None{})
}

// open starts the process and its datapath.
func (n *node) open(t testing.TB) {
	t.Helper()
	if err := n.tryOpen(t, nil, false); err != nil {
		t.Fatalf("start %s: %v", n.Name, err)
	}
}

func (n *node) tryOpen(t testing.TB, credential *syscall.Credential, holdNodes bool) error {
	t.Helper()
	n.spawn(t, credential)
	args := StartArgs{Config: n.cfg, Nodes: n.cluster.rows(), Published: n.published, Endpoints: n.endpoints(), HoldNodes: holdNodes}
	return n.rpc.Call("Node.Start", args, &None{})
}

func (n *node) endpoints() []state.Endpoint {
	out := []state.Endpoint{}
	for _, p := range n.pods {
		out = append(out, p.ep)
	}
	return out
}

// kill ends the process with SIGKILL; the kernel goes on.
func (n *node) kill(t testing.TB) {
	t.Helper()
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	_ = n.rpc.Close()
	_ = n.cmd.Wait()
	n.cmd = nil
}

// restart kills the process and starts a new one.
func (n *node) restart(t testing.TB) {
	t.Helper()
	n.kill(t)
	n.start(t)
}

func (n *node) call(t testing.TB, method string, args, out any) {
	t.Helper()
	if err := n.rpc.Call("Node."+method, args, out); err != nil {
		t.Fatalf("%s: %s: %v", n.row.Name, method, err)
	}
}

// must is call for methods without a result.
func (n *node) must(t testing.TB, method string, args any) {
	t.Helper()
	n.call(t, method, args, &None{})
}

func (n *node) status(t testing.TB) agentapi.Status {
	t.Helper()
	var s agentapi.Status
	n.call(t, "Status", None{}, &s)
	return s
}

func (n *node) controller(t testing.TB, name string) agentapi.Controller {
	t.Helper()
	all := n.status(t).Controllers
	i := slices.IndexFunc(all, func(c agentapi.Controller) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no controller %q in %+v", name, all)
	}
	return all[i]
}

// counts gives the packets of every counter by "program reason".
func (n *node) counts(t testing.TB) map[string]uint64 {
	t.Helper()
	var all []datapath.Counter
	n.call(t, "Counters", None{}, &all)
	out := map[string]uint64{}
	for _, c := range all {
		out[c.Program+" "+c.Reason] = c.Packets
	}
	return out
}

// podOptions change the default of addPod.
type podOptions func(*state.Endpoint)

// addPod makes a sandbox and gives it an interface.
func (n *node) addPod(t testing.TB, opts ...podOptions) *pod {
	t.Helper()
	p := n.newPod(t, opts...)
	n.connect(t, p)
	return p
}

// newPod makes a sandbox that has no interface yet.
func (n *node) newPod(t testing.TB, opts ...podOptions) *pod {
	t.Helper()
	n.cluster.lastID++
	id := n.cluster.lastID
	ns := testutil.NewNetns(t, "pod")
	p := &pod{Netns: ns, node: n, ep: state.Endpoint{
		ID: uint32(id), Attachment: state.AttachmentID{ContainerID: fmt.Sprintf("c%d", id), IfName: "eth0"},
		Netns: ns.Path, Pod: state.PodRef{Namespace: "test", Name: fmt.Sprintf("pod-%d", id)},
		CreatedAt: time.Now().UTC(),
	}}
	for _, c := range n.row.PodCIDRs {
		a := nth(c, 1+id)
		if a.Is4() {
			p.ep.IPv4 = a
		} else {
			p.ep.IPv6 = a
		}
	}
	for _, o := range opts {
		o(&p.ep)
	}
	return p
}

func (n *node) connect(t testing.TB, p *pod) {
	t.Helper()
	n.call(t, "Connect", ConnectArgs{Endpoint: p.ep}, &p.ep)
	n.pods = append(n.pods, p)
}

// delPod takes the interface of p away; its sandbox stays.
func (n *node) delPod(t testing.TB, p *pod) {
	t.Helper()
	n.must(t, "Disconnect", p.ep)
	n.pods = slices.DeleteFunc(n.pods, func(o *pod) bool { return o == p })
}

// addr gives the pod's address of a family.
func (p *pod) addr(is6 bool) netip.Addr {
	if is6 {
		return p.ep.IPv6
	}
	return p.ep.IPv4
}

// nth is the address i after the first of a prefix.
func nth(p netip.Prefix, i int) netip.Addr {
	b := p.Addr().AsSlice()
	for at := len(b) - 1; i > 0 && at >= 0; at-- {
		i += int(b[at])
		b[at] = byte(i)
		i >>= 8
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// logOnFailure shows what the node's processes said.
func (n *node) logOnFailure(t testing.TB) {
	if t.Failed() {
		t.Logf("%s said:\n%s", n.row.Name, strings.TrimSpace(n.log.String()))
	}
}
