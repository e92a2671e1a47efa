package verdict

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// The sides.
const (
	before = iota
	after
	sides
)

// The directions.
const (
	ingress = iota
	egress
	directions
)

// identities gives numbers to identities of groups: to what of their labels and
// ports policies name. Both sides share them, so the same number is the same
// identity.
type identities map[string]uint32

func (n identities) number(id state.Identity) uint32 {
	key := identity.Key(id.Labels, id.NamedPorts)
	number, known := n[key]
	if !known {
		number = state.IdentityMin + uint32(len(n))
		n[key] = number
	}
	return number
}

// side is a Side in an Engine, asked about all peers.
type side struct {
	Side
	described
	cluster    Cluster
	mentions   mentions
	own        map[string]values // labels of pods that select them, by key
	namespaces map[string]state.Namespace
	byKey      map[string]state.NetworkPolicy

	engine   *policy.Engine
	tables   policy.Tables
	prefixes *bart.Table[policy.PeerID]
	views    map[policy.SetID]*view
	lists    map[listKey]portsID
	sets     *portSets
}

func newSide(in Side, c Cluster, m mentions, sets *portSets) *side {
	s := &side{
		Side: in, cluster: c, mentions: m, sets: sets, own: maps.Clone(m.own), namespaces: map[string]state.Namespace{},
		byKey: map[string]state.NetworkPolicy{}, views: map[policy.SetID]*view{}, lists: map[listKey]portsID{}, prefixes: &bart.Table[policy.PeerID]{},
	}
	for name, named := range m.labels {
		if key, ok := strings.CutPrefix(name, podPrefix); ok && !isDerived(name) {
			all := maps.Clone(named)
			maps.Copy(all, s.own[key])
			s.own[key] = all
		}
	}
	for _, ns := range in.Namespaces {
		s.namespaces[ns.Name] = ns
	}
	cfg := policy.Config{Mode: in.Mode, AuditAll: in.AuditAll}
	if !in.ByIdentity {
		cfg.PodLabelKnown, cfg.NamespaceLabelKnown = in.Filter.KeepPodLabel, in.Filter.KeepNamespaceLabel
		cfg.DerivedLabelKnown = func(key string) bool { return in.Filter.Keep(identity.SourceKubernetes, key) }
	}
	s.engine = policy.NewEngine(cfg)
	return s
}

// described is what of groups an engine is told: it does not depend on the filter
// where pods and peers are selected by all labels.
type described struct {
	identities []state.Identity
	pods       []policy.Subject
	// subjects and ids are those of the groups, in their order: endpoints and
	// identities.
	subjects, ids []uint32
}

// describe gives what the engine is told of groups.
func (s *side) describe(groups []peer, numbers identities) described {
	var d described
	endpoints, known := map[string]uint32{}, map[uint32]struct{}{}
	for _, g := range groups {
		labels := s.labelsOf(g)
		id := state.Identity{Labels: project(labels, s.mentions.labels), NamedPorts: g.NamedPorts}
		id.ID = numbers.number(id)
		d.ids = append(d.ids, id.ID)
		if _, there := known[id.ID]; !there {
			known[id.ID] = struct{}{}
			d.identities = append(d.identities, id)
		}
		subject := s.subjectOf(g, labels)
		key := fmt.Sprintf("%s\x01%s\x01%s", subject.Pod.Namespace, identity.Key(subject.Labels, subject.NamedPorts), identity.Key(subject.Derived, nil))
		endpoint, there := endpoints[key]
		if !there {
			endpoint = uint32(len(d.pods)) + 1
			endpoints[key], subject.Endpoint = endpoint, endpoint
			d.pods = append(d.pods, subject)
		}
		d.subjects = append(d.subjects, endpoint)
	}
	return d
}

// compile tells the engine everything, and takes what follows from it.
func (s *side) compile(d described) {
	s.described = d
	for _, id := range d.identities {
		s.engine.SetIdentity(id)
	}
	for _, p := range s.Policies {
		s.byKey[p.Key()] = p
		s.engine.SetPolicy(p)
	}
	for _, x := range d.pods {
		s.engine.SetSubject(x)
	}
	s.tables = s.engine.Tables()
	for prefix, id := range s.tables.CIDRs {
		s.prefixes.Insert(prefix, id)
	}
}

// labelsOf gives all labels of a group's pods that identities can have here.
func (s *side) labelsOf(g peer) map[string]string {
	pod := s.pod(g)
	labels := identity.PodLabels(pod.Pod, s.namespaces[pod.Ref.Namespace], s.cluster.Name)
	if s.ByIdentity {
		return s.Filter.Apply(labels)
	}
	return labels
}

func (s *side) pod(g peer) snapshot.Pod { return s.cluster.Pods[g.pods[0]] }

// subjectOf gives what policies select the group's pods by, labels being what
// identities can have.
func (s *side) subjectOf(g peer, labels map[string]string) policy.Subject {
	own := map[string]string{}
	for key, value := range s.pod(g).Labels {
		if !s.ByIdentity || s.Filter.Keep(identity.SourceKubernetes, key) {
			own[key] = value
		}
	}
	derived := project(labels, s.mentions.labels)
	maps.DeleteFunc(derived, func(name, _ string) bool { return !isDerived(name) })
	namespace := g.Namespace
	if _, named := s.mentions.labels[namespaceName][namespace]; !named {
		namespace = other
	}
	return policy.Subject{
		Pod: state.PodRef{Namespace: namespace}, Labels: project(own, s.own), Derived: derived, NamedPorts: g.NamedPorts,
	}
}

// set gives the set that a group is under in one direction; what is only audited
// is open.
func (s *side) set(group, direction int) policy.SetID {
	under := s.tables.Endpoints[s.subjects[group]]
	id, audit := under.Ingress, under.AuditIngress
	if direction == egress {
		id, audit = under.Egress, under.AuditEgress
	}
	if audit {
		return policy.SetOpen
	}
	return id
}

// prefixOf gives the longest prefix of the tables that an address is in; 0 for
// none.
func (s *side) prefixOf(a netip.Addr) policy.PeerID {
	if !a.IsValid() {
		return 0
	}
	id, _ := s.prefixes.Lookup(a)
	return id
}

// key is how a peer is found in one side's tables.
type key struct {
	id     uint32
	prefix policy.PeerID // 0: none
}

// view is a set as it is asked. One of no set is open or closed.
type view struct {
	set *policy.Set
	// rest is what is allowed with peers that have no entry of their own: in the
	// cluster, and outside of it.
	rest [2]portsID
}

// listKey is lists of ports of entries, and who the peer is.
type listKey struct {
	lists   [3]policy.PortsID
	has     [3]bool
	outside bool
}

func (s *side) view(id policy.SetID) *view {
	v := s.views[id]
	if v != nil {
		return v
	}
	v = &view{set: s.tables.Sets[id]}
	switch {
	case id == policy.SetOpen:
		v.rest = [2]portsID{allPorts, allPorts}
	case v.set != nil:
		for i := range v.rest {
			v.rest[i] = s.judge(v.set, key{}, i == 1)
		}
	}
	s.views[id] = v
	return v
}

// allowed gives what a set allows with a peer.
func (s *side) allowed(id policy.SetID, k key) portsID {
	v := s.view(id)
	outside := k.id == state.IdentityWorld
	if v.set == nil {
		return v.rest[0]
	}
	_, own := v.set.Entries[policy.PeerID(k.id)]
	if !own && k.prefix != 0 {
		_, own = v.set.Entries[k.prefix]
	}
	switch {
	case own:
		return s.judge(v.set, k, outside)
	case outside:
		return v.rest[1]
	}
	return v.rest[0]
}

// judge gives what the entries of a set allow together, as Tables.Judge would say
// port by port.
func (s *side) judge(set *policy.Set, k key, outside bool) portsID {
	lists := listKey{outside: outside}
	for i, peer := range [3]policy.PeerID{policy.PeerAny, policy.PeerID(k.id), k.prefix} {
		if i > 0 && peer == 0 {
			continue
		}
		if x, ok := set.Entries[peer]; ok {
			lists.lists[i], lists.has[i] = x.Ports, true
		}
	}
	id, known := s.lists[lists]
	if !known {
		id = s.sets.id(s.sum(lists))
		s.lists[lists] = id
	}
	return id
}

// sum gives what is allowed by lists of ports and denied by none.
func (s *side) sum(l listKey) Ports {
	var allow, deny []Ports
	for i, id := range l.lists {
		switch {
		case !l.has[i]:
			continue
		case id == policy.PortsAll:
			allow = append(allow, everything())
			continue
		}
		for _, r := range s.tables.Ports[id] {
			switch {
			case r.Outside && !l.outside:
			case r.Deny:
				deny = append(deny, rangeOf(r.Protocol, r.First, r.Last))
			default:
				allow = append(allow, rangeOf(r.Protocol, r.First, r.Last))
			}
		}
	}
	return union(allow...).minus(union(deny...))
}

// unfit tells about policy sets that do not fit, in order.
func (s *side) unfit() []string {
	out := []string{}
	for _, r := range s.engine.Refusals() {
		out = append(out, fmt.Sprintf("the set of policies %s does not fit: %s", strings.Join(r.Names, ", "), r.Reason))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
