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
	var spec node.Spec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("read the node's description: %w", err)
	}
	pods := spec.Pods
	spec.Pods = nil
	n, err := node.Start(ctx, spec, log)
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	c := child{spec: spec, node: n}
	var results []Result
	for _, pod := range pods {
		ep, err := n.Connect(ctx, pod)
		if err != nil {
			return err
		}
		c.pods = append(c.pods, ep)
		if len(c.pods) != fewPods && len(c.pods) != len(pods) || spec.Tunnel && len(c.pods) == fewPods {
			continue
		}
		more, err := c.phase(len(c.pods) == len(pods))
		if err != nil {
			return err
		}
		results = append(results, more...)
	}
	return json.NewEncoder(out).Encode(results)
}

type child struct {
	spec node.Spec
	node *node.Node
	pods []state.Endpoint
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
	return measure(all)
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
	w := world{pods: c.pods, is6: is6, self: c.spec.Self.Addr(is6), remote: remotePod(c.spec.Peers[0], is6)}
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
