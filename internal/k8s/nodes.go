package k8s

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
)

// maxMTU is the largest MTU that a Linux device takes, in bytes.
const maxMTU = 65535

// nodeSink turns PlacidNode objects into rows of the node table, and shows the
// publisher this node's own object.
type nodeSink struct {
	tables *state.Tables
	self   string
	status *publisher
	synced *once
	log    *slog.Logger

	mu   sync.Mutex // held while rows are written
	zone string     // this node's
}

func newNodeSink(tables *state.Tables, self string, status *publisher, log *slog.Logger) *nodeSink {
	return &nodeSink{tables: tables, self: self, status: status, synced: newOnce(), log: log}
}

// NodesSynced is closed when the node table holds all nodes for the first time.
func (c *Client) NodesSynced() <-chan struct{} { return c.nodes.synced.ch }

func (s *nodeSink) upsert(obj *v1alpha1.PlacidNode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upsertLocked(obj)
}

func (s *nodeSink) upsertLocked(obj *v1alpha1.PlacidNode) error {
	row := s.row(obj)
	if obj.Name == s.self {
		s.status.observe(&obj.Status)
		row.Zone = s.zone
	}
	return s.tables.UpsertNode(row)
}

// setZone writes the zone of this node into its row, now or when it has one.
func (s *nodeSink) setZone(zone string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone = zone
	row, ok, err := s.tables.NodeByName(s.self)
	if err != nil || !ok {
		return err
	}
	row.Zone = zone
	return s.tables.UpsertNode(row)
}

func (s *nodeSink) remove(obj *v1alpha1.PlacidNode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if obj.Name == s.self {
		s.status.observe(nil)
	}
	return s.tables.DeleteNode(obj.Name)
}

func (s *nodeSink) replace(objs []*v1alpha1.PlacidNode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, _, err := s.tables.Nodes()
	if err != nil {
		return err
	}
	seen := make(map[string]struct{}, len(objs))
	for _, obj := range objs {
		seen[obj.Name] = struct{}{}
		if err := s.upsertLocked(obj); err != nil {
			return err
		}
	}
	for _, n := range have {
		if _, ok := seen[n.Name]; ok {
			continue
		}
		if err := s.tables.DeleteNode(n.Name); err != nil {
			return err
		}
	}
	if _, ok := seen[s.self]; !ok {
		s.status.observe(nil)
	}
	s.synced.done()
	return nil
}

// row converts an object, whose labels are the Node's. What makes no sense is logged and left out.
func (s *nodeSink) row(obj *v1alpha1.PlacidNode) state.Node {
	n := state.Node{Name: obj.Name, Labels: obj.Labels}
	skip := func(field, value string, err error) {
		s.log.Warn("skip a field of a PlacidNode", "node", obj.Name, "field", field, "value", value, "err", err)
	}
	for _, v := range obj.Spec.Addresses {
		if a, err := parseAddr(v); err != nil {
			skip("spec.addresses", v, err)
		} else {
			n.Addrs = append(n.Addrs, a)
		}
	}
	for _, v := range obj.Spec.PodCIDRs {
		if p, err := parsePrefix(v); err != nil {
			skip("spec.podCIDRs", v, err)
		} else {
			n.PodCIDRs = append(n.PodCIDRs, p)
		}
	}
	if mtu := obj.Status.MTU; mtu < 0 || mtu > maxMTU {
		skip("status.mtu", fmt.Sprint(mtu), fmt.Errorf("want 0 to %d", maxMTU))
	} else {
		n.MTU = int(mtu)
	}
	switch mode := state.RoutingMode(obj.Status.RoutingMode); mode {
	case "", state.RoutingNative, state.RoutingTunnel:
		n.RoutingMode = mode
	default:
		skip("status.routingMode", string(mode), fmt.Errorf("want %s or %s", state.RoutingNative, state.RoutingTunnel))
	}
	return n
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return netip.Addr{}, err
	case a.Zone() != "":
		return netip.Addr{}, errors.New("a zone says nothing on another node")
	case a.IsUnspecified() || a.IsLoopback() || a.IsMulticast():
		return netip.Addr{}, errors.New("not a unicast address of a node")
	}
	return a.Unmap(), nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, err
	case p.Addr().Is4In6():
		return netip.Prefix{}, errors.New("an IPv4 prefix in IPv6 form")
	case p.Bits() == 0:
		return netip.Prefix{}, errors.New("covers every address")
	}
	return p.Masked(), nil
}
