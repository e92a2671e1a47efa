package operator

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/state"
)

// labelSets is what the watches told about label sets: which pods have them,
// which identities exist for them, and which of these some node still lists. It
// does no I/O and is safe for concurrent use.
//
// Pods are not kept one by one but by shape: those of one namespace that
// identity.Of cannot tell apart. So ten thousand pods of one Deployment are one
// shape and cost one computation, also when their namespace gets other labels.
type labelSets struct {
	cluster string
	filter  identity.Filter
	now     func() time.Time
	// wake is called with the key of a label set that needs an identity; urgent
	// when a pod just came for it. waited is called with how long a pod waited.
	// Both must not call back.
	wake   func(key string, urgent bool)
	waited func(time.Duration)

	mu     sync.Mutex
	needed bool
	// complete is set when pods and namespaces are known. Until then nobody can
	// say that an identity is not used, if identities are needed.
	complete   bool
	namespaces map[string]*namespacePods
	sets       map[string]*labelSet // by canonical key
	known      map[uint32]*knownIdentity
	listed     map[uint32]int      // how many nodes list the number
	listedBy   map[string][]uint32 // what a node lists, each number once
	collected  time.Time           // end of the last pass of idle
}

// namespacePods are the pods of one namespace.
type namespacePods struct {
	known  bool // labels are
	uid    types.UID
	labels map[string]string
	pods   map[string]*shape // by name
	shapes map[string]*shape // by what tells shapes apart
}

// shape is pods of one namespace with equal labels, service account and ports.
type shape struct {
	id   string
	pod  state.Pod // one of them; its name does not matter
	pods int
	came bool      // see setPod; of one of its pods
	bare bool      // they have labels, and the filter keeps none of them
	set  *labelSet // nil while the labels of the namespace are not known
}

// labelSet is one set of identity-relevant labels and named ports. It is forgotten
// when it has neither pods nor an identity.
type labelSet struct {
	key       string
	namespace string // of its pods, or of some of them where the filter drops it
	labels    map[string]string
	ports     []state.NamedPort
	pods      int
	numbers   []uint32 // of its identities, ascending; the first is the one in use
	// fresh is true while what it waits for an identity for is a pod that came, or
	// changed, and not what was there before identities were needed.
	fresh   bool
	waiting []time.Time // since when its pods wait for the identity
	// lost is set when an identity of it goes.
	lost bool
}

// knownIdentity is an identity that exists.
type knownIdentity struct {
	object *v1alpha1.PlacidIdentity
	set    *labelSet
	// idleSince is when it was first seen without pods; zero while it has some.
	idleSince time.Time
}

func newLabelSets(cluster string, filter identity.Filter, now func() time.Time) *labelSets {
	return &labelSets{
		cluster: cluster, filter: filter, now: now,
		wake: func(string, bool) {}, waited: func(time.Duration) {},
		namespaces: map[string]*namespacePods{}, sets: map[string]*labelSet{}, known: map[uint32]*knownIdentity{},
		listed: map[uint32]int{}, listedBy: map[string][]uint32{},
	}
}

// setNeeded says whether pods are to have identities at all.
func (s *labelSets) setNeeded(needed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.needed == needed {
		return
	}
	s.needed = needed
	for _, set := range s.sets {
		set.waiting, set.fresh = nil, false
		if set.pods > 0 {
			s.askLocked(set, s.now(), false)
		}
	}
}

// setComplete says that the watches have told of all pods and namespaces.
func (s *labelSets) setComplete() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete = true
}

// setPod takes note of a pod with a network of its own. came says that it appears
// or changes now, and did not exist before the watch began; CreatedAt is then when
// its wait for an identity begins.
func (s *labelSets) setPod(pod state.Pod, came bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ns := s.namespaceLocked(pod.Ref.Namespace)
	id := shapeOf(pod)
	old := ns.pods[pod.Ref.Name]
	if old != nil && old.id == id {
		return
	}
	sh := ns.shapes[id]
	if sh == nil {
		sh = &shape{id: id, pod: pod, bare: len(identity.Unlabelled(s.filter, []state.Pod{pod})) > 0}
		ns.shapes[id] = sh
		s.joinLocked(ns, sh)
	}
	ns.pods[pod.Ref.Name] = sh
	sh.pods++
	sh.came = sh.came || came
	if sh.set != nil {
		begin := s.now()
		if came && old == nil {
			begin = pod.CreatedAt
		}
		sh.set.pods++
		s.askLocked(sh.set, begin, came)
	}
	if old != nil {
		s.leaveLocked(ns, old)
	}
}

// removePod takes note that a pod is gone, or needs no network any more.
func (s *labelSets) removePod(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ns := s.namespaces[namespace]
	if ns == nil || ns.pods[name] == nil {
		return
	}
	sh := ns.pods[name]
	delete(ns.pods, name)
	s.leaveLocked(ns, sh)
	s.dropNamespaceLocked(namespace, ns)
}

// setNamespace takes note of a namespace's labels; its pods move to other label
// sets if they changed.
func (s *labelSets) setNamespace(name string, uid types.UID, labels map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ns := s.namespaceLocked(name)
	ns.uid = uid
	if ns.known && maps.Equal(ns.labels, labels) {
		return
	}
	moved := ns.known
	ns.known, ns.labels = true, maps.Clone(labels)
	for _, sh := range ns.shapes {
		before := sh.set
		s.joinLocked(ns, sh)
		if sh.set == before {
			continue
		}
		sh.set.pods += sh.pods
		s.askLocked(sh.set, s.now(), moved || sh.came)
		if before != nil {
			before.pods -= sh.pods
			s.dropLocked(before)
		}
	}
}

// removeNamespace takes note that a namespace is gone. Its last pods go by
// themselves.
func (s *labelSets) removeNamespace(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ns := s.namespaces[name]; ns != nil {
		ns.known, ns.labels = false, nil
		s.dropNamespaceLocked(name, ns)
	}
}

// namespace returns an object that events about the namespace can be attached to.
func (s *labelSets) namespace(name string) *corev1.Namespace {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if ns := s.namespaces[name]; ns != nil {
		out.UID = ns.uid
	}
	return out
}

// setIdentity takes note of an identity that exists. The error says what of it
// makes no sense; such an object is not counted.
func (s *labelSets) setIdentity(object *v1alpha1.PlacidIdentity) error {
	row, key, err := rowOf(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setIdentityLocked(row, key, object)
	return nil
}

func (s *labelSets) setIdentityLocked(row state.Identity, key string, object *v1alpha1.PlacidIdentity) {
	if k := s.known[row.ID]; k != nil {
		if k.set.key == key {
			k.object = object
			return
		}
		s.removeIdentityLocked(row.ID)
	}
	set := s.setLocked(key, row.Labels, row.NamedPorts)
	s.known[row.ID] = &knownIdentity{object: object, set: set}
	at, _ := slices.BinarySearch(set.numbers, row.ID)
	set.numbers = slices.Insert(set.numbers, at, row.ID)
	now := s.now()
	for _, since := range set.waiting {
		s.waited(max(0, now.Sub(since)))
	}
	set.waiting, set.fresh = nil, false
}

// removeIdentity takes note that an identity is gone. Its label set gets another
// one if it has pods.
func (s *labelSets) removeIdentity(object *v1alpha1.PlacidIdentity) {
	row, _, err := rowOf(object)
	if err != nil {
		return // it was not counted
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[row.ID]; k != nil && k.object.UID == object.UID { // else it is about an earlier one
		s.removeIdentityLocked(row.ID)
	}
}

func (s *labelSets) removeIdentityLocked(number uint32) {
	k := s.known[number]
	delete(s.known, number)
	set := k.set
	set.numbers = slices.DeleteFunc(set.numbers, func(n uint32) bool { return n == number })
	set.lost = true
	if set.pods > 0 {
		s.askLocked(set, s.now(), true)
	}
	s.dropLocked(set)
}

// setListed takes note of the numbers that a node lists for its pods; nil when it
// lists none any more.
func (s *labelSets) setListed(node string, numbers []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.listedBy[node] {
		if s.listed[n]--; s.listed[n] == 0 {
			delete(s.listed, n)
		}
	}
	delete(s.listedBy, node)
	if len(numbers) == 0 {
		return
	}
	own := slices.Compact(slices.Sorted(slices.Values(numbers)))
	s.listedBy[node] = own
	for _, n := range own {
		s.listed[n]++
	}
}

// want returns the label set if it needs an identity now; fresh says that it is
// for a pod that just came. The result goes to made.
func (s *labelSets) want(key string) (set *labelSet, fresh, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set = s.sets[key]
	if set == nil || !s.needed || set.pods == 0 || len(set.numbers) > 0 {
		return nil, false, false
	}
	set.lost = false
	return set, set.fresh, true
}

// made takes note of the identity that the label set has now, unless the watch
// told meanwhile that it is gone again.
func (s *labelSets) made(set *labelSet, object *v1alpha1.PlacidIdentity) {
	row, key, err := rowOf(object)
	if err != nil {
		return // it has the key of the set, so it does make sense
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !set.lost {
		s.setIdentityLocked(row, key, object)
	}
}

// namespaceLocked returns the pods of a namespace, which may be none yet.
func (s *labelSets) namespaceLocked(name string) *namespacePods {
	ns := s.namespaces[name]
	if ns == nil {
		ns = &namespacePods{pods: map[string]*shape{}, shapes: map[string]*shape{}}
		s.namespaces[name] = ns
	}
	return ns
}

func (s *labelSets) dropNamespaceLocked(name string, ns *namespacePods) {
	if !ns.known && len(ns.pods) == 0 {
		delete(s.namespaces, name)
	}
}

// joinLocked finds the label set of a shape. It counts no pods.
func (s *labelSets) joinLocked(ns *namespacePods, sh *shape) {
	if !ns.known {
		return
	}
	labels, ports := identity.Of(sh.pod, state.Namespace{Name: sh.pod.Ref.Namespace, Labels: ns.labels}, s.cluster, s.filter)
	sh.set = s.setLocked(identity.Key(labels, ports), labels, ports)
	sh.set.namespace = sh.pod.Ref.Namespace
}

// leaveLocked takes a pod from its shape.
func (s *labelSets) leaveLocked(ns *namespacePods, sh *shape) {
	sh.pods--
	if sh.pods == 0 {
		delete(ns.shapes, sh.id)
	}
	if sh.set != nil {
		sh.set.pods--
		s.dropLocked(sh.set)
	}
}

func (s *labelSets) setLocked(key string, labels map[string]string, ports []state.NamedPort) *labelSet {
	set := s.sets[key]
	if set == nil {
		set = &labelSet{key: key, labels: labels, ports: ports}
		s.sets[key] = set
	}
	return set
}

func (s *labelSets) dropLocked(set *labelSet) {
	if set.pods == 0 {
		set.waiting, set.fresh = nil, false
		if len(set.numbers) == 0 {
			delete(s.sets, set.key)
		}
	}
}

// askLocked is called when a label set has got a pod, or has lost its identity.
func (s *labelSets) askLocked(set *labelSet, since time.Time, fresh bool) {
	for _, n := range set.numbers {
		s.known[n].idleSince = time.Time{}
	}
	if !s.needed || len(set.numbers) > 0 {
		return
	}
	set.waiting = append(set.waiting, since)
	set.fresh = set.fresh || fresh
	s.wake(set.key, fresh)
}

// shapeOf returns a string that is equal for pods of one namespace that
// identity.Of cannot tell apart.
func shapeOf(pod state.Pod) string {
	var b strings.Builder
	b.WriteString(pod.ServiceAccount)
	for _, k := range slices.Sorted(maps.Keys(pod.Labels)) {
		b.WriteString("\x00" + k + "=" + pod.Labels[k])
	}
	for _, p := range pod.NamedPorts {
		b.WriteString("\x01" + p.Name + "." + strconv.Itoa(int(p.Protocol)) + "." + strconv.Itoa(int(p.Port)))
	}
	return b.String()
}
