package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/state"
)

// service answers the unix socket.
type service struct{ *Agent }

var _ agentapi.Service = service{}

// Add makes the attachment.
func (s service) Add(ctx context.Context, req agentapi.CNIRequest) (agentapi.CNIResult, error) {
	if err := notReady(s.readyForPods()); err != nil {
		return agentapi.CNIResult{}, err
	}
	began := time.Now()
	res, err := s.endpoints.add(ctx, req)
	s.metrics.observeCNI("ADD", err, time.Since(began))
	return res, err
}

// Del removes the attachment.
func (s service) Del(ctx context.Context, req agentapi.CNIRequest) error {
	began := time.Now()
	err := s.endpoints.del(ctx, req.Attachment)
	s.metrics.observeCNI("DEL", err, time.Since(began))
	return err
}

// Check compares the attachment with the kernel.
func (s service) Check(ctx context.Context, req agentapi.CNIRequest) error {
	return s.endpoints.check(ctx, req)
}

// GC removes every attachment that is not listed.
func (s service) GC(ctx context.Context, req agentapi.GCRequest) error {
	return s.endpoints.gc(ctx, req.Valid)
}

// CNIStatus fails while a pod could not be given an interface. An ADD waits a
// while for policies to be known, this does not.
func (s service) CNIStatus(context.Context) error {
	return notReady(cmp.Or(s.readyForPods(), s.security.Ready()))
}

func notReady(err error) error {
	if err == nil {
		return nil
	}
	return &agentapi.Error{Code: agentapi.CodeNotReady, Message: "placid-agent is not ready: " + err.Error()}
}

// Endpoints lists the node's endpoints.
func (s service) Endpoints(context.Context) ([]state.Endpoint, error) {
	eps, _, err := s.tables.Endpoints()
	return eps, err
}

// Config lists the effective value of every key.
func (s service) Config(context.Context) ([]agentapi.ConfigEntry, error) {
	return s.live.current().Entries(), nil
}

// Maps lists the BPF maps.
func (s service) Maps(context.Context) ([]agentapi.MapInfo, error) { return s.datapath.Maps() }

// MapDump reads one BPF map.
func (s service) MapDump(_ context.Context, name string) (agentapi.MapDump, error) {
	dump, err := s.datapath.MapDump(name)
	if errors.Is(err, datapath.ErrNoMap) {
		return dump, &agentapi.Error{Code: agentapi.CodeNotFound, Message: err.Error()}
	}
	return dump, err
}

// Status describes the whole agent.
func (s service) Status(context.Context) (agentapi.Status, error) {
	eps, _, err := s.tables.Endpoints()
	if err != nil {
		return agentapi.Status{}, err
	}
	st := agentapi.Status{
		Version: s.version, Node: s.nodeName, StartedAt: s.startedAt, IPAMMode: s.loaded.Config.IPAM,
		RoutingMode: state.RoutingMode(s.loaded.Config.RoutingMode), Endpoints: len(eps),
		Warnings: append(s.live.warnings(), s.policyWarnings()...), CNIConf: s.cniConf(), IPAM: s.ipamPools(),
	}
	if err := s.datapath.Status(&st); err != nil {
		return agentapi.Status{}, err
	}
	st.Policy, st.Conntrack, st.Services, st.Tables = s.policyStatus(), s.conntrackStatus(), s.servicesStatus(), s.tablesStatus()
	st.Masquerade = masqueraded(s.loaded.Config)
	st.Conditions = s.conditions()
	st.Ready = s.ready() == nil
	return st, nil
}

func (a *Agent) ipamPools() []agentapi.IPAMPool {
	var out []agentapi.IPAMPool
	for _, u := range a.addresses.alloc.Usage(a.now()) {
		out = append(out, agentapi.IPAMPool{CIDR: u.CIDR, Used: u.Used, Quarantined: u.Quarantined, Capacity: u.Capacity})
	}
	return out
}

// conditions tells how each part fares.
func (a *Agent) conditions() []agentapi.Condition {
	kubernetes := a.kubernetes.Health()
	kubernetes.Name = "kubernetes"
	return []agentapi.Condition{
		kubernetes,
		a.condition("datapath", a.datapath.Ready()),
		a.condition("addresses", a.addressesReady()),
		a.condition("policy", a.security.Ready()),
		a.condition("services", a.services.Ready()),
		a.kubernetes.EndpointsHealth(),
	}
}

func (a *Agent) condition(name string, err error) agentapi.Condition {
	c := agentapi.Condition{Name: name, OK: err == nil, Since: a.startedAt}
	if err != nil {
		c.Message = err.Error()
	}
	return c
}

// readyForPods tells why a pod could not be given an interface now. A DEL that
// was left for the agent comes before any ADD.
func (a *Agent) readyForPods() error {
	if !a.swept.Load() {
		return errors.New("the BPF programs are not attached yet")
	}
	return a.addressesReady()
}

func (a *Agent) addressesReady() error {
	for _, u := range a.addresses.alloc.Usage(a.now()) {
		if !u.Draining {
			return nil
		}
	}
	return fmt.Errorf("node %s has no pod CIDR yet: it comes from the operator (ipam %s), see its PlacidNode object", a.nodeName, a.loaded.Config.IPAM)
}

// ready is what the readiness probe asks: programs attached, maps filled,
// addresses there, policies in force, services served, plugin served.
func (a *Agent) ready() error {
	return cmp.Or(a.datapath.Ready(), a.readyForPods(), a.security.Ready(), a.services.Ready())
}
