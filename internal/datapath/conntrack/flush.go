package conntrack

import (
	"context"
	"errors"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/bpf"
)

// Flush deletes the entries that the filter selects, expired ones included; its
// limit is not looked at, and without a condition it selects all. When it ends
// early, what it deleted until then is counted. The error is ErrUnknownPod,
// ErrBadFilter, or why the tables cannot be changed.
func (c *Collector) Flush(ctx context.Context, filter agentapi.CTFilter) (agentapi.CTFlushed, error) {
	var out agentapi.CTFlushed
	compiled, err := compile(filter, c.pods())
	if err != nil {
		return out, err
	}
	c.deletes.Lock()
	defer c.deletes.Unlock()
	for _, o := range c.cfg.Tables.outers() {
		n, err := c.deleteFrom(ctx, o, c.flushers, bpf.TablesProgCtFlush, compiled)
		out.Deleted += n
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// deleteFrom walks one table with a program of its own: those of the collector may
// be in the middle of a pass.
func (c *Collector) deleteFrom(ctx context.Context, o outer, programs walkers, name string, filter bpf.TablesCtFilter) (deleted int, err error) {
	marked, err := c.markOld(ctx, o, programs, name, filter)
	if err != nil {
		return marked, err
	}
	t, err := o.current()
	if err != nil {
		return marked, err
	}
	defer func() { _ = t.Close() }()
	deleted, err = c.deleteFromTable(ctx, t, programs, name, filter, false)
	return marked + deleted, err
}

// deleteFromTable walks the table once. Of a frozen one, an old table, entries are
// marked and stay.
func (c *Collector) deleteFromTable(ctx context.Context, t table, programs walkers, name string, filter bpf.TablesCtFilter, frozen bool) (deleted int, err error) {
	p, err := c.walker(programs, name, t)
	if err != nil {
		return 0, err
	}
	mode := uint32(0)
	if frozen {
		mode = 1
	}
	if err = errors.Join(p.reset(filter), p.set(bpf.TablesVarFrozen, mode)); err != nil {
		return 0, err
	}
	var buf [1]byte
	err = walk(ctx, p, t, buf[:], func(read func() (int, error)) error {
		_, stepErr := read()
		return stepErr
	})
	totals, totalsErr := p.totals()
	for _, n := range totals.Deleted {
		deleted += int(n)
	}
	return deleted, errors.Join(err, totalsErr)
}
