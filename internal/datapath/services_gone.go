package datapath

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/loader"

	"github.com/placid-net/placid/internal/datapath/sockets"
	"github.com/placid-net/placid/internal/timing"
)

// goneDelay is how long backends that are gone wait for others, so that all of a
// burst are one walk; a backend that comes back meanwhile loses nothing.
const goneDelay = 200 * time.Millisecond

// goneRetry is how long after an error their flows are looked for again.
const goneRetry = time.Second

// flowEnder ends what is left of backends that are gone, by their ids.
type flowEnder interface {
	endFlows(ctx context.Context, backends []uint32) error
}

// runGone ends the flows of backends that are gone until ctx ends.
func (w *serviceWriter) runGone(ctx context.Context, ender flowEnder) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.goneSoon:
		}
		if !timing.Sleep(ctx, goneDelay) {
			return nil
		}
		gone := w.takeGone()
		if len(gone) == 0 {
			continue
		}
		ids := make([]uint32, len(gone))
		for i, b := range gone {
			ids[i] = b.id
		}
		for {
			err := w.endGone(ctx, ender, ids)
			if ctx.Err() != nil {
				return nil // the next agent finds their rows
			}
			if err == nil {
				break
			}
			w.cfg.log.Warn("end flows of backends that are gone", "backends", len(ids), "error", err)
			if !timing.Sleep(ctx, goneRetry) {
				return nil
			}
		}
		if err := w.goneEnded(gone); err != nil {
			w.cfg.log.Warn("forget backends that are gone", "error", err)
		}
	}
}

// endGone waits for programs that may have one of the backends in hand, which
// would make a new flow of it, and ends all there are.
func (w *serviceWriter) endGone(ctx context.Context, ender flowEnder, ids []uint32) error {
	if err := w.wait(); err != nil {
		return err
	}
	return ender.endFlows(ctx, ids)
}

// flowForgetter is the part of conntrack that is needed here.
type flowForgetter interface {
	Forget(ctx context.Context, backends []uint32) (deleted int, err error)
}

// kernelFlows ends flows in the kernel: conntrack entries, and sockets that were
// led to a backend when they were connected.
type kernelFlows struct {
	conntrack  flowForgetter
	sockets    *loader.Map // sock_map; nil without one
	namespaces func() []string
	log        *slog.Logger
}

func (k kernelFlows) endFlows(ctx context.Context, backends []uint32) error {
	entries, err := k.conntrack.Forget(ctx, backends)
	if err != nil {
		return err
	}
	var ended sockets.Ended
	if k.sockets != nil {
		err = k.sockets.EachTable(func(table *ebpf.Map) error {
			n, endErr := sockets.End(ctx, table, k.namespaces(), backends)
			ended.Sockets += n.Sockets
			return endErr
		})
	}
	if errors.Is(err, sockets.ErrNotSupported) {
		k.log.Warn("end sockets to backends that are gone", "error", err)
		err = nil // trying again does not help
	}
	if err != nil {
		return err
	}
	k.log.Debug("ended flows of backends that are gone", "backends", len(backends), "entries", entries, "sockets", ended.Sockets)
	return nil
}

// flows is how flows of gone backends are ended on this node.
func (d *Datapath) flows() kernelFlows {
	k := kernelFlows{conntrack: d.conntrack, namespaces: d.namespaces, log: d.node.cfg.Log}
	if m := d.loader.Map(SockMap); m != nil {
		k.sockets = m
	}
	return k
}

// namespaces are the paths of the network namespaces that sockets may be in: the
// node's own, "", and each pod's.
func (d *Datapath) namespaces() []string {
	out := []string{""}
	eps, _, err := d.tables.Endpoints()
	if err != nil {
		d.node.cfg.Log.Warn("end sockets of pods", "error", err)
	}
	for _, ep := range eps {
		if ep.Netns != "" {
			out = append(out, ep.Netns)
		}
	}
	return out
}
