package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/resize"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// agentProcess is the agent of this moment.
type agentProcess struct {
	program string
	spec    AgentSpec
	cmd     *exec.Cmd
	rpc     *rpc.Client
}

func newAgent(size uint32) *agentProcess {
	var backends []loadbalance.Backend
	var ports []loadbalance.Port
	add := func(protocol state.Protocol, port uint16) {
		backends = nil
		for _, a := range serverAddrs {
			backends = append(backends, loadbalance.Backend{Addr: netip.AddrPortFrom(a, port)})
		}
		ports = append(ports, loadbalance.Port{
			Key: loadbalance.PortKey{Service: state.ServiceRef{Namespace: "torture", Name: "echo"}, Name: fmt.Sprintf("p%d", port), Protocol: protocol, Port: port},
			Frontends: []loadbalance.Frontend{
				{Addr: netip.AddrPortFrom(serviceAddr, port), Kind: loadbalance.KindClusterIP, Cluster: loadbalance.ReachAll},
			},
			All: backends,
		})
	}
	for i := range tcpPorts {
		add(state.ProtocolTCP, uint16(tcpPort+i))
	}
	add(state.ProtocolUDP, queryPort)
	return &agentProcess{program: ownProgram, spec: AgentSpec{
		Config: datapath.Config{
			NodeName: "node", BPFRoot: bpffs, IPv4: true, AutoDirectRoutes: true, Devices: []string{device},
			ReconcileInterval: 10 * time.Second, CTSchedule: conntrack.Schedule{Fixed: 10 * time.Second},
			Tables: datapath.TableSizes{TCP: size, Any: size, Embryonic: size, Affinity: size / 8, Service: size / 8, Backend: size / 8, Policy: size / 8},
			Services: datapath.ServiceConfig{
				Enabled: true, Reject: true, MaglevSize: loadbalance.DefaultMaglevSize, NodePortFirst: 30000, NodePortLast: 32767,
			},
			Masquerade: datapath.MasqueradeConfig{IPv4: true, Native: []netip.Prefix{podRange}},
		},
		Node:  state.Node{Name: "node", Addrs: []netip.Addr{nodeAddr}, PodCIDRs: []netip.Prefix{podRange}},
		Ports: ports, Addresses: []netip.Addr{serviceAddr},
	}}
}

// start begins an agent's life.
func (a *agentProcess) start() error {
	a.cmd = exec.Command(a.program)
	a.cmd.Env = append(os.Environ(), roleEnv+"=agent")
	a.cmd.Stderr = os.Stderr
	a.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	in, err := a.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := a.cmd.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	a.rpc = jsonrpc.NewClient(struct {
		stdio
	}{stdio{out, in}})
	return a.call("Start", a.spec, &None{})
}

func (a *agentProcess) call(method string, args, out any) error {
	if err := a.rpc.Call("Agent."+method, args, out); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// kill ends it at once.
func (a *agentProcess) kill() {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
	_ = a.rpc.Close()
}

// connect gives a pod its interface; who is isolated gets answers only.
func (a *agentProcess) connect(s *space, addr netip.Addr, isolated bool) error {
	id := uint32(len(a.spec.Endpoints) + 1)
	ep := state.Endpoint{
		ID: id, Netns: s.path(), IPv4: addr, Attachment: state.AttachmentID{ContainerID: fmt.Sprintf("torture-%d", id), IfName: device},
		CreatedAt: time.Now().UTC(),
	}
	if err := a.call("Connect", ep, &ep); err != nil {
		return err
	}
	a.spec.Endpoints = append(a.spec.Endpoints, ep)
	if isolated {
		return a.call("Isolate", id, &None{})
	}
	return nil
}

// mover resizes one table after the other.
type mover struct {
	agent  *agentProcess
	maps   map[string]*ebpf.Map // outer ones
	base   map[string]uint32
	random *rand.Rand
	next   int
	took   map[string]time.Duration // of the last move of a table
	report moves
}

// moves is what a mover did.
type moves struct {
	Done     int           `json:"done"`
	Entries  uint64        `json:"entries"` // that were moved
	Kills    int           `json:"kills"`
	HalfWay  int           `json:"halfWay"` // kills that left an old table
	Finished int           `json:"finished"`
	Back     int           `json:"back"`    // moves that left no trace when the agent was killed
	Refused  int           `json:"refused"` // as the entries would have no room
	Longest  time.Duration `json:"longest"`
	Problems []string      `json:"problems,omitempty"`
	Spans    []moveSpan    `json:"spans"`
}

// moveSpan is when one table moved, for the plot.
type moveSpan struct {
	span
	Map string `json:"map"`
}

// tablesToMove are moved in turns.
func tablesToMove() []string {
	return []string{
		datapath.CTTCPMap, datapath.CTAnyMap, datapath.CTNewMap, datapath.BackendMap, datapath.FrontendMap, datapath.AffinityMap, datapath.PolicyMap,
		datapath.EndpointMap,
	}
}

// factors of a table's first size, one after the other: ×2, ×4, ÷2 and back.
func factors() []uint32 { return []uint32{2, 8, 4, 1} }

func newMover(agent *agentProcess, o options) (*mover, error) {
	m := &mover{
		agent: agent, maps: map[string]*ebpf.Map{}, base: map[string]uint32{}, took: map[string]time.Duration{},
		random: rand.New(rand.NewPCG(o.Seed, 1)),
	}
	if err := m.reopen(); err != nil {
		return nil, err
	}
	for _, name := range tablesToMove() {
		t, err := currentOf(m.maps[name])
		if err != nil {
			return nil, err
		}
		m.base[name] = t.MaxEntries()
		if err := t.Close(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// reopen finds the maps, which a change of layout makes anew.
func (m *mover) reopen() error {
	for _, name := range tablesToMove() {
		now, err := openMap(name)
		if err != nil {
			return err
		}
		if err := m.maps[name].Close(); err != nil {
			return err
		}
		m.maps[name] = now
	}
	return nil
}

func openMap(name string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(pins, name), nil)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return m, nil
}

// pins is the folder of the agent's maps.
var pins = filepath.Join(bpffs, loader.Folder, "maps")

// currentOf opens the table that programs use.
func currentOf(outer *ebpf.Map) (*ebpf.Map, error) {
	var id ebpf.MapID
	if err := outer.Lookup(uint32(abi.CTableSlotTABLE_CURRENT), &id); err != nil {
		return nil, fmt.Errorf("find the table: %w", err)
	}
	return ebpf.NewMapFromID(id)
}

func (m *mover) moving(name string) bool {
	var id ebpf.MapID
	return m.maps[name].Lookup(uint32(abi.CTableSlotTABLE_OLD), &id) == nil
}

// move makes the next move. With kills the agent may be killed meanwhile.
func (m *mover) move(kills bool) error {
	names := tablesToMove()
	name := names[m.next%len(names)]
	size := m.base[name] * factors()[m.next/len(names)%len(factors())]
	m.next++
	began := time.Now()
	ended := make(chan error, 1)
	var move resize.Move
	go func() { ended <- m.agent.call("Resize", ResizeArgs{name, size}, &move) }()
	var fatal <-chan struct{}
	if kills && m.random.IntN(killOdds(name)) == 0 {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		fatal = m.moment(ctx, name)
	}
	select {
	case err := <-ended:
		m.took[name] = time.Since(began)
		m.report.Longest = max(m.report.Longest, m.took[name])
		switch {
		case err == nil:
			m.report.Done, m.report.Entries = m.report.Done+1, m.report.Entries+move.Moved
		case strings.Contains(err.Error(), resize.ErrEntries.Error()):
			m.report.Refused++
		default:
			m.report.Problems = append(m.report.Problems, fmt.Sprintf("%s to %d: %v", name, size, err))
		}
	case <-fatal:
		if err := m.killed(name, size, ended); err != nil {
			return err
		}
	}
	m.report.Spans = append(m.report.Spans, moveSpan{span{began, time.Now()}, name})
	return nil
}

// moment is when to kill the agent: at a random time of the move, or of what comes
// after the new table is in place.
func (m *mover) moment(ctx context.Context, name string) <-chan struct{} {
	out := make(chan struct{})
	early := m.random.IntN(3) == 0
	wait := time.Duration(m.random.Int64N(int64(m.took[name] + time.Millisecond)))
	go func() {
		for !early && !m.moving(name) && ctx.Err() == nil {
			time.Sleep(100 * time.Microsecond)
		}
		if !early {
			wait /= 8
		}
		if rest(ctx, wait) == nil {
			close(out)
		}
	}()
	return out
}

// killOdds is one in how many moves of a table the agent is killed during. Those of
// flows take longest.
func killOdds(name string) int {
	if strings.HasPrefix(name, "ct_") {
		return 2
	}
	return 6
}

// settleTimeout bounds how long an agent may take to end what an earlier one began.
const settleTimeout = 2 * time.Minute

// killed kills the agent during a move, starts the next one, and waits until that
// has ended the move.
func (m *mover) killed(name string, size uint32, ended <-chan error) error {
	m.agent.kill()
	if err := <-ended; err == nil {
		m.report.Done++ // a moment before
	}
	m.report.Kills++
	if m.moving(name) {
		m.report.HalfWay++
	}
	if err := m.agent.start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(settleTimeout); m.moving(name); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is still moving %s after its agent was killed", name, settleTimeout)
		}
	}
	t, err := currentOf(m.maps[name])
	if err != nil {
		return err
	}
	if t.MaxEntries() == size {
		m.report.Finished++
	} else {
		m.report.Back++
	}
	return t.Close()
}
