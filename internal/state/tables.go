package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/go-memdb"
)

// indexAttach is the endpoints' index by attachment.
const indexAttach = "attachment"

// Tables are the desired-state tables of one node. All methods are safe for
// concurrent use; readers see immutable snapshots. An upsert of a row that is
// equal to the one that is there changes nothing and wakes nobody; one of a row
// without a key is an error. Deleting what is absent is success.
type Tables struct {
	nodes         *table[Node]
	endpoints     *table[Endpoint]
	policies      *table[NetworkPolicy]
	namespaces    *table[Namespace]
	identities    *table[Identity]
	pods          *table[Pod]
	nodeEndpoints *table[NodeEndpoints]
	services      *table[Service]
	slices        *table[EndpointSlice]

	cidrGroups     *table[CIDRGroup]
	policyServices *table[PolicyService]
	policySlices   *table[EndpointSlice]
}

// NewTables returns empty tables.
func NewTables() (*Tables, error) {
	t := &Tables{
		nodes:         newTable("node", func(n *Node) string { return n.Name }),
		endpoints:     newTable("endpoint", func(e *Endpoint) string { return numberKey(e.ID) }),
		policies:      newTable("networkPolicy", policyKey),
		namespaces:    newTable("namespace", func(n *Namespace) string { return n.Name }),
		identities:    newTable("identity", func(i *Identity) string { return numberKey(i.ID) }),
		pods:          newTable("pod", func(p *Pod) string { return objectKey(p.Ref.Namespace, p.Ref.Name) }),
		nodeEndpoints: newTable("nodeEndpoints", func(n *NodeEndpoints) string { return n.Node }),
		services:      newTable("service", func(s *Service) string { return objectKey(s.Ref.Namespace, s.Ref.Name) }),
		slices:        newTable("endpointSlice", func(s *EndpointSlice) string { return objectKey(s.Namespace, s.Name) }),

		cidrGroups:     newTable("cidrGroup", func(g *CIDRGroup) string { return g.Name }),
		policyServices: newTable("policyService", func(s *PolicyService) string { return objectKey(s.Ref.Namespace, s.Ref.Name) }),
		policySlices:   newTable("policySlice", func(s *EndpointSlice) string { return objectKey(s.Namespace, s.Name) }),
	}
	t.nodeEndpoints.equal = sameNodeEndpoints
	t.services.equal, t.slices.equal, t.policySlices.equal = sameService, sameSlice, sameSlice
	endpoints := t.endpoints.schema()
	endpoints.Indexes[indexAttach] = &memdb.IndexSchema{
		Name: indexAttach, Unique: true, Indexer: index[Endpoint]{func(e *Endpoint) string { return e.Attachment.String() }},
	}
	all := map[string]*memdb.TableSchema{}
	for _, s := range []*memdb.TableSchema{
		t.nodes.schema(), endpoints, t.policies.schema(), t.namespaces.schema(), t.identities.schema(),
		t.pods.schema(), t.nodeEndpoints.schema(), t.services.schema(), t.slices.schema(),
		t.cidrGroups.schema(), t.policyServices.schema(), t.policySlices.schema(),
	} {
		all[s.Name] = s
	}
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: all})
	if err != nil {
		return nil, fmt.Errorf("create state tables: %w", err)
	}
	err = errors.Join(
		t.nodes.open(db), t.endpoints.open(db), t.policies.open(db), t.namespaces.open(db),
		t.identities.open(db), t.pods.open(db), t.nodeEndpoints.open(db), t.services.open(db), t.slices.open(db),
		t.cidrGroups.open(db), t.policyServices.open(db), t.policySlices.open(db),
	)
	if err != nil {
		return nil, fmt.Errorf("create state tables: %w", err)
	}
	return t, nil
}

// numberKey is a key that orders as its number does.
func numberKey(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

// objectKey is the key of an object in a namespace; "" when it has no name.
func objectKey(namespace, name string) string {
	if name == "" {
		return ""
	}
	return namespace + "/" + name
}

// UpsertNode inserts or replaces the row named n.Name.
func (t *Tables) UpsertNode(n Node) error { return t.nodes.upsert(&n) }

// DeleteNode removes the row; removing what is absent is success.
func (t *Tables) DeleteNode(name string) error { return t.nodes.remove(name) }

// Nodes returns all nodes ordered by name, and a channel that is closed when
// the table changes.
func (t *Tables) Nodes() ([]Node, <-chan struct{}, error) { return t.nodes.all() }

// FeedNodes returns a feed of the nodes, ordered by name. Close it when it is no
// longer read.
func (t *Tables) FeedNodes() *Feed[Node] { return t.nodes.feed() }

// NodeByName finds one node; ok is false when there is none.
func (t *Tables) NodeByName(name string) (n Node, ok bool, err error) {
	return t.nodes.get(indexID, name)
}

// UpsertEndpoint inserts or replaces the row with e.ID.
func (t *Tables) UpsertEndpoint(e Endpoint) error { return t.endpoints.upsert(&e) }

// DeleteEndpoint removes the row; removing what is absent is success.
func (t *Tables) DeleteEndpoint(id uint32) error { return t.endpoints.remove(numberKey(id)) }

// Endpoints returns all endpoints ordered by id, and a channel that is closed
// when the table changes.
func (t *Tables) Endpoints() ([]Endpoint, <-chan struct{}, error) { return t.endpoints.all() }

// FeedEndpoints returns a feed of the endpoints, ordered by id. Close it when
// it is no longer read.
func (t *Tables) FeedEndpoints() *Feed[Endpoint] { return t.endpoints.feed() }

// EndpointByAttachment finds one endpoint; ok is false when there is none.
func (t *Tables) EndpointByAttachment(a AttachmentID) (e Endpoint, ok bool, err error) {
	return t.endpoints.get(indexAttach, a.String())
}

// EndpointByID finds one endpoint; ok is false when there is none.
func (t *Tables) EndpointByID(id uint32) (e Endpoint, ok bool, err error) {
	return t.endpoints.get(indexID, numberKey(id))
}
