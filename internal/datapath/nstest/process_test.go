package nstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"syscall"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// nodeEnv makes the test binary a node process.
const nodeEnv = "PLACID_NSTEST_NODE"

// callTimeout bounds what a node process waits for.
const callTimeout = 20 * time.Second

// process is what runs inside a node: the datapath, and tables that the test
// fills. Its exported methods are the protocol.
type process struct {
	tables     *state.Tables
	datapath   *datapath.Datapath
	nodesKnown chan struct{}
	ended      chan error
}

// None is the argument or result of methods that have none.
type None struct{}

// StartArgs are what an agent reads from its configuration, its state folder
// and the API server.
type StartArgs struct {
	Config    datapath.Config
	Nodes     []state.Node
	Published []state.NodeEndpoints // by the other nodes
	Endpoints []state.Endpoint
	// HoldNodes leaves the node table incomplete, as without an API server.
	HoldNodes bool
}

type ConnectArgs struct {
	Endpoint state.Endpoint
	// KillAt ends the process with SIGKILL at that point of the ADD.
	KillAt string
	// FailRecord makes the endpoint's record fail.
	FailRecord bool
}

const killAtRecord = "record"

type stdio struct {
	io.Reader
	io.Writer
}

// Close implements io.Closer; the descriptors end with the process.
func (stdio) Close() error { return nil }

// serveNode answers the test until it closes standard input or dies.
func serveNode() error {
	srv := rpc.NewServer()
	if err := srv.RegisterName("Node", &process{}); err != nil {
		return err
	}
	srv.ServeCodec(jsonrpc.NewServerCodec(stdio{os.Stdin, os.Stdout}))
	return nil
}

// Start opens and runs the datapath.
func (p *process) Start(args StartArgs, _ *None) error {
	var err error
	if p.tables, err = state.NewTables(); err != nil {
		return err
	}
	for _, n := range args.Nodes {
		if err := p.tables.UpsertNode(n); err != nil {
			return err
		}
	}
	for _, n := range args.Published {
		if err := p.tables.UpsertNodeEndpoints(n); err != nil {
			return err
		}
	}
	args.Config.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	p.datapath = datapath.New(args.Config, p.tables)
	if err := p.datapath.Open(); err != nil {
		return err
	}
	for _, ep := range args.Endpoints {
		if err := p.tables.UpsertEndpoint(ep); err != nil {
			return err
		}
	}
	p.nodesKnown, p.ended = make(chan struct{}), make(chan error, 1)
	if !args.HoldNodes {
		close(p.nodesKnown)
	}
	go func() {
		p.ended <- p.datapath.Run(context.Background(), datapath.Known{Nodes: p.nodesKnown, NodeEndpoints: p.nodesKnown})
	}()
	return nil
}

// Attached waits until every program runs.
func (p *process) Attached(_ None, _ *None) error {
	select {
	case <-p.datapath.Attached():
		return nil
	case err := <-p.ended:
		return fmt.Errorf("the datapath ended: %w", err)
	case <-time.After(callTimeout):
		return fmt.Errorf("not attached after %v: %w", callTimeout, p.datapath.Ready())
	}
}

// Ready waits until the datapath says that it is.
func (p *process) Ready(_ None, _ *None) error {
	deadline := time.Now().Add(callTimeout)
	for {
		err := p.datapath.Ready()
		if err == nil {
			return nil
		}
		select {
		case end := <-p.ended:
			return fmt.Errorf("the datapath ended: %w", end)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// ReleaseNodes says that the node table is complete.
func (p *process) ReleaseNodes(_ None, _ *None) error {
	close(p.nodesKnown)
	return nil
}

// SetNode writes one node.
func (p *process) SetNode(n state.Node, _ *None) error { return p.tables.UpsertNode(n) }

// DeleteNode removes one node.
func (p *process) DeleteNode(name string, _ *None) error { return p.tables.DeleteNode(name) }

// IdentityArgs say who an endpoint of the node is.
type IdentityArgs struct{ Endpoint, Identity uint32 }

// SetIdentity changes who an endpoint is.
func (p *process) SetIdentity(args IdentityArgs, _ *None) error {
	return p.datapath.SetIdentity(context.Background(), args.Endpoint, args.Identity)
}

// IngressArgs isolate an endpoint: only peers with these identities reach it.
type IngressArgs struct {
	Endpoint uint32
	Set      policy.SetID
	Allowed  []uint32
}

// SetIngress puts an endpoint under a set of its own.
func (p *process) SetIngress(args IngressArgs, _ *None) error {
	set := &policy.Set{ID: args.Set, Entries: map[policy.PeerID]policy.Entry{}}
	for _, id := range args.Allowed {
		set.Entries[policy.PeerID(id)] = policy.Entry{Ports: policy.PortsAll}
	}
	return p.datapath.ApplyPolicy(context.Background(), policy.Update{
		Sets:      map[policy.SetID]*policy.Set{args.Set: set},
		Endpoints: map[uint32]policy.EndpointPolicy{args.Endpoint: {Ingress: args.Set}},
		Revokes:   true,
	})
}

// Revoke has every flow judged again.
func (p *process) Revoke(_ None, _ *None) error {
	return p.datapath.ApplyPolicy(context.Background(), policy.Update{Revokes: true})
}

// SetPublished writes what another node publishes.
func (p *process) SetPublished(n state.NodeEndpoints, _ *None) error {
	return p.tables.UpsertNodeEndpoints(n)
}

// Connect gives a pod its interface.
func (p *process) Connect(args ConnectArgs, out *state.Endpoint) error {
	var err error
	*out, err = p.datapath.Connect(context.Background(), args.Endpoint, func(state.Endpoint) error {
		if args.KillAt == killAtRecord {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		if args.FailRecord {
			return errors.New("no space left for the record")
		}
		return nil
	})
	return err
}

// Disconnect takes a pod's interface away.
func (p *process) Disconnect(ep state.Endpoint, _ *None) error {
	return p.datapath.Disconnect(context.Background(), ep)
}

// Check compares a pod with the kernel.
func (p *process) Check(ep state.Endpoint, _ *None) error {
	return p.datapath.Check(context.Background(), ep)
}

// Status gives the datapath's part of the status.
func (p *process) Status(_ None, out *agentapi.Status) error { return p.datapath.Status(out) }

// Counters gives the packet counters.
func (p *process) Counters(_ None, out *[]datapath.Counter) error {
	var err error
	*out, err = p.datapath.Counters()
	return err
}

// MapDump reads one map.
func (p *process) MapDump(name string, out *agentapi.MapDump) error {
	var err error
	*out, err = p.datapath.MapDump(name)
	return err
}

// Cleanup removes every trace from the node.
func (p *process) Cleanup(bpfRoot string, _ *None) error { return datapath.Cleanup(bpfRoot) }
