package state

import "slices"

// UpsertNetworkPolicy inserts or replaces the row of p.Key().
func (t *Tables) UpsertNetworkPolicy(p NetworkPolicy) error { return t.policies.upsert(&p) }

// DeleteNetworkPolicy removes the row; removing what is absent is success.
func (t *Tables) DeleteNetworkPolicy(key string) error { return t.policies.remove(key) }

func policyKey(p *NetworkPolicy) string {
	if p.Name == "" {
		return ""
	}
	return p.Key()
}

// NetworkPolicies returns all policies ordered by key, and a channel that is
// closed when the table changes.
func (t *Tables) NetworkPolicies() ([]NetworkPolicy, <-chan struct{}, error) { return t.policies.all() }

// FeedPolicies returns a feed of the policies, ordered by key. Close it when it
// is no longer read.
func (t *Tables) FeedPolicies() *Feed[NetworkPolicy] { return t.policies.feed() }

// UpsertNamespace inserts or replaces the row named n.Name.
func (t *Tables) UpsertNamespace(n Namespace) error { return t.namespaces.upsert(&n) }

// DeleteNamespace removes the row; removing what is absent is success.
func (t *Tables) DeleteNamespace(name string) error { return t.namespaces.remove(name) }

// Namespaces returns all namespaces ordered by name, and a channel that is
// closed when the table changes.
func (t *Tables) Namespaces() ([]Namespace, <-chan struct{}, error) { return t.namespaces.all() }

// FeedNamespaces returns a feed of the namespaces, ordered by name. Close it
// when it is no longer read.
func (t *Tables) FeedNamespaces() *Feed[Namespace] { return t.namespaces.feed() }

// NamespaceByName finds one namespace; ok is false when there is none.
func (t *Tables) NamespaceByName(name string) (n Namespace, ok bool, err error) {
	return t.namespaces.get(indexID, name)
}

// UpsertIdentity inserts or replaces the row with i.ID.
func (t *Tables) UpsertIdentity(i Identity) error { return t.identities.upsert(&i) }

// DeleteIdentity removes the row; removing what is absent is success.
func (t *Tables) DeleteIdentity(id uint32) error { return t.identities.remove(numberKey(id)) }

// Identities returns all identities ordered by number, and a channel that is
// closed when the table changes.
func (t *Tables) Identities() ([]Identity, <-chan struct{}, error) { return t.identities.all() }

// FeedIdentities returns a feed of the identities, ordered by number. Close it
// when it is no longer read.
func (t *Tables) FeedIdentities() *Feed[Identity] { return t.identities.feed() }

// IdentityByID finds one identity; ok is false when there is none.
func (t *Tables) IdentityByID(id uint32) (i Identity, ok bool, err error) {
	return t.identities.get(indexID, numberKey(id))
}

// UpsertPod inserts or replaces the row of p.Ref's namespace and name, whatever
// its UID.
func (t *Tables) UpsertPod(p Pod) error { return t.pods.upsert(&p) }

// DeletePod removes the row; removing what is absent is success.
func (t *Tables) DeletePod(namespace, name string) error {
	return t.pods.remove(objectKey(namespace, name))
}

// Pods returns the pods of this node that have a network of their own, ordered
// by namespace/name, and a channel that is closed when the table changes.
func (t *Tables) Pods() ([]Pod, <-chan struct{}, error) { return t.pods.all() }

// FeedPods returns a feed of the pods, ordered by namespace/name. Close it when
// it is no longer read. A pod that was made anew under its name is one change.
func (t *Tables) FeedPods() *Feed[Pod] { return t.pods.feed() }

// PodByName finds one pod; ok is false when there is none. Its UID may be
// another one than the caller's: compare it.
func (t *Tables) PodByName(namespace, name string) (p Pod, ok bool, err error) {
	return t.pods.get(indexID, objectKey(namespace, name))
}

// UpsertNodeEndpoints inserts or replaces the row of n.Node.
func (t *Tables) UpsertNodeEndpoints(n NodeEndpoints) error { return t.nodeEndpoints.upsert(&n) }

// DeleteNodeEndpoints removes the row; removing what is absent is success.
func (t *Tables) DeleteNodeEndpoints(node string) error { return t.nodeEndpoints.remove(node) }

// NodeEndpoints returns what each node publishes, this one included, ordered by
// node, and a channel that is closed when the table changes.
func (t *Tables) NodeEndpoints() ([]NodeEndpoints, <-chan struct{}, error) {
	return t.nodeEndpoints.all()
}

// FeedNodeEndpoints returns a feed of what the nodes publish, ordered by node.
// Close it when it is no longer read.
func (t *Tables) FeedNodeEndpoints() *Feed[NodeEndpoints] { return t.nodeEndpoints.feed() }

// NodeEndpointsOf finds what one node publishes; ok is false when there is
// nothing.
func (t *Tables) NodeEndpointsOf(node string) (n NodeEndpoints, ok bool, err error) {
	return t.nodeEndpoints.get(indexID, node)
}

func sameNodeEndpoints(a, b *NodeEndpoints) bool {
	return a.Node == b.Node && slices.EqualFunc(a.Endpoints, b.Endpoints, PublishedEndpoint.Equal)
}
