package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/placid-net/placid/bench/internal/cluster"
	"github.com/placid-net/placid/internal/agent/services"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// Serving says that a node serves services, and masquerades.
type Serving struct {
	// Cgroup is that whose sockets are translated; empty: packets are.
	Cgroup string `json:"cgroup"`
	// Shape and Count are those of the services that Child serves.
	Shape cluster.Shape `json:"shape"`
	Count int           `json:"count"`
}

// Node ports are those of a default cluster.
const (
	nodePortFirst = 30000
	nodePortLast  = 32767
)

// servedTimeout bounds how long many services may take.
const servedTimeout = time.Minute

// configure sets what the agent sets of services, as its defaults are.
func (s *Serving) configure(cfg *datapath.Config) {
	if s == nil {
		return
	}
	cfg.CgroupRoot = s.Cgroup
	cfg.Services = datapath.ServiceConfig{
		Enabled: true, Reject: true, NodePortFirst: nodePortFirst, NodePortLast: nodePortLast,
		MaglevSize: loadbalance.DefaultMaglevSize,
	}
	cfg.Masquerade = datapath.MasqueradeConfig{IPv4: true, IPv6: true, Native: podRanges()}
}

// podRanges hold the addresses of all pods.
func podRanges() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(PodAddr(0, 0, false), 16).Masked(), netip.PrefixFrom(PodAddr(0, 0, true), 32).Masked()}
}

// Compiler is how services are compiled by default.
func Compiler() loadbalance.Config {
	return loadbalance.Config{
		IPv4: true, IPv6: true, Algorithm: loadbalance.AlgorithmRandom, NodePortFirst: nodePortFirst, NodePortLast: nodePortLast,
		MaglevSize: loadbalance.DefaultMaglevSize,
	}
}

// apiServer takes the place of the connection to the API server.
type apiServer struct {
	services, nodes chan struct{}
	log             *slog.Logger
}

// ServicesSynced implements services.Cluster.
func (a apiServer) ServicesSynced() <-chan struct{} { return a.services }

// NodesSynced implements services.Cluster.
func (a apiServer) NodesSynced() <-chan struct{} { return a.nodes }

// EventService implements services.Cluster.
func (a apiServer) EventService(ref state.ServiceRef, _ k8s.EventType, reason, message string) {
	a.log.Error("event of a service", "service", ref.String(), "reason", reason, "message", message)
}

// Event implements services.Cluster.
func (a apiServer) Event(ref state.PodRef, _ k8s.EventType, reason, message string) {
	a.log.Error("event of a pod", "pod", ref.Namespace+"/"+ref.Name, "reason", reason, "message", message)
}

// Changed implements services.Meter.
func (apiServer) Changed(string) {}

// Programmed implements services.Meter.
func (apiServer) Programmed(time.Duration, bool) {}

// Services keeps a node's services in force, as the agent does.
type Services struct {
	node   *Node
	runner *services.Runner
	api    apiServer
	cancel context.CancelFunc
	done   chan error
}

// Serve begins to serve the services that are put, once Complete is called. End
// it with Close, before the node.
func (n *Node) Serve(ctx context.Context, log *slog.Logger) (*Services, error) {
	s := &Services{
		node: n, api: apiServer{services: make(chan struct{}), nodes: make(chan struct{}), log: log}, done: make(chan error, 1),
	}
	close(s.api.nodes)
	var err error
	s.runner, err = services.New(services.Config{
		NodeName: n.name, Compiler: Compiler(), HealthChecks: true, Interval: quietInterval, Tables: n.tables, Datapath: n.datapath,
		Cluster: s.api, Meter: s.api, Log: log,
	})
	if err != nil {
		return nil, err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	go func() { s.done <- s.runner.Run(ctx) }()
	return s, nil
}

// Rows are those of service i and of its slices, as the watches make them.
func Rows(shape cluster.Shape, i int) (state.Service, []state.EndpointSlice, error) {
	row, problems, err := k8s.ServiceRow(shape.Service(i))
	if err != nil || len(problems) > 0 {
		return row, nil, fmt.Errorf("service %d: problems %q: %w", i, problems, err)
	}
	slices, err := Slices(shape, i, 0)
	return row, slices, err
}

// Put writes a service and its slices to the state tables.
func (s *Services) Put(row state.Service, slices []state.EndpointSlice) error {
	err := s.node.tables.UpsertService(row)
	for _, slice := range slices {
		err = errors.Join(err, s.PutSlice(slice))
	}
	return err
}

// PutSlice writes a slice to the state tables.
func (s *Services) PutSlice(row state.EndpointSlice) error { return s.node.tables.UpsertSlice(row) }

// PutNumber writes service i.
func (s *Services) PutNumber(shape cluster.Shape, i int) error {
	row, slices, err := Rows(shape, i)
	if err != nil {
		return err
	}
	return s.Put(row, slices)
}

// Slices are the rows of the slices of service i; see cluster.Shape.
func Slices(shape cluster.Shape, i, generation int) ([]state.EndpointSlice, error) {
	var out []state.EndpointSlice
	for _, slice := range shape.Slices(i, generation) {
		row, problems, err := k8s.SliceRow(slice)
		if err != nil || len(problems) > 0 {
			return nil, fmt.Errorf("slice of service %d: problems %q: %w", i, problems, err)
		}
		out = append(out, row)
	}
	return out, nil
}

// Drop removes service i and its slices from the state tables.
func (s *Services) Drop(shape cluster.Shape, i int) error {
	service := shape.Service(i)
	err := s.node.tables.DeleteService(state.ServiceRef{Namespace: service.Namespace, Name: service.Name})
	for _, slice := range shape.Slices(i, 0) {
		err = errors.Join(err, s.node.tables.DeleteSlice(slice.Namespace, slice.Name))
	}
	return err
}

// Complete says that the state tables hold all that there is, and returns when it
// is in the kernel.
func (s *Services) Complete(ctx context.Context) error {
	close(s.api.services)
	ctx, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	select {
	case <-s.runner.Written():
	case <-ctx.Done():
		return fmt.Errorf("services are not in the kernel after %s: %w", servedTimeout, errors.Join(ctx.Err(), s.runner.Ready()))
	}
	return s.Check()
}

// Check tells whether everything that was to be written had room.
func (s *Services) Check() error {
	var errs []error
	for _, r := range s.node.datapath.RefusedServices() {
		errs = append(errs, fmt.Errorf("service %s needs %d entries of %s, %d are free", r.Key.Service, r.Needs, r.Table, r.Free))
	}
	return errors.Join(errs...)
}

// Close ends it. What is in the kernel stays.
func (s *Services) Close() error {
	s.cancel()
	return <-s.done
}

// ServeAll serves count services of a shape.
func (n *Node) ServeAll(ctx context.Context, shape cluster.Shape, count int, log *slog.Logger) (*Services, error) {
	s, err := n.Serve(ctx, log)
	if err != nil {
		return nil, err
	}
	for i := range count {
		if err := s.PutNumber(shape, i); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if err := s.Complete(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// SyncServices writes all services at once, compiled already.
func (n *Node) SyncServices(all []loadbalance.Port, addresses []netip.Addr) (written int, err error) {
	return n.datapath.SyncServices(all, addresses)
}
