package conntrack

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/bpf"
)

// Forget deletes the entries of flows to backends that are gone, by their ids,
// both of each flow. Nothing may choose those backends any more. When it ends
// early, what it deleted until then is counted.
func (c *Collector) Forget(ctx context.Context, backends []uint32) (deleted int, err error) {
	c.deletes.Lock()
	defer c.deletes.Unlock()
	if err := c.openGone(); err != nil {
		return 0, err
	}
	for ids := range slices.Chunk(backends, int(c.gone.MaxEntries())) {
		n, err := c.forget(ctx, ids)
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

func (c *Collector) forget(ctx context.Context, ids []uint32) (deleted int, err error) {
	for _, id := range ids {
		if err = c.gone.Put(id, uint8(1)); err != nil {
			err = fmt.Errorf("note gone backend %d: %w", id, err)
			break
		}
	}
	defer func() {
		for _, id := range ids {
			if delErr := c.gone.Delete(id); delErr != nil && !errors.Is(delErr, ebpf.ErrKeyNotExist) {
				err = errors.Join(err, fmt.Errorf("forget gone backend %d: %w", id, delErr))
			}
		}
	}()
	// A flow moves from the embryonic table to another, so that is walked first.
	outers := c.cfg.Tables.outers()
	slices.Reverse(outers)
	for _, o := range outers {
		if err != nil {
			break
		}
		var n int
		n, err = c.deleteFrom(ctx, o, deletion{c.forgetters, bpf.TablesProgCtForget, bpf.TablesCtFilter{}})
		deleted += n
	}
	return deleted, err
}

// openGone makes the map of gone backends, which every deleting program refers to.
func (c *Collector) openGone() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone != nil {
		return nil
	}
	spec, err := loadSpec(0)
	if err != nil {
		return err
	}
	if c.gone, err = ebpf.NewMap(spec.Maps[bpf.TablesMapGoneMap]); err != nil {
		return fmt.Errorf("create map %s: %w", bpf.TablesMapGoneMap, err)
	}
	return nil
}
