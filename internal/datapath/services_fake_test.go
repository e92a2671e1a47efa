package datapath

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// errKilled is what every write says after the agent was killed.
var errKilled = errors.New("the agent was killed")

// errKernel is an error that nobody can do anything about at once.
var errKernel = errors.New("fake kernel says no")

// fakeKernel holds the tables of services, and looks after every single write
// whether programs that run can do their work.
type fakeKernel struct {
	t         testing.TB
	frontends *fakeTable[abi.CFrontendKey, abi.CFrontend]
	backends  *fakeTable[abi.CBackendKey, abi.CBackend]
	maglev    *fakeMaglev
	ranges    *fakeTable[abi.CSourceRangeKey, uint32]

	killIn   int            // writes until the agent is killed; < 0: never
	failIn   map[string]int // by table, writes until one fails once with errKernel
	failed   bool           // one did
	noMemory string         // a table whose new rows the kernel has no memory for
	tampered bool           // somebody else changed tables: they need not be whole
	// held are values that programs may have in hand: those that were replaced or
	// removed since the last wait.
	held   map[abi.CFrontend]bool
	writes int
	story  []string
}

func newFakeKernel(t testing.TB, frontends, backends, maglev, ranges int) *fakeKernel {
	k := &fakeKernel{t: t, killIn: -1, held: map[abi.CFrontend]bool{}, failIn: map[string]int{}}
	k.frontends = newFakeTable[abi.CFrontendKey, abi.CFrontend](k, FrontendMap, frontends, unix.E2BIG)
	k.frontends.replaced = func(v abi.CFrontend) { k.held[v] = true }
	k.backends = newFakeTable[abi.CBackendKey, abi.CBackend](k, BackendMap, backends, unix.E2BIG)
	k.maglev = &fakeMaglev{newFakeTable[uint32, []uint32](k, MaglevMap, maglev, unix.E2BIG)}
	k.ranges = newFakeTable[abi.CSourceRangeKey, uint32](k, SourceRangeMap, ranges, unix.ENOSPC)
	return k
}

func (k *fakeKernel) store() serviceStore {
	return serviceStore{frontends: k.frontends, backends: k.backends, maglev: k.maglev, ranges: k.ranges, wait: k.wait}
}

func (k *fakeKernel) wait() error {
	if k.killIn == 0 {
		return errKilled
	}
	clear(k.held)
	return nil
}

// step is called before each write.
func (k *fakeKernel) step(table string) error {
	if k.killIn == 0 {
		return errKilled
	}
	if k.killIn > 0 {
		k.killIn--
	}
	if n, ok := k.failIn[table]; ok {
		if n == 0 {
			delete(k.failIn, table)
			k.failed = true
			return errKernel
		}
		k.failIn[table] = n - 1
	}
	k.writes++
	return nil
}

// check is called after each write: what a program has in hand leads somewhere.
func (k *fakeKernel) check(verb string, key any) {
	k.t.Helper()
	if k.tampered {
		return
	}
	for f, v := range k.frontends.rows {
		if err := k.checkFrontend(v); err != nil {
			k.t.Fatalf("after %s %v: frontend %v: %v\n%v", verb, key, f, err, k.story)
		}
	}
	for v := range k.held {
		if err := k.checkFrontend(v); err != nil {
			k.t.Fatalf("after %s %v: a frontend that a program may still hold: %v\n%v", verb, key, err, k.story)
		}
	}
}

func (k *fakeKernel) checkFrontend(v abi.CFrontend) error {
	closed := v.Flags&uint32(abi.CFrontendFlagsFRONTEND_CLOSED) != 0
	if closed != (v.Service == 0) {
		return fmt.Errorf("it has service %d and flags %#x", v.Service, v.Flags)
	}
	for scope, list := range v.List {
		for slot := range list.Count {
			b, ok := k.backends.rows[abi.CBackendKey{List: list.Id, Slot: slot}]
			if !ok {
				return fmt.Errorf("it leads to %d backends of list %d, slot %d is missing", list.Count, list.Id, slot)
			}
			if v.Flags&uint32(abi.CFrontendFlagsFRONTEND_AFFINITY) != 0 && k.backends.rows[byIDKey(list.Id, b.Id)] != b {
				return fmt.Errorf("list %d has no backend %d by its id", list.Id, b.Id)
			}
		}
		maglev := scope == 0 && v.Flags&uint32(abi.CFrontendFlagsFRONTEND_MAGLEV) != 0
		if table := k.maglev.rows[list.Id]; maglev && len(table) == 0 {
			return fmt.Errorf("list %d has no Maglev table", list.Id)
		}
	}
	return nil
}

// fakeTable is one table of a fakeKernel.
type fakeTable[K comparable, V any] struct {
	kernel   *fakeKernel
	name     string
	limit    int
	full     error
	rows     map[K]V
	replaced func(V)
}

func newFakeTable[K comparable, V any](k *fakeKernel, name string, limit int, full error) *fakeTable[K, V] {
	return &fakeTable[K, V]{kernel: k, name: name, limit: limit, full: full, rows: map[K]V{}, replaced: func(V) {}}
}

func (t *fakeTable[K, V]) size() int { return t.limit }

func (t *fakeTable[K, V]) put(keys []K, values []V) error {
	for i, key := range keys {
		if err := t.kernel.step(t.name); err != nil {
			return err
		}
		old, had := t.rows[key]
		if !had && len(t.rows) >= t.limit {
			return fmt.Errorf("%s: %w", t.name, t.full)
		}
		if !had && t.kernel.noMemory == t.name {
			return fmt.Errorf("%s: %w", t.name, unix.ENOMEM)
		}
		if had {
			t.replaced(old)
		}
		t.rows[key] = values[i]
		t.kernel.check("writing", key)
	}
	return nil
}

func (t *fakeTable[K, V]) remove(keys []K) error {
	for _, key := range keys {
		if err := t.kernel.step(t.name); err != nil {
			return err
		}
		if old, had := t.rows[key]; had {
			t.replaced(old)
		}
		delete(t.rows, key)
		t.kernel.check("deleting", key)
	}
	return nil
}

func (t *fakeTable[K, V]) each(f func(K, V)) error {
	if t.kernel.killIn == 0 {
		return errKilled
	}
	for key, value := range maps.Clone(t.rows) {
		f(key, value)
	}
	return nil
}

type fakeMaglev struct {
	*fakeTable[uint32, []uint32]
}

func (t *fakeMaglev) each(f func(uint32, []uint32)) error {
	return t.fakeTable.each(func(key uint32, _ []uint32) { f(key, nil) })
}

func (t *fakeMaglev) get(list uint32) ([]uint32, bool, error) {
	row, ok := t.rows[list]
	return row, ok, nil
}
