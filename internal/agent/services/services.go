package services

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/timing"
)

// Datapath is the part of the datapath that serves Services.
type Datapath interface {
	ApplyServices(u loadbalance.Update) error
	SyncServices(all []loadbalance.Port, addresses []netip.Addr) (repaired int, err error)
	RefusedServices() []loadbalance.Refusal
	ServiceTables() []datapath.ServiceTable
	InspectServices() ([]datapath.FrontendState, error)
	// NodeAddrs returns the addresses that node ports are served at, and a channel
	// that is closed when they change.
	NodeAddrs() ([]netip.Addr, <-chan struct{})
}

// Cluster is what the API server is asked for and told.
type Cluster interface {
	// ServicesSynced is closed when Services and EndpointSlices are complete.
	ServicesSynced() <-chan struct{}
	// NodesSynced is closed when the nodes are.
	NodesSynced() <-chan struct{}
	EventService(ref state.ServiceRef, kind k8s.EventType, reason, message string)
	Event(ref state.PodRef, kind k8s.EventType, reason, message string)
}

// Actions of Meter.Changed.
const (
	ActionAdd    = "add"
	ActionUpdate = "update"
	ActionDelete = "delete"
)

// Meter takes what is measured.
type Meter interface {
	// Changed counts a change of a Service or of its EndpointSlices: ActionAdd,
	// ActionUpdate or ActionDelete of the Service.
	Changed(action string)
	// Programmed is the time from the oldest of the changes that were written
	// together being known on this node to the datapath using it. Deleted says that
	// all of them took something away.
	Programmed(took time.Duration, deleted bool)
}

// Config describes one Runner. All fields but the switches and Listen are
// required.
type Config struct {
	NodeName string
	Compiler loadbalance.Config
	// Off says that Services are not served here: what the kernel has of them is
	// removed. The key kube-proxy-replacement.
	Off bool
	// HealthChecks opens health check node ports: the key
	// enable-health-check-nodeport.
	HealthChecks bool
	Interval     time.Duration // between audits
	Tables       *state.Tables
	Datapath     Datapath
	Cluster      Cluster
	Meter        Meter
	// Listen opens a TCP port on all addresses of the node; nil is the real one.
	Listen func(port uint16) (net.Listener, error)
	Log    *slog.Logger
}

// Runner keeps the Services of a node in force. Create it with New; its methods
// are safe for concurrent use.
type Runner struct {
	cfg     Config
	feeds   feeds
	bell    *bell
	written chan struct{} // closed when the kernel had everything once

	// Of Run alone.
	synced    <-chan struct{} // Services and EndpointSlices; nil: they are
	nodes     <-chan struct{} // nodes; nil: they are
	nodesBy   time.Time       // until when nodes are waited for; zero: not yet
	place     place
	hostPorts map[state.ServiceRef]uint32 // endpoint that a pod's host ports are of
	begun     bool                        // the tables were complete once
	pending   time.Time                   // since when a change is not in the kernel
	retry     retry
	settleAt  time.Time // when to tell what happened; zero: nothing did
	told      map[notice]bool
	health    *healthServers

	// mu guards what others read.
	mu     sync.Mutex
	engine *loadbalance.Engine
	counts counts
	state  report
}

// ErrIncomplete says that a Config lacks a field.
var ErrIncomplete = errors.New("configuration is incomplete")

// New returns a Runner that does nothing until Run. It fails where the
// configuration of the compiler does not hold together.
func New(cfg Config) (*Runner, error) {
	if cfg.NodeName == "" || cfg.Interval <= 0 || cfg.Tables == nil || cfg.Datapath == nil || cfg.Cluster == nil || cfg.Meter == nil || cfg.Log == nil {
		return nil, errors.Join(errors.New("create service runner"), ErrIncomplete)
	}
	engine, err := loadbalance.New(cfg.Compiler)
	if err != nil {
		return nil, err
	}
	if cfg.Listen == nil {
		cfg.Listen = listenAll
	}
	r := &Runner{
		cfg: cfg, feeds: openFeeds(cfg.Tables), bell: newBell(), written: make(chan struct{}), engine: engine,
		synced: cfg.Cluster.ServicesSynced(), nodes: cfg.Cluster.NodesSynced(), hostPorts: map[state.ServiceRef]uint32{}, told: map[notice]bool{},
		counts: newCounts(),
	}
	r.health = newHealthServers(cfg.Listen, r.healthy, cfg.Log)
	return r, nil
}

// Written is closed when the kernel has had everything that it should once. It
// never is where the API server cannot be reached.
func (r *Runner) Written() <-chan struct{} { return r.written }

// Ready tells why Services cannot be relied on, or nil.
func (r *Runner) Ready() error {
	if r.cfg.Off {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.trouble()
}

// Run serves until ctx ends, and then returns nil; what is in the kernel stays.
// Errors are retried and shown by Ready. It is called once.
func (r *Runner) Run(ctx context.Context) error {
	defer r.feeds.close()
	if r.cfg.Off {
		r.clean(ctx)
		return nil
	}
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		r.feeds.listen(ctx, r.bell)
	}()
	defer func() { <-listening }()
	defer r.health.close()
	audit := time.NewTicker(r.cfg.Interval)
	defer audit.Stop()
	for {
		timer := timing.NewAlarm(r.turn())
		select {
		case <-ctx.Done():
		case <-r.synced:
			r.synced = nil
		case <-r.nodes:
			r.nodes = nil
		case <-r.place.moved:
		case <-r.place.changed:
		case <-r.bell.rung:
		case <-timer.Due:
		case <-audit.C:
			r.retry.dirty = true
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// clean removes what an earlier agent served, and tries until that works.
func (r *Runner) clean(ctx context.Context) {
	for {
		repaired, err := r.cfg.Datapath.SyncServices(nil, nil)
		if err == nil {
			if repaired > 0 {
				r.cfg.Log.Info("services are no longer served here", "removed", repaired)
			}
			close(r.written)
			return
		}
		r.failed(err)
		if !timing.Sleep(ctx, time.Until(r.retry.next())) {
			return
		}
	}
}
