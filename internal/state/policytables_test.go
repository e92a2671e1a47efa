package state

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tableCase is one table and what is done to it.
type tableCase struct {
	name string
	// put writes row n of two in version v of two.
	put func(t *Tables, n, v int) error
	del func(t *Tables, n int) error
	// get returns the number of rows and the channel.
	get func(t *Tables) (int, <-chan struct{}, error)
	// find tells whether row 0 is there in version v.
	find func(t *Tables, v int) (bool, error)
	// feed returns the number of changes that wait.
	feed  func(t *Tables) func() int
	empty func(t *Tables) error // writes a row without a key
}

func follow[T any](f *Feed[T]) func() int { return func() int { return len(f.Take()) } }

func count[T any](rows []T, ch <-chan struct{}, err error) (int, <-chan struct{}, error) {
	return len(rows), ch, err
}

func tableCases() []tableCase {
	name := []string{"a", "ab"} // one the beginning of the other
	labels := []map[string]string{{"v": "1"}, {"v": "2"}}
	since := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	published := func(v int) []PublishedEndpoint {
		return []PublishedEndpoint{{
			Pod: PodRef{Namespace: "n", Name: "p"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
			// The same time, in another zone each time it is asked.
			Identity: IdentityInit + uint32(v), Since: since.In(time.FixedZone("", v*3600)),
		}}
	}
	return []tableCase{
		{
			name: "network policies",
			put: func(t *Tables, n, v int) error {
				return t.UpsertNetworkPolicy(NetworkPolicy{Namespace: "n", Name: name[n], Subject: Selector{MatchLabels: labels[v]}})
			},
			del: func(t *Tables, n int) error { return t.DeleteNetworkPolicy("n/" + name[n]) },
			get: func(t *Tables) (int, <-chan struct{}, error) { return count(t.NetworkPolicies()) },
			find: func(t *Tables, v int) (bool, error) {
				rows, _, err := t.NetworkPolicies()
				return len(rows) > 0 && cmp.Equal(rows[0].Subject.MatchLabels, labels[v]), err
			},
			feed:  func(t *Tables) func() int { return follow(t.FeedPolicies()) },
			empty: func(t *Tables) error { return t.UpsertNetworkPolicy(NetworkPolicy{Namespace: "n"}) },
		}, {
			name: "groups of CIDRs",
			put:  func(t *Tables, n, v int) error { return t.UpsertCIDRGroup(CIDRGroup{Name: name[n], Labels: labels[v]}) },
			del:  func(t *Tables, n int) error { return t.DeleteCIDRGroup(name[n]) },
			get:  func(t *Tables) (int, <-chan struct{}, error) { return count(t.CIDRGroups()) },
			find: func(t *Tables, v int) (bool, error) {
				rows, _, err := t.CIDRGroups()
				return len(rows) > 0 && cmp.Equal(rows[0].Labels, labels[v]), err
			},
			feed:  func(t *Tables) func() int { return follow(t.FeedCIDRGroups()) },
			empty: func(t *Tables) error { return t.UpsertCIDRGroup(CIDRGroup{}) },
		}, {
			name: "services that policies name",
			put: func(t *Tables, n, v int) error {
				return t.UpsertPolicyService(PolicyService{Ref: ServiceRef{Namespace: "n", Name: name[n]}, Labels: labels[v]})
			},
			del: func(t *Tables, n int) error { return t.DeletePolicyService(ServiceRef{Namespace: "n", Name: name[n]}) },
			get: func(t *Tables) (int, <-chan struct{}, error) { return count(t.PolicyServices()) },
			find: func(t *Tables, v int) (bool, error) {
				rows, _, err := t.PolicyServices()
				return len(rows) > 0 && cmp.Equal(rows[0].Labels, labels[v]), err
			},
			feed:  func(t *Tables) func() int { return follow(t.FeedPolicyServices()) },
			empty: func(t *Tables) error { return t.UpsertPolicyService(PolicyService{Labels: labels[0]}) },
		}, {
			name: "slices that policies name",
			put: func(t *Tables, n, v int) error {
				return t.UpsertPolicySlice(EndpointSlice{Namespace: "n", Name: name[n], Service: labels[v]["v"]})
			},
			del: func(t *Tables, n int) error { return t.DeletePolicySlice("n", name[n]) },
			get: func(t *Tables) (int, <-chan struct{}, error) { return count(t.PolicySlices()) },
			find: func(t *Tables, v int) (bool, error) {
				rows, _, err := t.PolicySlices()
				return len(rows) > 0 && rows[0].Service == labels[v]["v"], err
			},
			feed:  func(t *Tables) func() int { return follow(t.FeedPolicySlices()) },
			empty: func(t *Tables) error { return t.UpsertPolicySlice(EndpointSlice{Namespace: "n"}) },
		}, {
			name: "nodes",
			put:  func(t *Tables, n, v int) error { return t.UpsertNode(Node{Name: name[n], Labels: labels[v]}) },
			del:  func(t *Tables, n int) error { return t.DeleteNode(name[n]) },
			get:  func(t *Tables) (int, <-chan struct{}, error) { return count(t.Nodes()) },
			find: func(t *Tables, v int) (bool, error) {
				row, ok, err := t.NodeByName("a")
				return ok && cmp.Equal(row.Labels, labels[v]), err
			},
			feed:  func(t *Tables) func() int { return follow(t.FeedNodes()) },
			empty: func(t *Tables) error { return t.UpsertNode(Node{}) },
		}, {
			name: "namespaces",
			put:  func(t *Tables, n, v int) error { return t.UpsertNamespace(Namespace{Name: name[n], Labels: labels[v]}) },
			del:  func(t *Tables, n int) error { return t.DeleteNamespace(name[n]) },
			get:  func(t *Tables) (int, <-chan struct{}, error) { return count(t.Namespaces()) },
			find: func(t *Tables, v int) (bool, error) {
				row, ok, err := t.NamespaceByName("a")
				return ok && cmp.Equal(row.Labels, labels[v]), err
			},
			feed:  func(t *Tables) func() int { return follow(t.FeedNamespaces()) },
			empty: func(t *Tables) error { return t.UpsertNamespace(Namespace{}) },
		}, {
			name: "identities",
			put: func(t *Tables, n, v int) error {
				return t.UpsertIdentity(Identity{ID: uint32(300 + n), Labels: labels[v]})
			},
			del: func(t *Tables, n int) error { return t.DeleteIdentity(uint32(300 + n)) },
			get: func(t *Tables) (int, <-chan struct{}, error) { return count(t.Identities()) },
			find: func(t *Tables, v int) (bool, error) {
				row, ok, err := t.IdentityByID(300)
				return ok && cmp.Equal(row.Labels, labels[v]), err
			},
			feed: func(t *Tables) func() int { return follow(t.FeedIdentities()) },
		}, {
			name: "pods",
			put: func(t *Tables, n, v int) error {
				return t.UpsertPod(Pod{Ref: PodRef{Namespace: "n", Name: name[n]}, Labels: labels[v]})
			},
			del: func(t *Tables, n int) error { return t.DeletePod("n", name[n]) },
			get: func(t *Tables) (int, <-chan struct{}, error) { return count(t.Pods()) },
			find: func(t *Tables, v int) (bool, error) {
				row, ok, err := t.PodByName("n", "a")
				return ok && cmp.Equal(row.Labels, labels[v]), err
			},
			feed:  func(t *Tables) func() int { return follow(t.FeedPods()) },
			empty: func(t *Tables) error { return t.UpsertPod(Pod{Labels: labels[0]}) },
		}, {
			name: "node endpoints",
			put: func(t *Tables, n, v int) error {
				return t.UpsertNodeEndpoints(NodeEndpoints{Node: name[n], Endpoints: published(v)})
			},
			del: func(t *Tables, n int) error { return t.DeleteNodeEndpoints(name[n]) },
			get: func(t *Tables) (int, <-chan struct{}, error) { return count(t.NodeEndpoints()) },
			find: func(t *Tables, v int) (bool, error) {
				row, ok, err := t.NodeEndpointsOf("a")
				return ok && cmp.Equal(row.Endpoints, published(v)), err
			},
			feed:  func(t *Tables) func() int { return follow(t.FeedNodeEndpoints()) },
			empty: func(t *Tables) error { return t.UpsertNodeEndpoints(NodeEndpoints{}) },
		}, {
			name: "services",
			put: func(t *Tables, n, v int) error {
				return t.UpsertService(Service{
					Ref: ServiceRef{Namespace: "n", Name: name[n]}, CreatedAt: since.In(time.FixedZone("", n)), Annotations: labels[v],
				})
			},
			del: func(t *Tables, n int) error { return t.DeleteService(ServiceRef{Namespace: "n", Name: name[n]}) },
			get: func(t *Tables) (int, <-chan struct{}, error) { return count(t.Services()) },
			find: func(t *Tables, v int) (bool, error) {
				row, ok, err := t.ServiceByRef(ServiceRef{Namespace: "n", Name: "a"})
				return ok && cmp.Equal(row.Annotations, labels[v]), err
			},
			feed:  func(t *Tables) func() int { return follow(t.FeedServices()) },
			empty: func(t *Tables) error { return t.UpsertService(Service{Ref: ServiceRef{Namespace: "n"}}) },
		}, {
			name: "endpoint slices",
			put: func(t *Tables, n, v int) error {
				return t.UpsertSlice(EndpointSlice{
					Namespace: "n", Name: name[n], Service: "s",
					Backends: []SliceEndpoint{{Addr: netip.MustParseAddr("10.0.0.1"), Ready: v == 0, HintZones: []string{"z"}}},
				})
			},
			del: func(t *Tables, n int) error { return t.DeleteSlice("n", name[n]) },
			get: func(t *Tables) (int, <-chan struct{}, error) { return count(t.Slices()) },
			find: func(t *Tables, v int) (bool, error) {
				rows, _, err := t.Slices()
				return len(rows) > 0 && rows[0].Name == "a" && rows[0].Backends[0].Ready == (v == 0), err
			},
			feed:  func(t *Tables) func() int { return follow(t.FeedSlices()) },
			empty: func(t *Tables) error { return t.UpsertSlice(EndpointSlice{Namespace: "n"}) },
		}, {
			name: "endpoints",
			put: func(t *Tables, n, v int) error {
				return t.UpsertEndpoint(Endpoint{ID: uint32(n), Attachment: AttachmentID{ContainerID: name[n]}, MTU: v})
			},
			del: func(t *Tables, n int) error { return t.DeleteEndpoint(uint32(n)) },
			get: func(t *Tables) (int, <-chan struct{}, error) { return count(t.Endpoints()) },
			find: func(t *Tables, v int) (bool, error) {
				row, ok, err := t.EndpointByAttachment(AttachmentID{ContainerID: "a"})
				return ok && row.MTU == v, err
			},
			feed: func(t *Tables) func() int { return follow(t.FeedEndpoints()) },
		}, {
			name: "nodes",
			put:  func(t *Tables, n, v int) error { return t.UpsertNode(Node{Name: name[n], MTU: v}) },
			del:  func(t *Tables, n int) error { return t.DeleteNode(name[n]) },
			get:  func(t *Tables) (int, <-chan struct{}, error) { return count(t.Nodes()) },
			find: func(t *Tables, v int) (bool, error) {
				row, ok, err := t.NodeByName("a")
				return ok && row.MTU == v && row.Name == "a", err
			},
			feed:  func(t *Tables) func() int { return follow(t.nodes.feed()) },
			empty: func(t *Tables) error { return t.UpsertNode(Node{MTU: 1}) },
		},
	}
}

func TestEveryTable(t *testing.T) {
	for _, tc := range tableCases() {
		t.Run(tc.name, func(t *testing.T) {
			tables := newTables(t)
			feed := tc.feed(tables)
			// step does something and checks the rows, and who is woken.
			step := func(what string, do func() error, rows int, wakes bool) {
				t.Helper()
				_, ch, err := tc.get(tables)
				must(t, err)
				must(t, do())
				n, _, err := tc.get(tables)
				must(t, err)
				if n != rows || changed(ch) != wakes || (feed() > 0) != wakes {
					t.Errorf("%s: %d rows, channel closed %t, want %d and %t for it and the feed", what, n, changed(ch), rows, wakes)
				}
			}
			step("insert", func() error { return tc.put(tables, 0, 0) }, 1, true)
			step("insert again", func() error { return tc.put(tables, 0, 0) }, 1, false)
			step("another row", func() error { return tc.put(tables, 1, 0) }, 2, true)
			step("replace", func() error { return tc.put(tables, 0, 1) }, 2, true)
			for v, want := range []bool{false, true} {
				if ok, err := tc.find(tables, v); err != nil || ok != want {
					t.Errorf("the row is found in version %d: %t, %v, want %t", v, ok, err, want)
				}
			}
			step("delete", func() error { return tc.del(tables, 0) }, 1, true)
			step("delete again", func() error { return tc.del(tables, 0) }, 1, false)
			if ok, err := tc.find(tables, 1); ok || err != nil {
				t.Errorf("a deleted row is found: %t, %v", ok, err)
			}
			if tc.empty != nil {
				if err := tc.empty(tables); !errors.Is(err, errNoKey) {
					t.Errorf("a row without a key gives %v, want %v", err, errNoKey)
				}
			}
			step("delete the other", func() error { return tc.del(tables, 1) }, 0, true)
		})
	}
}

func TestPublishedEndpointEqual(t *testing.T) {
	base := PublishedEndpoint{
		Pod: PodRef{Namespace: "n", Name: "p"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		Identity: 300, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	for name, change := range map[string]func(e *PublishedEndpoint){
		"pod":       func(e *PublishedEndpoint) { e.Pod.Name = "q" },
		"addresses": func(e *PublishedEndpoint) { e.Addrs = nil },
		"identity":  func(e *PublishedEndpoint) { e.Identity++ },
		"since":     func(e *PublishedEndpoint) { e.Since = e.Since.Add(time.Microsecond) },
	} {
		other := base
		change(&other)
		if base.Equal(other) {
			t.Errorf("endpoints that differ in %s are equal", name)
		}
	}
	zone := base
	zone.Since = base.Since.In(time.FixedZone("x", 3600))
	if !base.Equal(zone) {
		t.Error("the zone of Since makes a difference")
	}
}

// TestPolicyKeys: policies of all kinds, and all parts of one, are rows of their
// own.
func TestPolicyKeys(t *testing.T) {
	tables, err := NewTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []NetworkPolicy{
		{Namespace: "n", Name: "p"},
		{Kind: PolicyCilium, Namespace: "n", Name: "p"},
		{Kind: PolicyCilium, Namespace: "n", Name: "p", Part: 1},
		{Kind: PolicyCiliumClusterwide, Name: "p"},
		{Kind: PolicyCiliumClusterwide, Name: "p", Part: 2},
	} {
		if err := tables.UpsertNetworkPolicy(p); err != nil {
			t.Fatal(err)
		}
	}
	keys := func() []string {
		rows, _, err := tables.NetworkPolicies()
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, p := range rows {
			out = append(out, p.Key())
		}
		return out
	}
	if diff := cmp.Diff([]string{"ccnp/p", "ccnp/p#2", "cnp/n/p", "cnp/n/p#1", "n/p"}, keys()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for _, key := range []string{"cnp/n/p", "ccnp/p#2", "ccnp/never"} {
		if err := tables.DeleteNetworkPolicy(key); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"ccnp/p", "cnp/n/p#1", "n/p"}, keys()); diff != "" {
		t.Errorf("rows that are left (-want +got):\n%s", diff)
	}
}
