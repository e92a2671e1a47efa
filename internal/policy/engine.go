package policy

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// Mode says when pods are isolated. It has the values of the key enable-policy.
type Mode string

// The modes. The empty one is ModeDefault.
const (
	ModeDefault Mode = "default" // a direction is isolated when a policy says so
	ModeAlways  Mode = "always"  // every pod is, in both directions
	ModeNever   Mode = "never"   // no pod is
)

// Config describes an Engine.
type Config struct {
	Mode Mode
	// AuditAll counts what policies would drop, and drops nothing.
	AuditAll bool
	// PodLabelKnown and NamespaceLabelKnown tell whether identities keep a label of
	// pods, of namespaces. The key has no source or prefix. Nil is all of them.
	PodLabelKnown, NamespaceLabelKnown func(key string) bool
	// DerivedLabelKnown tells it of the labels that stand for something else than a
	// label of the pod or of its namespace, by their keys without source:
	// "io.kubernetes.pod.namespace". Nil is all of them.
	DerivedLabelKnown func(key string) bool
}

// Engine holds policies, identities and subjects, and knows what follows from
// them. It is not safe for concurrent use.
//
// What it is given it keeps: the caller must not change it afterwards. What it
// returns is the caller's.
type Engine struct {
	cfg      Config
	digest   func(text string) uint64
	revision uint64

	policies   map[string]*compiled
	subjects   map[uint32]*subject
	identities map[uint32]*identity

	policiesBySubject catalogue[*compiled] // by the labels of subjects
	subjectsByLabels  population[*subject]
	identitiesByLabel population[*identity]

	contents     map[string]*content
	selectors    map[string]*selector // of sets in use, by text
	selectorsFor catalogue[*selector] // by the labels of identities
	sets         map[SetID]*set
	prefixes     prefixTable
	lists        map[PortsID]*list

	// dirty are subjects that must be settled; refused those that wait for a set
	// which does not fit, and get another chance when something went (retry).
	dirty   group[*subject]
	refused group[*subject]
	retry   bool
	changes changes
}

// NewEngine returns an engine that holds nothing.
func NewEngine(cfg Config) *Engine {
	return &Engine{
		cfg: cfg, digest: digest,
		policies: map[string]*compiled{}, subjects: map[uint32]*subject{}, identities: map[uint32]*identity{},
		policiesBySubject: newCatalogue[*compiled](subjectNamespace),
		subjectsByLabels:  newPopulation[*subject](),
		identitiesByLabel: newPopulation[*identity](),
		contents:          map[string]*content{},
		selectors:         map[string]*selector{},
		selectorsFor:      newCatalogue[*selector](namespaceKey),
		sets:              map[SetID]*set{},
		prefixes:          newPrefixTable(),
		lists:             map[PortsID]*list{},
		dirty:             group[*subject]{},
		refused:           group[*subject]{},
		changes:           newChanges(),
	}
}

// subject is a Subject and what is in force for it.
type subject struct {
	Subject
	labels   map[string]string
	policies group[*compiled] // that select it
	bound    [directions]*content
	refusals [directions]*refusal
	policy   EndpointPolicy
	settled  bool // policy is valid
}

func (s *subject) labelSet() map[string]string { return s.labels }

// refusal is a content that a subject should be bound to, and why it is not.
type refusal struct {
	content *content
	reason  string
}

// subjectLabels are the labels of a subject as compiled.subject speaks of them.
func subjectLabels(s Subject) map[string]string {
	labels := make(map[string]string, len(s.Labels)+len(s.Derived)+1)
	for key, value := range s.Labels {
		labels[ownKey(podPrefix+key)] = value
	}
	maps.Copy(labels, s.Derived)
	labels[subjectNamespace] = s.Pod.Namespace
	return labels
}

// SetPolicy adds a policy, or replaces the one with its key.
func (e *Engine) SetPolicy(p state.NetworkPolicy) {
	key := p.Key()
	old := e.policies[key]
	if old != nil && reflect.DeepEqual(old.spec, p) {
		return
	}
	c := e.compile(p)
	if c.valid {
		for s := range e.subjectsByLabels.find(c.subject) {
			c.subjects[s] = struct{}{}
		}
	}
	e.forget(old)
	e.policies[key] = c
	if c.valid {
		e.policiesBySubject.add(c, c.subject)
	}
	for s := range c.subjects {
		s.policies[c] = struct{}{}
		e.dirty[s] = struct{}{}
	}
}

// RemovePolicy removes the policy with the key, state.NetworkPolicy.Key. Removing
// what is not there is no error.
func (e *Engine) RemovePolicy(key string) {
	e.forget(e.policies[key])
	delete(e.policies, key)
}

// forget takes a policy, if there is one, from its subjects and from the index.
func (e *Engine) forget(c *compiled) {
	if c == nil {
		return
	}
	e.policiesBySubject.remove(c)
	for s := range c.subjects {
		delete(s.policies, c)
		e.dirty[s] = struct{}{}
	}
}

// SetSubject adds a pod of this node, or replaces the one with its endpoint. Until
// the first Update with it is written, nothing should be allowed for it: that
// Update revokes nothing on its behalf.
func (e *Engine) SetSubject(in Subject) {
	s := e.subjects[in.Endpoint]
	if s != nil && reflect.DeepEqual(s.Subject, in) {
		return
	}
	if s == nil {
		s = &subject{policies: group[*compiled]{}}
		e.subjects[in.Endpoint] = s
	} else {
		e.subjectsByLabels.remove(s)
	}
	s.Subject, s.labels = in, subjectLabels(in)
	e.subjectsByLabels.add(s)
	for c := range s.policies {
		delete(c.subjects, s)
	}
	s.policies = e.policiesBySubject.selecting(s.labels)
	for c := range s.policies {
		c.subjects[s] = struct{}{}
	}
	e.dirty[s] = struct{}{}
}

// RemoveSubject removes a pod of this node. Removing what is not there is no
// error.
func (e *Engine) RemoveSubject(endpoint uint32) {
	s := e.subjects[endpoint]
	if s == nil {
		return
	}
	e.subjectsByLabels.remove(s)
	for c := range s.policies {
		delete(c.subjects, s)
	}
	e.changes.endpoint(s)
	for d := range directions {
		e.bind(s, d, nil)
		e.pardon(s, d)
	}
	delete(e.dirty, s)
	delete(e.subjects, endpoint)
}

// SetAuditAll changes Config.AuditAll.
func (e *Engine) SetAuditAll(audit bool) {
	if e.cfg.AuditAll == audit {
		return
	}
	e.cfg.AuditAll = audit
	for _, s := range e.subjects {
		e.dirty[s] = struct{}{}
	}
}

// Subject returns what a pod is under; false when it is not known.
func (e *Engine) Subject(endpoint uint32) (EndpointPolicy, bool) {
	e.settle()
	s := e.subjects[endpoint]
	if s == nil {
		return EndpointPolicy{}, false
	}
	return s.policy, true
}

// Set returns a set in use; false when there is none with this number.
func (e *Engine) Set(id SetID) (*Set, bool) {
	e.settle()
	s := e.sets[id]
	if s == nil || s.users == 0 {
		return nil, false
	}
	return s.export(s.origin(), e.livePeers()), true
}

// Tables returns everything that should be in force now.
func (e *Engine) Tables() Tables {
	e.settle()
	t := Tables{Ports: map[PortsID][]PortRange{}, Sets: map[SetID]*Set{}, CIDRs: map[netip.Prefix]PeerID{}, Endpoints: map[uint32]EndpointPolicy{}}
	live := e.livePeers()
	for peer, prefix := range live {
		t.CIDRs[prefix] = peer
	}
	for id, s := range e.sets {
		if s.users == 0 {
			continue
		}
		t.Sets[id] = s.export(s.origin(), live)
		for _, x := range t.Sets[id].Entries {
			if x.Ports != PortsAll {
				t.Ports[x.Ports] = slices.Clone(e.lists[x.Ports].ranges)
			}
		}
	}
	for id, s := range e.subjects {
		t.Endpoints[id] = s.policy
	}
	return t
}

// livePeers are the prefixes that sets with users speak of.
func (e *Engine) livePeers() map[PeerID]netip.Prefix {
	live := map[PeerID]netip.Prefix{}
	for _, s := range e.sets {
		if s.users == 0 {
			continue
		}
		for _, own := range s.content.own {
			live[e.prefixes.byPrefix[own.prefix].peer] = own.prefix
		}
	}
	return live
}
