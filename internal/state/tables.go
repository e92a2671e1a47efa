package state

import (
	"fmt"

	"github.com/hashicorp/go-memdb"
)

const (
	tableNode     = "node"
	tableEndpoint = "endpoint"
	indexID       = "id"
	indexAttach   = "attachment"
)

// Tables are the desired-state tables of one node. All methods are safe for
// concurrent use; readers see immutable snapshots.
type Tables struct{ db *memdb.MemDB }

// endpointRow wraps Endpoint with the flat index fields that memdb wants.
type endpointRow struct {
	ID         uint32
	Attachment string
	Endpoint   Endpoint
}

// NewTables returns empty tables.
func NewTables() (*Tables, error) {
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		tableNode: {Name: tableNode, Indexes: map[string]*memdb.IndexSchema{
			indexID: {Name: indexID, Unique: true, Indexer: &memdb.StringFieldIndex{Field: "Name"}},
		}},
		tableEndpoint: {Name: tableEndpoint, Indexes: map[string]*memdb.IndexSchema{
			indexID:     {Name: indexID, Unique: true, Indexer: &memdb.UintFieldIndex{Field: "ID"}},
			indexAttach: {Name: indexAttach, Unique: true, Indexer: &memdb.StringFieldIndex{Field: "Attachment"}},
		}},
	}})
	if err != nil {
		return nil, fmt.Errorf("create state tables: %w", err)
	}
	return &Tables{db: db}, nil
}

// UpsertNode inserts or replaces the row named n.Name.
func (t *Tables) UpsertNode(n Node) error { return t.insert(tableNode, &n) }

// DeleteNode removes the row; removing what is absent is success.
func (t *Tables) DeleteNode(name string) error { return t.deleteAll(tableNode, indexID, name) }

// Nodes returns all nodes ordered by name, and a channel that is closed when
// the table changes.
func (t *Tables) Nodes() ([]Node, <-chan struct{}, error) {
	var out []Node
	ch, err := t.each(tableNode, func(o any) { out = append(out, *o.(*Node)) })
	return out, ch, err
}

// UpsertEndpoint inserts or replaces the row with e.ID.
func (t *Tables) UpsertEndpoint(e Endpoint) error {
	return t.insert(tableEndpoint, &endpointRow{ID: e.ID, Attachment: e.Attachment.String(), Endpoint: e})
}

// DeleteEndpoint removes the row; removing what is absent is success.
func (t *Tables) DeleteEndpoint(id uint32) error { return t.deleteAll(tableEndpoint, indexID, id) }

// Endpoints returns all endpoints ordered by id, and a channel that is closed
// when the table changes.
func (t *Tables) Endpoints() ([]Endpoint, <-chan struct{}, error) {
	var out []Endpoint
	ch, err := t.each(tableEndpoint, func(o any) { out = append(out, o.(*endpointRow).Endpoint) })
	return out, ch, err
}

// EndpointByAttachment finds one endpoint; ok is false when there is none.
func (t *Tables) EndpointByAttachment(a AttachmentID) (e Endpoint, ok bool, err error) {
	txn := t.db.Txn(false)
	defer txn.Abort()
	o, err := txn.First(tableEndpoint, indexAttach, a.String())
	if err != nil || o == nil {
		return Endpoint{}, false, err
	}
	return o.(*endpointRow).Endpoint, true, nil
}

func (t *Tables) insert(table string, row any) error {
	txn := t.db.Txn(true)
	defer txn.Abort()
	if err := txn.Insert(table, row); err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	txn.Commit()
	return nil
}

func (t *Tables) deleteAll(table, index string, key any) error {
	txn := t.db.Txn(true)
	defer txn.Abort()
	if _, err := txn.DeleteAll(table, index, key); err != nil {
		return fmt.Errorf("delete from %s: %w", table, err)
	}
	txn.Commit()
	return nil
}

func (t *Tables) each(table string, visit func(any)) (<-chan struct{}, error) {
	txn := t.db.Txn(false)
	defer txn.Abort()
	it, err := txn.Get(table, indexID)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", table, err)
	}
	for o := it.Next(); o != nil; o = it.Next() {
		visit(o)
	}
	return it.WatchCh(), nil
}
