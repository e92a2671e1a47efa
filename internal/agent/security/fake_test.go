package security

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil/bubble"
	"github.com/placid-net/placid/internal/timing"
)

var errFake = errors.New("fake kernel says no")

// fakeKernel is a Datapath: what it holds outlives an Enforcer.
type fakeKernel struct {
	mu         sync.Mutex
	tables     policy.Tables
	identities map[uint32]uint32
	problems   []datapath.PolicyProblem
	fail       bool
	writes     int
	syncs      int
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{identities: map[uint32]uint32{}, tables: policy.Tables{
		Ports: map[policy.PortsID][]policy.PortRange{}, Sets: map[policy.SetID]*policy.Set{},
		CIDRs: map[netip.Prefix]policy.PeerID{}, Endpoints: map[uint32]policy.EndpointPolicy{},
	}}
}

// ApplyPolicy implements Datapath.
func (k *fakeKernel) ApplyPolicy(ctx context.Context, u policy.Update) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail {
		return errFake
	}
	k.writes++
	maps.Copy(k.tables.Ports, u.Ports)
	for id, set := range u.Sets {
		s := *set
		s.Entries = maps.Clone(set.Entries)
		k.tables.Sets[id] = &s
	}
	for key, entry := range u.Grown {
		k.tables.Sets[key.Set].Entries[key.Peer] = entry
	}
	maps.Copy(k.tables.CIDRs, u.CIDRs)
	maps.Copy(k.tables.Endpoints, u.Endpoints)
	for _, key := range u.Shrunk {
		if set := k.tables.Sets[key.Set]; set != nil {
			delete(set.Entries, key.Peer)
		}
	}
	for _, id := range u.DroppedSets {
		delete(k.tables.Sets, id)
	}
	for _, p := range u.DroppedCIDRs {
		delete(k.tables.CIDRs, p)
	}
	for _, id := range u.DroppedPorts {
		delete(k.tables.Ports, id)
	}
	return ctx.Err()
}

// SyncPolicy implements Datapath.
func (k *fakeKernel) SyncPolicy(ctx context.Context, t policy.Tables) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail {
		return errFake
	}
	k.syncs++
	k.tables = policy.Tables{
		Ports: maps.Clone(t.Ports), Sets: map[policy.SetID]*policy.Set{},
		CIDRs: maps.Clone(t.CIDRs), Endpoints: maps.Clone(t.Endpoints),
	}
	for id, set := range t.Sets {
		s := *set
		s.Entries = maps.Clone(set.Entries)
		k.tables.Sets[id] = &s
	}
	return ctx.Err()
}

// SetIdentity implements Datapath.
func (k *fakeKernel) SetIdentity(ctx context.Context, endpoint, id uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail {
		return errFake
	}
	k.identities[endpoint] = id
	return ctx.Err()
}

// Forget implements Datapath.
func (k *fakeKernel) Forget(endpoint uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.identities, endpoint)
	delete(k.tables.Endpoints, endpoint)
}

// SecurityOf implements Datapath.
func (k *fakeKernel) SecurityOf(endpoint uint32) (datapath.Security, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, hasPolicy := k.tables.Endpoints[endpoint]
	id, hasIdentity := k.identities[endpoint]
	return datapath.Security{Identity: id, Policy: p}, hasPolicy || hasIdentity
}

// PolicyProblems implements Datapath.
func (k *fakeKernel) PolicyProblems() []datapath.PolicyProblem {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.problems)
}

func (k *fakeKernel) set(edit func(k *fakeKernel)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	edit(k)
}

// fakeCluster is a Cluster, and a Meter.
type fakeCluster struct {
	synced chan struct{}

	mu         sync.Mutex
	pods       map[state.PodRef]state.Pod // what the API server has
	away       bool
	asked      int
	published  []state.PublishedEndpoint
	there      bool // the list is published
	publishes  int
	events     []string
	propagated []time.Duration
	identified []time.Duration
	implements int
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{synced: make(chan struct{}), pods: map[state.PodRef]state.Pod{}}
}

// PolicySynced implements Cluster.
func (c *fakeCluster) PolicySynced() <-chan struct{} { return c.synced }

// Pod implements Cluster.
func (c *fakeCluster) Pod(_ context.Context, ref state.PodRef) (state.Pod, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.away {
		return state.Pod{}, false, errors.New("the API server is away")
	}
	pod, ok := c.pods[ref]
	return pod, ok, nil
}

// PublishEndpoints implements Cluster.
func (c *fakeCluster) PublishEndpoints(eps []state.PublishedEndpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.published, c.there = eps, true
	c.publishes++
}

// WithdrawEndpoints implements Cluster.
func (c *fakeCluster) WithdrawEndpoints() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.published, c.there = nil, false
}

// Event implements Cluster.
func (c *fakeCluster) Event(ref state.PodRef, _ k8s.EventType, reason, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, "pod "+ref.String()+" "+reason+": "+message)
}

// PolicyEvent implements Cluster.
func (c *fakeCluster) PolicyEvent(ref k8s.PolicyRef, _ k8s.EventType, reason, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, "policy "+ref.Namespace+"/"+ref.Name+" ("+ref.UID+") "+reason+": "+message)
}

// Propagated implements Meter.
func (c *fakeCluster) Propagated(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.propagated = append(c.propagated, took)
}

// Identified implements Meter.
func (c *fakeCluster) Identified(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.identified = append(c.identified, took)
}

// Implemented implements Meter.
func (c *fakeCluster) Implemented(time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.implements++
}

func (c *fakeCluster) look(read func(c *fakeCluster)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	read(c)
}

// has gives the API server a pod.
func (c *fakeCluster) has(pod state.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pods[pod.Ref] = pod
}

// The names of the stories.
const (
	here  = "node-1"
	there = "node-2"
	ns    = "shop"
)

// node is one node with its agent, in a bubble of fake time.
type node struct {
	bubble.T
	tables  *state.Tables
	kernel  *fakeKernel
	cluster *fakeCluster
	filter  identity.Filter
	mode    policy.Mode
	ignore  bool // Kubernetes' own policies
	agent   *Enforcer
	stop    func()
	nextID  uint32
	eps     map[uint32]state.Endpoint
}

// story runs tell on a node whose agent has just started and whose tables hold
// one namespace. The time is fake: waiting takes none.
func story(t *testing.T, name string, tell func(n *node)) {
	t.Helper()
	bubble.Run(t, name, func(t bubble.T) {
		n := newNode(t.T)
		defer func() { n.stop() }()
		tell(n)
	})
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{T: bubble.T{T: t}, kernel: newFakeKernel(), cluster: newFakeCluster(), mode: policy.ModeDefault, eps: map[uint32]state.Endpoint{}, stop: func() {}}
	var err error
	n.tables, err = state.NewTables()
	n.Must(err)
	n.filter, err = identity.ParseFilter(nil)
	n.Must(err)
	n.Must(n.tables.UpsertNode(state.Node{Name: here, MTU: 1500}))
	n.namespace(ns, nil)
	return n
}

// start runs an agent; the endpoints that are there are restored.
func (n *node) start() {
	n.Helper()
	agent, err := New(Config{
		NodeName: here, ClusterName: "default", Mode: n.mode, Ignore: n.ignore, Filter: n.filter, Interval: time.Hour,
		Tables: n.tables, Datapath: n.kernel, Cluster: n.cluster, Meter: n.cluster, Log: slog.New(slog.DiscardHandler),
	})
	n.Must(err)
	for _, ep := range n.eps {
		agent.Restore(ep)
	}
	ctx, cancel := context.WithCancel(n.Context())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	n.agent = agent
	n.stop = func() {
		cancel()
		n.Must(<-done)
		n.stop = func() {}
	}
	synctest.Wait()
}

// sync says that the tables are complete.
func (n *node) sync() {
	close(n.cluster.synced)
	synctest.Wait()
}

// namespace writes a row.
func (n *node) namespace(name string, labels map[string]string) {
	n.Helper()
	n.Must(n.tables.UpsertNamespace(state.Namespace{Name: name, Labels: labels}))
	synctest.Wait()
}

func podRef(name string) state.PodRef {
	return state.PodRef{Namespace: ns, Name: name, UID: "uid-" + name}
}

// pod writes a pod's row; its labels are "key=value".
func (n *node) pod(name string, labels ...string) state.Pod {
	n.Helper()
	p := state.Pod{Ref: podRef(name), Labels: parseLabels(labels), ServiceAccount: "default", CreatedAt: time.Now()}
	n.Must(n.tables.UpsertPod(p))
	synctest.Wait()
	return p
}

func parseLabels(labels []string) map[string]string {
	out := map[string]string{}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		out[key] = value
	}
	return out
}

// identify does the operator's work for pods with these labels.
func (n *node) identify(id uint32, labels ...string) {
	n.Helper()
	namespace, _, err := n.tables.NamespaceByName(ns)
	n.Must(err)
	l, ports := identity.Of(state.Pod{Ref: podRef("any"), Labels: parseLabels(labels), ServiceAccount: "default"}, namespace, "default", n.filter)
	n.Must(n.tables.UpsertIdentity(state.Identity{ID: id, Labels: l, NamedPorts: ports}))
	synctest.Wait()
}

// endpoint is a new endpoint of the pod, not admitted yet.
func (n *node) endpoint(ref state.PodRef) state.Endpoint {
	n.nextID++
	return state.Endpoint{
		ID: n.nextID, Pod: ref, Attachment: state.AttachmentID{ContainerID: fmt.Sprint("c", n.nextID), IfName: "eth0"},
		IPv4: netip.AddrFrom4([4]byte{10, 0, 0, byte(n.nextID)}),
	}
}

// add admits a pod, and connects it.
func (n *node) add(ref state.PodRef) (uint32, error) {
	ep := n.endpoint(ref)
	err := n.agent.Admit(n.Context(), ep)
	if err == nil {
		n.eps[ep.ID] = ep
	}
	synctest.Wait()
	return ep.ID, err
}

func (n *node) mustAdd(name string) uint32 {
	n.Helper()
	id, err := n.add(podRef(name))
	n.Must(err)
	return id
}

// adding admits a pod while the story goes on; call the result to wait for it.
func (n *node) adding(name string) (id uint32, wait func() error, done func() bool) {
	ep := n.endpoint(podRef(name))
	result := make(chan error, 1)
	finished := make(chan struct{})
	go func() {
		result <- n.agent.Admit(n.Context(), ep)
		close(finished)
	}()
	synctest.Wait()
	return ep.ID, func() error {
		err := <-result
		if err == nil {
			n.eps[ep.ID] = ep
		}
		synctest.Wait()
		return err
	}, func() bool { return timing.Closed(finished) }
}

// allow writes a policy: pods with the label subject take traffic from pods with
// the label peer alone.
func (n *node) allow(name, subject, peer string) {
	n.Helper()
	n.Must(n.tables.UpsertNetworkPolicy(state.NetworkPolicy{
		Namespace: ns, Name: name, UID: "uid-" + name, IsolatesIngress: true,
		Subject: state.Selector{MatchLabels: parseLabels([]string{subject})},
		Ingress: []state.PolicyRule{{Peers: []state.PolicyPeer{{Pods: &state.Selector{MatchLabels: parseLabels([]string{peer})}}}}},
	}))
	synctest.Wait()
}

func (n *node) removePolicy(name string) {
	n.Helper()
	n.Must(n.tables.DeleteNetworkPolicy(ns + "/" + name))
	synctest.Wait()
}

// publishes writes what another node says of its pods, "name identity" each.
func (n *node) publishes(other string, pods ...any) {
	n.Helper()
	row := state.NodeEndpoints{Node: other}
	for i := 0; i < len(pods); i += 2 {
		row.Endpoints = append(row.Endpoints, state.PublishedEndpoint{
			Pod: state.PodRef{Namespace: ns, Name: pods[i].(string)}, Identity: uint32(pods[i+1].(int)), Since: time.Now(),
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)})},
		})
	}
	n.Must(n.tables.UpsertNodeEndpoints(row))
	synctest.Wait()
}

// otherNode adds a node whose agent runs.
func (n *node) otherNode() {
	n.Helper()
	n.Must(n.tables.UpsertNode(state.Node{Name: there, MTU: 1500}))
	synctest.Wait()
}

// open checks that no policy isolates the endpoint in the kernel.
func (n *node) open(id uint32) bool {
	s, _ := n.kernel.SecurityOf(id)
	return s.Policy == policy.EndpointPolicy{}
}

func (n *node) identityOf(id uint32) uint32 {
	s, _ := n.kernel.SecurityOf(id)
	return s.Identity
}

// publishedAs tells which identity the node publishes for the pod; 0 is none.
func (n *node) publishedAs(name string) (id uint32) {
	n.cluster.look(func(c *fakeCluster) {
		for _, ep := range c.published {
			if ep.Pod.Name == name {
				id = ep.Identity
			}
		}
	})
	return id
}

func (n *node) isPublished() (there bool) {
	n.cluster.look(func(c *fakeCluster) { there = c.there })
	return there
}

// counts are how often something was done.
type counts struct{ asked, publishes, writes int }

func (n *node) count() (out counts) {
	n.cluster.look(func(c *fakeCluster) { out.asked, out.publishes = c.asked, c.publishes })
	n.kernel.set(func(k *fakeKernel) { out.writes = k.writes })
	return out
}
