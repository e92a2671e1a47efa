package capacity

import (
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// policyForms are what the policies take on a node.
type policyForms struct {
	entries, lists, prefixes form
	// endpoints are what each pod's own map takes where pods have one (Cilium), each
	// form once, with one of the pods that it is of.
	endpoints []endpointForm
}

type endpointForm struct {
	form
	pod state.PodRef
}

// judge compiles the policies for all pods of the cluster, once. A second engine
// holds every namespace that can be copied twice, so that what it has more is how
// entries grow with namespaces: the copies are all alike.
type judge struct {
	census *census
	byID   map[uint32]*identityCensus
	// groups are pods that policies cannot tell apart, one for all of them.
	groups  []*podCensus
	groupOf map[*podCensus]int
	// base and grown are the tables of the cluster as it is, and with the copies. The
	// endpoint of a group is its index, that of its copy as much behind the end.
	base, grown policy.Tables
	// speaks has the prefixes that the sets of a group speak of themselves, by group.
	speaks []map[policy.PeerID]bool
	copied map[policy.SetID]bool
	shapes map[policy.SetID]*setShape
	masks  map[policy.PortsID]int
	pods   map[policy.EndpointPolicy]form // what a pod's own map takes in Cilium
}

// setShape is how the entries of a set grow, without those of prefixes: a node has
// entries only for prefixes that some set of its own speaks of.
type setShape struct {
	entries  form
	prefixes []policy.PeerID
}

// copyOf names the copy of a namespace. No namespace can have the name.
func copyOf(namespace string) string { return namespace + "~2" }

// firstCopy is added to the number of an identity for that of its copy.
const firstCopy = 1 << 23

func newJudge(c *census, policies []state.NetworkPolicy) *judge {
	j := &judge{
		census: c, byID: map[uint32]*identityCensus{}, groupOf: map[*podCensus]int{},
		shapes: map[policy.SetID]*setShape{}, masks: map[policy.PortsID]int{}, pods: map[policy.EndpointPolicy]form{},
	}
	byKey := map[string]int{}
	for _, p := range c.pods {
		key := identity.Key(p.labels, p.pod.NamedPorts)
		g, ok := byKey[key]
		if !ok {
			g = len(j.groups)
			byKey[key] = g
			j.groups = append(j.groups, p)
		}
		j.groupOf[p] = g
	}
	for _, i := range c.identities {
		j.byID[i.id], j.byID[i.id+firstCopy] = i, i
	}
	j.base, j.grown = j.tables(policies, false), j.tables(policies, true)
	j.findCopied()
	j.findPrefixes(policies)
	return j
}

// newEngine returns an engine with the policies, and with those of copies.
func (j *judge) newEngine(policies []state.NetworkPolicy, copies bool) *policy.Engine {
	set := j.census.settings
	e := policy.NewEngine(policy.Config{
		Mode: policy.Mode(set.cfg.EnablePolicy), PodLabelKnown: set.filter.KeepPodLabel, NamespaceLabelKnown: set.filter.KeepNamespaceLabel,
		DerivedLabelKnown: func(key string) bool { return set.filter.Keep(identity.SourceKubernetes, key) },
	})
	for _, p := range policies {
		e.SetPolicy(p)
		if copies && p.Namespace != "" && !isSystem(p.Namespace) {
			e.SetPolicy(movedPolicy(p))
		}
	}
	return e
}

// tables gives the tables of a node that has a pod of every group, and of every copy.
func (j *judge) tables(policies []state.NetworkPolicy, copies bool) policy.Tables {
	e := j.newEngine(policies, copies)
	for _, i := range j.census.identities {
		e.SetIdentity(state.Identity{ID: i.id, Labels: i.labels, NamedPorts: i.ports})
		if copies && i.cloned {
			e.SetIdentity(state.Identity{ID: i.id + firstCopy, Labels: moved(i.labels), NamedPorts: i.ports})
		}
	}
	for g, p := range j.groups {
		s := j.subject(g)
		e.SetSubject(s)
		if copies && p.cloned {
			s.Endpoint += uint32(len(j.groups))
			s.Pod.Namespace = copyOf(s.Pod.Namespace)
			s.Derived = moved(s.Derived)
			e.SetSubject(s)
		}
	}
	return e.Tables()
}

func (j *judge) subject(g int) policy.Subject {
	p := j.groups[g]
	return policy.Subject{
		Endpoint: uint32(g), Pod: p.pod.Ref, Labels: p.pod.Labels, Derived: derived(p.labels, p.pod.Labels), NamedPorts: p.pod.NamedPorts,
	}
}

// findCopied finds the sets whose pods are under another one in a copy of their
// namespace.
func (j *judge) findCopied() {
	j.copied = map[policy.SetID]bool{}
	for g := range j.groups {
		there, ok := j.grown.Endpoints[uint32(g+len(j.groups))]
		if !ok {
			continue
		}
		here := j.base.Endpoints[uint32(g)]
		j.copied[here.Ingress] = j.copied[here.Ingress] || there.Ingress != here.Ingress
		j.copied[here.Egress] = j.copied[here.Egress] || there.Egress != here.Egress
	}
}

// findPrefixes finds what prefixes the pods of each group have a set speak of, where
// any does: an engine with that pod alone has no others.
func (j *judge) findPrefixes(policies []state.NetworkPolicy) {
	j.speaks = make([]map[policy.PeerID]bool, len(j.groups))
	if len(j.base.CIDRs) == 0 {
		return
	}
	known := map[policy.EndpointPolicy]map[policy.PeerID]bool{}
	e := j.newEngine(policies, false)
	for g := range j.groups {
		under := j.base.Endpoints[uint32(g)]
		if len(j.shape(under.Ingress).prefixes)+len(j.shape(under.Egress).prefixes) == 0 {
			continue
		}
		if known[under] == nil {
			s := j.subject(g)
			e.SetSubject(s)
			known[under] = map[policy.PeerID]bool{}
			for _, peer := range e.Tables().CIDRs {
				known[under][peer] = true
			}
			e.RemoveSubject(s.Endpoint)
		}
		j.speaks[g] = known[under]
	}
}

// The labels that name a namespace.
const (
	namespaceLabel = identity.SourceKubernetes + ":" + identity.NamespaceKey
	nameLabel      = identity.SourceKubernetes + ":" + identity.NamespaceLabelPrefix + "kubernetes.io/metadata.name"
)

// moved gives the labels of a pod in the copy of its namespace.
func moved(labels map[string]string) map[string]string {
	out := maps.Clone(labels)
	for _, key := range []string{namespaceLabel, nameLabel} {
		if value, ok := out[key]; ok {
			out[key] = copyOf(value)
		}
	}
	return out
}

// movedPolicy gives a policy as it is in the copy of its namespace: what it says of
// its own namespace it says of the copy.
func movedPolicy(p state.NetworkPolicy) state.NetworkPolicy {
	from := p.Namespace
	p.Namespace = copyOf(from)
	if p.Kind == state.PolicyKubernetes {
		return p
	}
	p.Subject = movedSelector(p.Subject, from)
	for _, rules := range []*[]state.PolicyRule{&p.Ingress, &p.Egress, &p.IngressDeny, &p.EgressDeny} {
		*rules = slices.Clone(*rules)
		for i := range *rules {
			peers := slices.Clone((*rules)[i].Peers)
			for k := range peers {
				if peers[k].Endpoints != nil {
					peers[k].Endpoints = new(movedSelector(*peers[k].Endpoints, from))
				}
			}
			(*rules)[i].Peers = peers
		}
	}
	return p
}

func movedSelector(s state.Selector, from string) state.Selector {
	s.MatchLabels = maps.Clone(s.MatchLabels)
	if s.MatchLabels[namespaceLabel] == from {
		s.MatchLabels[namespaceLabel] = copyOf(from)
	}
	s.Expressions = slices.Clone(s.Expressions)
	for i, e := range s.Expressions {
		if e.Key != namespaceLabel {
			continue
		}
		s.Expressions[i].Values = slices.Clone(e.Values)
		for k, v := range e.Values {
			if v == from {
				s.Expressions[i].Values[k] = copyOf(from)
			}
		}
	}
	return s
}

// on gives what the policies take on a node.
func (j *judge) on(n *nodeCensus) *policyForms {
	f := &policyForms{entries: form{}, lists: form{}, prefixes: form{}}
	sets, live, lists := map[policy.SetID]bool{}, map[policy.PeerID]bool{}, map[policy.PortsID]bool{}
	pairs := map[policy.EndpointPolicy]bool{}
	for _, p := range n.pods {
		g := j.groupOf[p]
		under := j.base.Endpoints[uint32(g)]
		sets[under.Ingress], sets[under.Egress] = true, true
		maps.Copy(live, j.speaks[g])
		if !pairs[under] {
			pairs[under] = true
			f.endpoints = append(f.endpoints, endpointForm{j.endpoint(under), p.pod.Ref})
		}
	}
	for id := range sets {
		shape, prefixes := j.shape(id), form{}
		for _, peer := range shape.prefixes {
			if live[peer] {
				prefixes.add(1, byPolicies)
			}
		}
		var by []dim
		if j.copied[id] {
			by = []dim{bySetsHere}
		}
		f.entries.join(shape.entries, 1, by...)
		f.entries.join(prefixes, 1, by...)
		if s := j.base.Sets[id]; s != nil {
			for peer, e := range s.Entries {
				if e.Ports != policy.PortsAll && (!isPrefix(peer) || live[peer]) {
					lists[e.Ports] = true
				}
			}
		}
	}
	f.lists.add(float64(len(lists)), byPolicies)
	f.prefixes.add(float64(len(live)), byPolicies)
	return f
}

// allPrefixes is how many prefixes the policies of the cluster speak of.
func (j *judge) allPrefixes() form {
	out := form{}
	out.add(float64(len(j.base.CIDRs)), byPolicies)
	return out
}

// isPrefix tells whether a peer is a prefix and no identity.
func isPrefix(p policy.PeerID) bool { return uint64(p) > uint64(state.IdentityMax) }

// derived is what a pod has besides its own labels.
func derived(all, own map[string]string) map[string]string {
	out := make(map[string]string, len(all)-len(own))
	for key, value := range all {
		if _, ok := own[strings.TrimPrefix(key, identity.SourceKubernetes+":")]; !ok || strings.HasPrefix(key, identity.SourceKubernetes+":io.") {
			out[key] = value
		}
	}
	return out
}

// weight is how many entries of a map one entry of a set stands for.
type weight func(t policy.Tables, e policy.Entry) float64

func single(policy.Tables, policy.Entry) float64 { return 1 }

// masked is the weight in a map of Cilium: one entry for each prefix of ports.
func (j *judge) masked(t policy.Tables, e policy.Entry) float64 {
	if e.Ports == policy.PortsAll {
		return 1
	}
	n, ok := j.masks[e.Ports]
	if !ok {
		n = portMasks(t.Ports[e.Ports])
		j.masks[e.Ports] = n
	}
	return float64(n)
}

// count gives the weight of a set's entries: those whose number stays, those that
// grow with the pods, and those of prefixes.
func (j *judge) count(t policy.Tables, id policy.SetID, w weight) (fixed, perPod, prefixes float64) {
	s := t.Sets[id]
	if s == nil {
		return 0, 0, 0
	}
	for peer, e := range s.Entries {
		switch i := j.byID[uint32(peer)]; {
		case isPrefix(peer):
			prefixes += w(t, e)
		case i != nil && i.perPod:
			perPod += w(t, e)
		default:
			fixed += w(t, e)
		}
	}
	return fixed, perPod, prefixes
}

// grows is how the entries of a set grow, and the weight of those of prefixes.
func (j *judge) grows(id policy.SetID, w weight) (entries form, prefixes float64) {
	fixed, perPod, prefixes := j.count(j.base, id, w)
	fixed2, perPod2, _ := j.count(j.grown, id, w)
	moreFixed, morePods := max(fixed2-fixed, 0), max(perPod2-perPod, 0)
	entries = form{}
	entries.add(fixed-moreFixed, byPolicies)
	entries.add(moreFixed, byPolicies, byNamespaces)
	entries.add(perPod-morePods, byPolicies, byPods)
	entries.add(morePods, byPolicies, byPods, byNamespaces)
	return entries, prefixes
}

// shape gives how the entries of a set grow in Placid's table.
func (j *judge) shape(id policy.SetID) *setShape {
	if x := j.shapes[id]; x != nil {
		return x
	}
	x := &setShape{}
	x.entries, _ = j.grows(id, single)
	if s := j.base.Sets[id]; s != nil {
		for peer := range s.Entries {
			if isPrefix(peer) {
				x.prefixes = append(x.prefixes, peer)
			}
		}
	}
	j.shapes[id] = x
	return x
}

// endpoint is what the map of one pod takes in Cilium: both directions share it. A
// direction that nothing isolates has one entry that allows all, one of ingress
// that is isolated has one for the node. Every node knows the prefixes of all
// policies.
func (j *judge) endpoint(under policy.EndpointPolicy) form {
	if f := j.pods[under]; f != nil {
		return f
	}
	out := form{}
	out.add(2)
	for _, id := range []policy.SetID{under.Ingress, under.Egress} {
		if id != policy.SetOpen {
			entries, prefixes := j.grows(id, j.masked)
			out.join(entries, 1)
			out.add(prefixes, byPolicies)
		}
	}
	if under.Egress != policy.SetOpen {
		out.add(-1)
	}
	j.pods[under] = out
	return out
}

// portMasks is how many keys of Cilium's map a list of port ranges takes: the
// fewest prefixes of ports that cover each range, equal ones of what is allowed and
// denied once. Every protocol, and every port of one, is a key.
func portMasks(ranges []policy.PortRange) int {
	type mask struct {
		protocol state.Protocol
		port     uint16
		length   int
	}
	keys := map[mask]bool{}
	for _, r := range ranges {
		if r.First == 0 && r.Last == 65535 {
			keys[mask{r.Protocol, 0, 0}] = true
			continue
		}
		for at := int(r.First); at <= int(r.Last); {
			size := 1
			for at%(2*size) == 0 && at+2*size-1 <= int(r.Last) {
				size *= 2
			}
			keys[mask{r.Protocol, uint16(at), size}] = true
			at += size
		}
	}
	return len(keys)
}
