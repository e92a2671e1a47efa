package gc

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
)

// Names of the ways to collect, as the tables have them.
const (
	wayKernel = "in the kernel, in steps (Placid)"
	wayBatch  = "user space: batches read, batches deleted"
	waySingle = "user space: batches read, deleted one by one"
	wayNone   = "none"
)

// ways are compared by what they cost.
func ways() []string { return []string{wayKernel, wayBatch, waySingle} }

// outcome is what one pass did.
type outcome struct {
	deleted int
	cpu     time.Duration
}

// collect makes one pass over the table.
func collect(ctx context.Context, way string, c *conntrack.Collector, t *table) (outcome, error) {
	if way == wayKernel {
		r, err := c.Collect(ctx)
		return outcome{int(r.Deleted()), r.CPU}, err
	}
	type answer struct {
		outcome
		err error
	}
	done := make(chan answer)
	go func() {
		runtime.LockOSThread() // its CPU time is counted
		began := threadTime()
		deleted, err := t.scan(ctx, way == waySingle)
		done <- answer{outcome{deleted, threadTime() - began}, err}
	}()
	a := <-done
	return a.outcome, a.err
}

func threadTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0 // cannot be: the argument is right
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// scan reads the table in batches and deletes what has expired, by batch or one
// by one. It does not see what a packet does between its reading and deleting.
func (t *table) scan(ctx context.Context, single bool) (deleted int, err error) {
	now, err := t.now()
	if err != nil {
		return 0, err
	}
	keys, entries := make([]abi.CCtKey, batch), make([]abi.CCtEntry, batch)
	var cursor ebpf.MapBatchCursor
	for ended := false; !ended && ctx.Err() == nil; {
		n, err := t.BatchLookup(&cursor, keys, entries, nil)
		ended = errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !ended {
			return deleted, fmt.Errorf("read the table: %w", err)
		}
		doomed := keys[:0]
		for i := range n {
			if idle := now - entries[i].Last; int32(idle) > 0 && idle > t.timeout()+t.settings.Hz {
				doomed = append(doomed, keys[i])
			}
		}
		if err := t.remove(doomed, single); err != nil {
			return deleted, err
		}
		deleted += len(doomed)
	}
	return deleted, ctx.Err()
}

func (t *table) remove(keys []abi.CCtKey, single bool) error {
	if len(keys) == 0 {
		return nil
	}
	if !single {
		_, err := t.BatchDelete(keys, nil)
		return err
	}
	for i := range keys {
		if err := t.Delete(&keys[i]); err != nil {
			return fmt.Errorf("delete an entry: %w", err)
		}
	}
	return nil
}
