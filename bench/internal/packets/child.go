package packets

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/state"
)

// fewPods is how many endpoints the small node has: two that talk.
const fewPods = 2

// Sizes of frames, bytes.
const (
	small = 64
	large = 1400
)

// Child is the process of a node: it reads a node.Spec, measures, and writes
// the results, both as JSON.
func Child(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) error {
	var s spec
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("read the node's description: %w", err)
	}
	pods := s.Node.Pods
	s.Node.Pods = nil
	n, err := node.Start(ctx, s.Node, log)
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	c := child{spec: s.Node, rounds: s.Rounds, node: n}
	var results []Result
	for _, pod := range pods {
		ep, err := n.Connect(ctx, pod)
		if err != nil {
			return err
		}
		c.pods = append(c.pods, ep)
		if len(c.pods) != fewPods && len(c.pods) != len(pods) || c.spec.Tunnel && len(c.pods) == fewPods {
			continue
		}
		more, err := c.phase(len(c.pods) == len(pods))
		if err != nil {
			return err
		}
		results = append(results, more...)
	}
	if !c.spec.Tunnel {
		more, err := c.policies(ctx)
		if err != nil {
			return err
		}
		results = append(results, more...)
	}
	return json.NewEncoder(out).Encode(results)
}

// spec is what a child gets.
type spec struct {
	Node   node.Spec `json:"node"`
	Rounds int       `json:"rounds"`
}

type child struct {
	spec   node.Spec
	rounds int
	node   *node.Node
	pods   []state.Endpoint
	groups map[node.Group][2]int
}

// groups lists those that are compared.
func groups() []node.Group { return []node.Group{node.GroupOpen, node.GroupPorts, node.GroupBlocks} }

// policies measures pods under different policies beside each other.
func (c child) policies(ctx context.Context) ([]Result, error) {
	c.groups = map[node.Group][2]int{}
	member := map[uint32]node.Group{}
	for i, g := range groups() {
		pair := [2]int{2 * i, 2*i + 1}
		c.groups[g] = pair
		for _, pod := range pair {
			member[c.pods[pod].ID] = g
		}
	}
	if err := c.node.Enforce(ctx, member); err != nil {
		return nil, err
	}
	var all []*series
	for _, is6 := range []bool{false, true} {
		w, err := c.world(is6)
		if err != nil {
			return nil, err
		}
		for _, g := range groups() {
			for _, p := range w.policyProbes(g) {
				s, err := openSeries(c.node, p, Result{IPv6: is6, Size: small, Pods: len(c.pods), Group: g})
				if err != nil {
					return nil, fmt.Errorf("pods of group %q: %w", g, err)
				}
				s.result.Policy = true
				all = append(all, s)
			}
		}
	}
	return measure(all, c.rounds)
}

// phase measures with the endpoints that are there now: all cases when complete.
func (c child) phase(complete bool) ([]Result, error) {
	var all []*series
	for _, is6 := range []bool{false, true} {
		w, err := c.world(is6)
		if err != nil {
			return nil, err
		}
		for _, size := range []int{small, large} {
			for _, p := range c.probes(w, complete, size) {
				s, err := openSeries(c.node, p, Result{IPv6: is6, Size: size, Pods: len(c.pods)})
				if err != nil {
					return nil, err
				}
				all = append(all, s)
			}
		}
	}
	return measure(all, c.rounds)
}

func (c child) probes(w world, complete bool, size int) []probe {
	switch {
	case c.spec.Tunnel:
		return w.tunnelProbes()
	case complete:
		return append(w.localProbes(), w.nativeProbes()...)
	case size == small:
		return w.localProbes()
	default:
		return nil
	}
}

func (c child) world(is6 bool) (world, error) {
	w := world{pods: c.pods, groups: c.groups, is6: is6, self: c.spec.Self.Addr(is6), remote: remotePod(c.spec.Peers[0], is6)}
	var err error
	if w.device, err = netlink.LinkByName(c.spec.Device); err != nil {
		return w, fmt.Errorf("find %s: %w", c.spec.Device, err)
	}
	if c.spec.Tunnel {
		if w.overlay, err = netlink.LinkByName(datapath.OverlayDevice); err != nil {
			return w, fmt.Errorf("find %s: %w", datapath.OverlayDevice, err)
		}
	}
	return w, nil
}

// remotePod is an address in the peer's pod CIDR of the family.
func remotePod(peer state.Node, is6 bool) netip.Addr {
	for _, p := range peer.PodCIDRs {
		if p.Addr().Is6() == is6 {
			return p.Addr().Next().Next()
		}
	}
	return netip.Addr{}
}
