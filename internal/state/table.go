package state

import (
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/hashicorp/go-memdb"
)

// indexID is the index by key, with the name that memdb wants.
const indexID = "id"

// errNoKey says that a row has no key.
var errNoKey = errors.New("the row has no key")

// table is one table of the database: rows of T, each under its key, and the
// feeds that follow them.
type table[T any] struct {
	db    *memdb.MemDB
	name  string
	key   func(*T) string
	equal func(a, b *T) bool

	mu    sync.Mutex // held while a row is written and its feeds are told
	feeds map[*Feed[T]]struct{}
}

// index is a unique index of rows by the text that key makes of them.
type index[T any] struct{ key func(*T) string }

// FromObject implements memdb.SingleIndexer.
func (x index[T]) FromObject(raw any) (ok bool, key []byte, err error) {
	k := x.key(raw.(*T))
	return k != "", []byte(k), nil
}

// FromArgs implements memdb.Indexer: the one argument is the key.
func (index[T]) FromArgs(args ...any) ([]byte, error) { return []byte(args[0].(string)), nil }

func newTable[T any](name string, key func(*T) string) *table[T] {
	return &table[T]{
		name: name, key: key, feeds: map[*Feed[T]]struct{}{},
		equal: func(a, b *T) bool { return reflect.DeepEqual(a, b) },
	}
}

// schema describes the table to memdb.
func (t *table[T]) schema() *memdb.TableSchema {
	return &memdb.TableSchema{Name: t.name, Indexes: map[string]*memdb.IndexSchema{
		indexID: {Name: indexID, Unique: true, Indexer: index[T]{t.key}},
	}}
}

// open gives the table its database, and reads it to see that it is there.
func (t *table[T]) open(db *memdb.MemDB) error {
	t.db = db
	_, err := t.each(func(*T) {})
	return err
}

// upsert inserts or replaces the row of the same key. A row that is equal to
// what is there changes nothing and wakes nobody.
func (t *table[T]) upsert(row *T) error {
	key := t.key(row)
	if key == "" {
		return fmt.Errorf("insert into %s: %w", t.name, errNoKey)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old, err := t.first(indexID, key)
	if err != nil {
		return err
	}
	if old != nil && t.equal(old, row) {
		return nil
	}
	txn := t.db.Txn(true)
	defer txn.Abort()
	if err := txn.Insert(t.name, row); err != nil {
		return fmt.Errorf("insert into %s: %w", t.name, err)
	}
	txn.Commit()
	t.tellLocked(key, old, row)
	return nil
}

// remove takes the row of the key away; an absent one is success.
func (t *table[T]) remove(key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, err := t.first(indexID, key)
	if err != nil || old == nil {
		return err
	}
	txn := t.db.Txn(true)
	defer txn.Abort()
	if err := txn.Delete(t.name, old); err != nil {
		return fmt.Errorf("delete from %s: %w", t.name, err)
	}
	txn.Commit()
	t.tellLocked(key, old, nil)
	return nil
}

func (t *table[T]) tellLocked(key string, old, row *T) {
	for f := range t.feeds {
		f.put(key, old, row)
	}
}

// first returns the row under a key of an index, or nil.
func (t *table[T]) first(index, key string) (*T, error) {
	txn := t.db.Txn(false)
	defer txn.Abort()
	o, err := txn.First(t.name, index, key)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.name, err)
	}
	if o == nil {
		return nil, nil
	}
	return o.(*T), nil
}

// get is first for readers.
func (t *table[T]) get(index, key string) (row T, ok bool, err error) {
	p, err := t.first(index, key)
	if p == nil {
		return row, false, err
	}
	return *p, true, nil
}

// all returns the rows ordered by key, and a channel that is closed when the
// table changes.
func (t *table[T]) all() ([]T, <-chan struct{}, error) {
	var out []T
	changed, err := t.each(func(row *T) { out = append(out, *row) })
	return out, changed, err
}

func (t *table[T]) each(visit func(*T)) (<-chan struct{}, error) {
	txn := t.db.Txn(false)
	defer txn.Abort()
	it, err := txn.Get(t.name, indexID)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.name, err)
	}
	for o := it.Next(); o != nil; o = it.Next() {
		visit(o.(*T))
	}
	return it.WatchCh(), nil
}

// feed starts a feed with every row that is there.
func (t *table[T]) feed() *Feed[T] {
	f := newFeed(t.equal, t.drop)
	t.mu.Lock()
	defer t.mu.Unlock()
	// It cannot go wrong where open did not.
	_, _ = t.each(func(row *T) { f.put(t.key(row), nil, row) })
	t.feeds[f] = struct{}{}
	return f
}

func (t *table[T]) drop(f *Feed[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.feeds, f)
}
