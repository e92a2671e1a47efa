// Package node runs Placid's datapath of one node in the network namespace of
// its own process, as the agent does, without Kubernetes and CNI around it.
//
// Invariants: the process has a network and a mount namespace of its own, so
// that all that the datapath makes ends with it.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

const (
	bpffs = "/sys/fs/bpf"
	// quietInterval keeps audits out of the measurement.
	quietInterval = time.Hour
	readyTimeout  = 30 * time.Second
	readyPoll     = 10 * time.Millisecond
)

// Pod is a pod that the node is to have.
type Pod struct {
	Netns string     `json:"netns"` // path
	IPv4  netip.Addr `json:"ipv4"`
	IPv6  netip.Addr `json:"ipv6"`
}

// Spec describes a node. Its device exists in the process's namespace already.
type Spec struct {
	Self   state.Node   `json:"self"`
	Peers  []state.Node `json:"peers"`
	Device string       `json:"device"`
	Tunnel bool         `json:"tunnel"`
	Pods   []Pod        `json:"pods"`
	Group  Group        `json:"group"` // of the pods
	// Tables are the sizes of tables.
	Tables datapath.TableSizes `json:"tables"`
	// Serving is nil where the node serves no services.
	Serving *Serving `json:"serving"`
}

// Node is a running node.
type Node struct {
	name      string
	datapath  *datapath.Datapath
	tables    *state.Tables
	engine    *policy.Engine
	cancel    context.CancelFunc
	done      chan error
	endpoints uint32
	served    *Services // by Child
}

// Root is where the programs, maps and links are pinned.
const Root = bpffs + "/placid"

// Start mounts a BPF file system, runs the datapath, and gives the pods their
// interfaces. Call Close.
func Start(ctx context.Context, spec Spec, log *slog.Logger) (*Node, error) {
	if err := unix.Mount("bpf", bpffs, "bpf", 0, "mode=0700"); err != nil {
		return nil, fmt.Errorf("mount a BPF file system on %s: %w", bpffs, err)
	}
	tables, err := state.NewTables()
	if err != nil {
		return nil, err
	}
	for _, n := range append([]state.Node{spec.Self}, spec.Peers...) {
		if err := tables.UpsertNode(n); err != nil {
			return nil, err
		}
	}
	cfg := datapath.Config{
		NodeName: spec.Self.Name, BPFRoot: bpffs, IPv4: true, IPv6: true, Tunnel: spec.Tunnel, TunnelPort: 8472,
		AutoDirectRoutes: true, Devices: []string{spec.Device}, ReconcileInterval: quietInterval, Log: log,
		Timeouts: timeouts(), Tables: spec.Tables, CTSchedule: conntrack.Schedule{Fixed: quietInterval},
	}
	spec.Serving.configure(&cfg)
	d := datapath.New(cfg, tables)
	if err := d.Open(); err != nil {
		return nil, err
	}
	known := make(chan struct{})
	close(known)
	ctx, cancel := context.WithCancel(ctx)
	n := &Node{name: spec.Self.Name, datapath: d, tables: tables, engine: newEngine(), cancel: cancel, done: make(chan error, 1)}
	go func() { n.done <- d.Run(ctx, datapath.Known{Nodes: known, NodeEndpoints: known}) }()
	if err := n.waitReady(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	for _, pod := range spec.Pods {
		ep, err := n.Connect(ctx, pod)
		if err == nil && spec.Group != GroupOpen {
			err = n.Enforce(ctx, map[uint32]Group{ep.ID: spec.Group})
		}
		if err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// timeouts are the agent's defaults.
func timeouts() datapath.Timeouts {
	return datapath.DefaultTimeouts()
}

func (n *Node) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := n.datapath.Ready()
		if err == nil {
			return nil
		}
		select {
		case runErr := <-n.done:
			n.done <- nil
			return errors.Join(errors.New("the datapath ended"), runErr)
		case <-ctx.Done():
			return fmt.Errorf("the datapath is not ready after %s: %w", readyTimeout, err)
		case <-time.After(readyPoll):
		}
	}
}

// Collector returns the collector of expired flows, after its first pass, which
// begins with the datapath. It begins no more of its own.
func (n *Node) Collector(ctx context.Context) (*conntrack.Collector, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	c := n.datapath.Conntrack()
	for {
		status, err := c.Status()
		if err != nil || !status.CollectedAt.IsZero() {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the first collection has not ended after %s", readyTimeout)
		case <-time.After(readyPoll):
		}
	}
}

// Endpoints returns the endpoints of the pods, in the order of their connection.
func (n *Node) Endpoints() ([]state.Endpoint, error) {
	eps, _, err := n.tables.Endpoints()
	return eps, err
}

// Connect gives one more pod its interface.
func (n *Node) Connect(ctx context.Context, pod Pod) (state.Endpoint, error) {
	n.endpoints++
	ep, err := n.datapath.Connect(ctx, state.Endpoint{
		ID: n.endpoints, Netns: pod.Netns, IPv4: pod.IPv4, IPv6: pod.IPv6,
		Attachment: state.AttachmentID{ContainerID: fmt.Sprintf("bench-%d", n.endpoints), IfName: "eth0"},
	}, func(state.Endpoint) error { return nil })
	if err != nil {
		return state.Endpoint{}, fmt.Errorf("connect pod %s: %w", pod.IPv4, err)
	}
	return ep, nil
}

// Disconnect takes a pod's interface away.
func (n *Node) Disconnect(ctx context.Context, ep state.Endpoint) error {
	return n.datapath.Disconnect(ctx, ep)
}

// Counters returns the datapath's exact counters.
func (n *Node) Counters() ([]datapath.Counter, error) { return n.datapath.Counters() }

// Close ends the datapath's loops. What it made ends with the process.
func (n *Node) Close() error {
	var err error
	if n.served != nil {
		err = n.served.Close()
	}
	n.cancel()
	return errors.Join(err, <-n.done, n.datapath.Close())
}
