package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"time"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/resize"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// readyTimeout bounds how long a datapath may take to begin.
const readyTimeout = 30 * time.Second

// agent is the process that owns the datapath, and is killed. Its exported methods
// are what the node asks of it.
type agent struct {
	datapath *datapath.Datapath
	ended    chan error
}

// None is the argument or result of methods that have none.
type None struct{}

// AgentSpec is what an agent reads when it begins: its configuration, its state and
// what the API server says.
type AgentSpec struct {
	Config    datapath.Config
	Node      state.Node
	Endpoints []state.Endpoint
	Ports     []loadbalance.Port
	Addresses []netip.Addr
}

type stdio struct {
	io.Reader
	io.Writer
}

// Close implements io.Closer.
func (stdio) Close() error { return nil }

// serveAgent answers until the input ends.
func serveAgent(in io.Reader, out io.Writer) error {
	srv := rpc.NewServer()
	if err := srv.RegisterName("Agent", &agent{}); err != nil {
		return err
	}
	srv.ServeCodec(jsonrpc.NewServerCodec(stdio{in, out}))
	return nil
}

// Start opens and runs the datapath, and returns when it is ready. Moves that an
// earlier agent began go on.
func (a *agent) Start(spec AgentSpec, _ *None) error {
	tables, err := state.NewTables()
	if err != nil {
		return err
	}
	if err := tables.UpsertNode(spec.Node); err != nil {
		return err
	}
	for _, ep := range spec.Endpoints {
		if err := tables.UpsertEndpoint(ep); err != nil {
			return err
		}
	}
	spec.Config.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	a.datapath = datapath.New(spec.Config, tables)
	if err := a.datapath.Open(); err != nil {
		return err
	}
	if _, err := a.datapath.SyncServices(spec.Ports, spec.Addresses); err != nil {
		return err
	}
	known := make(chan struct{})
	close(known)
	a.ended = make(chan error, 1)
	go func() {
		a.ended <- a.datapath.Run(context.Background(), datapath.Known{Nodes: known, NodeEndpoints: known})
	}()
	return a.waitReady()
}

func (a *agent) waitReady() error {
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(5 * time.Millisecond) {
		err := a.datapath.Ready()
		if err == nil {
			return nil
		}
		select {
		case end := <-a.ended:
			return fmt.Errorf("the datapath ended: %w", end)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %s: %w", readyTimeout, err)
		}
	}
}

// Connect gives a pod its interface.
func (a *agent) Connect(ep state.Endpoint, out *state.Endpoint) error {
	var err error
	*out, err = a.datapath.Connect(context.Background(), ep, func(state.Endpoint) error { return nil })
	return err
}

// Isolate lets nobody reach an endpoint: what gets there are answers.
func (a *agent) Isolate(id uint32, _ *None) error {
	return a.datapath.ApplyPolicy(context.Background(), policy.Update{
		Endpoints: map[uint32]policy.EndpointPolicy{id: {Ingress: policy.SetClosed}}, Revokes: true,
	})
}

// ResizeArgs is a change of size.
type ResizeArgs struct {
	Map     string
	Entries uint32
}

// Resize moves a table. Another move that goes on, an earlier agent's, comes first.
func (a *agent) Resize(args ResizeArgs, out *resize.Move) error {
	for {
		move, err := a.datapath.Resize(context.Background(), args.Map, args.Entries, "torture")
		if !errors.Is(err, resize.ErrBusy) {
			*out = move
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Counters are the datapath's.
func (a *agent) Counters(_ None, out *[]datapath.Counter) error {
	var err error
	*out, err = a.datapath.Counters()
	return err
}

// Refusals is what the kernel refused to insert, by map.
func (a *agent) Refusals(_ None, out *map[string]datapath.Inserts) error {
	tables, err := a.datapath.SizedTables()
	if err != nil {
		return err
	}
	*out = map[string]datapath.Inserts{}
	for _, t := range tables {
		(*out)[t.Map] = t.Inserts
	}
	return nil
}
