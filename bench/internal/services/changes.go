package services

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/bench/internal/cluster"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/state"
)

const (
	// changePace is the time from one change to the next: a rolling update of many
	// services at once.
	changePace = 5 * time.Millisecond
	// lookPause is between two looks at the kernel: it bounds what a look adds.
	lookPause     = 10 * time.Microsecond
	changeTimeout = 10 * time.Second
)

// changes replaces backends of random services, one after the other, and measures
// how long each change takes to be in the kernel.
func (m *measurement) changes(ctx context.Context, served *node.Services) (err error) {
	k, err := openKernel()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	// The look at the kernel gets a processor of its own from Go: the agent has all of
	// its.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 1))
	generations := map[int]int{}
	for range m.spec.Changes {
		i := rand.IntN(m.spec.Count)
		generations[i]++
		rows, err := node.Slices(m.shape, i, generations[i])
		if err != nil {
			return err
		}
		took, err := change(k, served, i, rows[0])
		if err != nil {
			return fmt.Errorf("change service %d: %w", i, err)
		}
		m.result.Changes = append(m.result.Changes, float64(took)/float64(time.Millisecond))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(changePace):
		}
	}
	return nil
}

// change writes a slice to the state tables, waits until a frontend leads to
// another list, and looks whether that is the right one.
func change(k kernel, served *node.Services, i int, row state.EndpointSlice) (time.Duration, error) {
	address := cluster.Address(i, false)
	old, err := k.list(address)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err = served.PutSlice(row); err != nil {
		return 0, err
	}
	var now abi.CBackendList
	pause := unix.NsecToTimespec(int64(lookPause))
	for {
		if now, err = k.list(address); err != nil {
			return 0, err
		}
		took := time.Since(began)
		if now != old {
			ok, err := k.has(now, row.Backends[len(row.Backends)-1].Addr)
			if err == nil && !ok {
				err = fmt.Errorf("list %d does not have the new backend", now.Id)
			}
			return took, err
		}
		if took > changeTimeout {
			return 0, fmt.Errorf("it is not in the kernel after %s", changeTimeout)
		}
		_ = unix.Nanosleep(&pause, nil) // a signal makes it shorter
	}
}
