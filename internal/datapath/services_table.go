package datapath

import (
	"errors"
	"fmt"
	"time"

	"github.com/placid-net/placid/internal/datapath/loader"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// serviceTable is one map that the writer of services alone fills.
type serviceTable[K comparable, V any] interface {
	// put writes rows in their order. When it fails, those before the one that
	// failed are written.
	put(keys []K, values []V) error
	// remove deletes rows. An absent one is success.
	remove(keys []K) error
	// each calls f for every row. Tables whose values are large give the zero value.
	each(f func(K, V)) error
	// size is the most rows that it takes.
	size() int
}

// maglevTable is the serviceTable of Maglev tables.
type maglevTable interface {
	serviceTable[uint32, []uint32]
	// get reads the table of one list.
	get(list uint32) (table []uint32, ok bool, err error)
}

// noRoom tells whether the kernel refused a row because the table or its memory
// is full: hash tables say E2BIG, tries ENOSPC.
func noRoom(err error) bool {
	return errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM)
}

// batchRows is how many rows go to the kernel at once.
const batchRows = 4096

// kernelTable is a serviceTable in the kernel, with values of fixed size.
type kernelTable[K comparable, V any] struct {
	name  string
	table *loader.Table
}

func (t kernelTable[K, V]) size() int { return int(t.table.MaxEntries()) }

func (t kernelTable[K, V]) put(keys []K, values []V) error {
	for len(keys) > 0 {
		n := min(len(keys), batchRows)
		done, err := t.putBatch(keys[:n], values[:n])
		if err != nil {
			return fmt.Errorf("write %d rows to %s (%d entries at most): %w", len(keys)-done, t.name, t.size(), err)
		}
		keys, values = keys[n:], values[n:]
	}
	return nil
}

// putBatch returns how many rows are written.
func (t kernelTable[K, V]) putBatch(keys []K, values []V) (int, error) {
	done := 0
	return done, withMemory(func() error {
		if len(keys)-done == 1 {
			return t.table.Put(&keys[done], &values[done])
		}
		n, err := t.table.BatchUpdate(keys[done:], values[done:], nil)
		done += n
		return err
	})
}

// Attempts to write when the kernel is out of memory at once: it makes some in
// the background, a few entries at a time.
const (
	memoryAttempts = 50
	memoryWait     = time.Millisecond
)

func withMemory(write func() error) error {
	var err error
	for range memoryAttempts {
		if err = write(); !errors.Is(err, unix.ENOMEM) {
			return err
		}
		time.Sleep(memoryWait)
	}
	return err
}

func (t kernelTable[K, V]) remove(keys []K) error {
	for len(keys) > 0 {
		n := min(len(keys), batchRows)
		done, err := n, error(nil)
		if n == 1 {
			err = t.table.Delete(&keys[0])
		} else {
			done, err = t.table.BatchDelete(keys[:n], nil)
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			done, err = min(done+1, n), nil // go on behind the absent one
		}
		if err != nil {
			return fmt.Errorf("delete %d rows from %s: %w", len(keys), t.name, err)
		}
		keys = keys[done:]
	}
	return nil
}

func (t kernelTable[K, V]) each(f func(K, V)) error {
	if t.table.Type() == ebpf.LPMTrie {
		return t.eachSingle(f)
	}
	keys, values := make([]K, batchRows), make([]V, batchRows)
	table := t.table.Map() // one cursor, one map
	var cursor ebpf.MapBatchCursor
	for {
		n, err := table.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			f(keys[i], values[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", t.name, err)
		}
	}
}

func (t kernelTable[K, V]) eachSingle(f func(K, V)) error {
	var key K
	var value V
	it := t.table.Iterate()
	for it.Next(&key, &value) {
		f(key, value)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read %s: %w", t.name, err)
	}
	return nil
}

// maglevKernel is the Maglev table in the kernel. Its values are large: rows are
// written one by one, and walked by their keys.
type maglevKernel struct{ table *loader.Table }

func (t maglevKernel) size() int { return int(t.table.MaxEntries()) }

func (t maglevKernel) put(keys []uint32, values [][]uint32) error {
	for i, key := range keys {
		if err := withMemory(func() error { return t.table.Put(key, values[i]) }); err != nil {
			return fmt.Errorf("write table of list %d to %s (%d entries at most): %w", key, MaglevMap, t.size(), err)
		}
	}
	return nil
}

func (t maglevKernel) remove(keys []uint32) error {
	for _, key := range keys {
		if err := t.table.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete table of list %d from %s: %w", key, MaglevMap, err)
		}
	}
	return nil
}

func (t maglevKernel) get(key uint32) ([]uint32, bool, error) {
	value := make([]uint32, t.table.ValueSize()/4)
	err := t.table.Lookup(key, value)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read table of list %d of %s: %w", key, MaglevMap, err)
	}
	return value, true, nil
}

func (t maglevKernel) each(f func(uint32, []uint32)) error {
	var key uint32
	err := t.table.NextKey(nil, &key)
	for err == nil {
		f(key, nil)
		err = t.table.NextKey(key, &key)
	}
	if !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("read %s: %w", MaglevMap, err)
	}
	return nil
}
