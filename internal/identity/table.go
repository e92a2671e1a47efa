package identity

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/placid-net/placid/internal/state"
)

// Table finds identities by their canonical key and by their number. It is safe
// for concurrent use. Identities that were put in must not be changed any more.
type Table struct {
	mu   sync.RWMutex
	byID map[uint32]entry
	// byKey holds the numbers of a key, ascending. There is more than one only
	// while somebody else than the operator wrote one too.
	byKey map[string][]uint32
}

type entry struct {
	identity state.Identity
	key      string
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{byID: map[uint32]entry{}, byKey: map[string][]uint32{}}
}

// Upsert inserts the identity, or replaces the one with its number.
func (t *Table) Upsert(id state.Identity) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deleteLocked(id.ID)
	key := Key(id.Labels, id.NamedPorts)
	t.byID[id.ID] = entry{id, key}
	ids := t.byKey[key]
	at, _ := slices.BinarySearch(ids, id.ID)
	t.byKey[key] = slices.Insert(ids, at, id.ID)
}

// Delete removes the identity; removing what is absent is success.
func (t *Table) Delete(id uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deleteLocked(id)
}

func (t *Table) deleteLocked(id uint32) {
	e, ok := t.byID[id]
	if !ok {
		return
	}
	delete(t.byID, id)
	ids := slices.DeleteFunc(t.byKey[e.key], func(other uint32) bool { return other == id })
	if len(ids) == 0 {
		delete(t.byKey, e.key)
		return
	}
	t.byKey[e.key] = ids
}

// Lookup finds the identity of a canonical key, see Key; of several the one with
// the lowest number, so that all nodes choose the same.
func (t *Table) Lookup(key string) (state.Identity, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	ids := t.byKey[key]
	if len(ids) == 0 {
		return state.Identity{}, false
	}
	return t.byID[ids[0]].identity, true
}

// ByID finds the identity of a number.
func (t *Table) ByID(id uint32) (state.Identity, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, ok := t.byID[id]
	return e.identity, ok
}

// All returns every identity, ordered by number.
func (t *Table) All() []state.Identity {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]state.Identity, 0, len(t.byID))
	for e := range maps.Values(t.byID) {
		out = append(out, e.identity)
	}
	slices.SortFunc(out, func(a, b state.Identity) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Len returns how many identities there are.
func (t *Table) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byID)
}
