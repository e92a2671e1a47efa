package state

// UpsertCIDRGroup inserts or replaces the row named g.Name.
func (t *Tables) UpsertCIDRGroup(g CIDRGroup) error { return t.cidrGroups.upsert(&g) }

// DeleteCIDRGroup removes the row; removing what is absent is success.
func (t *Tables) DeleteCIDRGroup(name string) error { return t.cidrGroups.remove(name) }

// CIDRGroups returns all groups of CIDRs ordered by name, and a channel that is
// closed when the table changes.
func (t *Tables) CIDRGroups() ([]CIDRGroup, <-chan struct{}, error) { return t.cidrGroups.all() }

// FeedCIDRGroups returns a feed of the groups of CIDRs, ordered by name. Close it
// when it is no longer read.
func (t *Tables) FeedCIDRGroups() *Feed[CIDRGroup] { return t.cidrGroups.feed() }

// UpsertPolicyService inserts or replaces the row of s.Ref.
func (t *Tables) UpsertPolicyService(s PolicyService) error { return t.policyServices.upsert(&s) }

// DeletePolicyService removes the row; removing what is absent is success.
func (t *Tables) DeletePolicyService(ref ServiceRef) error {
	return t.policyServices.remove(objectKey(ref.Namespace, ref.Name))
}

// PolicyServices returns the Services that policies can name, ordered by
// namespace/name, and a channel that is closed when the table changes.
func (t *Tables) PolicyServices() ([]PolicyService, <-chan struct{}, error) {
	return t.policyServices.all()
}

// FeedPolicyServices returns a feed of the Services that policies can name,
// ordered by namespace/name. Close it when it is no longer read.
func (t *Tables) FeedPolicyServices() *Feed[PolicyService] { return t.policyServices.feed() }

// UpsertPolicySlice inserts or replaces the row of s.Namespace and s.Name.
func (t *Tables) UpsertPolicySlice(s EndpointSlice) error { return t.policySlices.upsert(&s) }

// DeletePolicySlice removes the row; removing what is absent is success.
func (t *Tables) DeletePolicySlice(namespace, name string) error {
	return t.policySlices.remove(objectKey(namespace, name))
}

// PolicySlices returns the EndpointSlices of Services that select no pods, ordered
// by namespace/name, and a channel that is closed when the table changes.
func (t *Tables) PolicySlices() ([]EndpointSlice, <-chan struct{}, error) {
	return t.policySlices.all()
}

// FeedPolicySlices returns a feed of the EndpointSlices of Services that select no
// pods, ordered by namespace/name. Close it when it is no longer read. A slice can
// change its Service.
func (t *Tables) FeedPolicySlices() *Feed[EndpointSlice] { return t.policySlices.feed() }
