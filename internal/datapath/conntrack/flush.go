package conntrack

import (
	"context"
	"errors"

	"github.com/cilium/ebpf"

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
		n, err := c.deleteFrom(ctx, o, deletion{c.flushers, bpf.TablesProgCtFlush, compiled})
		out.Deleted += n
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// deletion is a deleting walk: the program of that name, of those of its caller, as
// others may be in the middle of theirs, and what it selects.
type deletion struct {
	programs walkers
	name     string
	filter   bpf.TablesCtFilter
}

// deleteFrom deletes from a table. The embryonic one is walked twice: the first
// answer of a translated flow makes its other entry, also where the walk was already.
func (c *Collector) deleteFrom(ctx context.Context, o outer, w deletion) (deleted int, err error) {
	deleted, err = c.deleteOnce(ctx, o, w)
	if err != nil || o.name != tableNew {
		return deleted, err
	}
	if err = barrier(); err != nil {
		return deleted, err
	}
	late, err := c.deleteOnce(ctx, o, w)
	return deleted + late, err
}

// deleteOnce walks the table that the outer map holds, and the one that flows are
// moving out of.
func (c *Collector) deleteOnce(ctx context.Context, o outer, w deletion) (deleted int, err error) {
	from, err := o.old()
	if err != nil {
		return 0, err
	}
	if from.Map != nil {
		defer func() { _ = from.Close() }()
	}
	to, err := o.current()
	if err != nil {
		return 0, err
	}
	defer func() { _ = to.Close() }()
	var totals bpf.TablesCtTotals
	if from.Map != nil {
		totals, err = c.deleteWhileMoving(ctx, from, to, w)
	} else {
		totals, err = c.deleteFromTable(ctx, to, w, walkMode{})
	}
	for _, n := range totals.Deleted {
		deleted += int(n)
	}
	return deleted, err
}

// walkMode says what a deleting walk does with what it selects.
type walkMode struct {
	// frozen: the table is an old one, whose entries are marked and stay.
	frozen bool
	// before is the old table: entries are marked in both, to be deleted by the next walk.
	before *ebpf.Map
	// sweep: what was marked is deleted, and nothing else.
	sweep bool
}

// deleteFromTable walks the table once.
func (c *Collector) deleteFromTable(ctx context.Context, t table, w deletion, mode walkMode) (totals bpf.TablesCtTotals, err error) {
	var p *program
	if mode.before == nil {
		if mode.frozen {
			t.name += oldSuffix
		}
		p, err = c.walker(w.programs, w.name, t)
	} else if p, err = c.loadWalker(w.name, t, mode.before); err == nil {
		defer func() { _ = p.Close() }()
	}
	if err != nil {
		return totals, err
	}
	err = errors.Join(p.reset(w.filter), p.set(bpf.TablesVarFrozen, flag(mode.frozen)), p.set(bpf.TablesVarMarking, flag(mode.before != nil)),
		p.set(bpf.TablesVarSweeping, flag(mode.sweep)))
	if err != nil {
		return totals, err
	}
	var buf [1]byte
	err = walk(ctx, p, t, buf[:], func(read func() (int, error)) error {
		_, stepErr := read()
		return stepErr
	})
	totals, totalsErr := p.totals()
	return totals, errors.Join(err, totalsErr)
}

// oldSuffix tells the walkers of an old table from those of the current one.
const oldSuffix = " (old)"

func flag(set bool) uint32 {
	if set {
		return 1
	}
	return 0
}
