package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// Keys of labels, as identities have them.
const (
	podPrefix             = "k8s:"
	namespaceLabelsPrefix = "k8s:io.cilium.k8s.namespace.labels."
	namespaceKey          = "k8s:io.kubernetes.pod.namespace"

	// derivedPrefix begins the keys of labels that stand for something else than a
	// label of the pod.
	derivedPrefix = "k8s:io.cilium.k8s."

	// subjectNamespace is the key of a subject's namespace among its labels. No
	// label of a pod, which begins with podPrefix, has it.
	subjectNamespace = "namespace"
)

// direction is ingress or egress, from the pod's point of view.
type direction int

const (
	ingress direction = iota
	egress
	directions
)

// String gives "ingress" or "egress".
func (d direction) String() string {
	if d == egress {
		return "egress"
	}
	return "ingress"
}

// compiled is a policy with its selectors and rules in canonical form.
type compiled struct {
	spec     state.NetworkPolicy
	revision uint64 // no two SetPolicy have the same
	subject  conjunction
	valid    bool // subject can select something
	rules    [directions][]rule
	subjects group[*subject] // those that it selects now
}

// rule is one PolicyRule.
type rule struct {
	peers []peer
	ports ports
}

// peerKind says what a peer is.
type peerKind int

const (
	peerAny   peerKind = iota // every address
	peerPods                  // identities that a selector matches
	peerBlock                 // addresses
	peerNone                  // nothing
)

// peer is one PolicyPeer, or every peer.
type peer struct {
	kind  peerKind
	pods  conjunction // nil unless it is a selector
	block block
	// why says what is wrong with a peerNone.
	why string
}

// text is different for different peers.
func (p peer) text() string {
	switch p.kind {
	case peerAny:
		return "any"
	case peerPods:
		return "pods " + p.pods.String()
	case peerBlock:
		return "block " + p.block.String()
	case peerNone:
	}
	return "none " + p.why
}

func (d direction) isolatedBy(p state.NetworkPolicy) bool {
	if d == egress {
		return p.IsolatesEgress
	}
	return p.IsolatesIngress
}

func (e *Engine) compile(p state.NetworkPolicy) *compiled {
	e.revision++
	c := &compiled{spec: p, revision: e.revision, subjects: group[*subject]{}}
	c.subject, c.valid = requirements(podPrefix, p.Subject)
	own := requirement{subjectNamespace, state.OperatorIn, []string{p.Namespace}}
	c.subject = append(c.subject, own).canonical()
	for d, rules := range [directions][]state.PolicyRule{p.Ingress, p.Egress} {
		for _, r := range rules {
			c.rules[d] = append(c.rules[d], rule{e.peersOf(p.Namespace, r.Peers), portsOf(r.Ports)})
		}
	}
	return c
}

func (e *Engine) peersOf(namespace string, list []state.PolicyPeer) []peer {
	if len(list) == 0 {
		return []peer{{kind: peerAny}}
	}
	out := make([]peer, len(list))
	for i, p := range list {
		out[i] = e.peerOf(namespace, p)
	}
	return out
}

func (e *Engine) peerOf(namespace string, p state.PolicyPeer) peer {
	switch {
	case p.Block != nil && (p.Pods != nil || p.Namespaces != nil):
		return peer{kind: peerNone, why: "a block together with a selector"}
	case p.Block != nil:
		b, ok := blockOf(*p.Block)
		if !ok {
			return peer{kind: peerNone, why: fmt.Sprintf("no address is in block %s", p.Block.CIDR)}
		}
		return peer{kind: peerBlock, block: b}
	case p.Pods == nil && p.Namespaces == nil:
		return peer{kind: peerNone, why: "neither a selector nor a block"}
	}
	return e.podsOf(namespace, p)
}

// podsOf gives a peer that selects pods.
func (e *Engine) podsOf(namespace string, p state.PolicyPeer) peer {
	out := peer{kind: peerPods, pods: conjunction{}}
	if p.Namespaces == nil {
		out.pods = append(out.pods, requirement{namespaceKey, state.OperatorIn, []string{namespace}})
	}
	for _, part := range []selectorPart{{podPrefix, p.Pods, e.podLabelKnown}, {namespaceLabelsPrefix, p.Namespaces, e.namespaceLabelKnown}} {
		if part.selector == nil {
			continue
		}
		c, ok := requirements(part.prefix, *part.selector)
		if !ok {
			return peer{kind: peerNone, why: "a requirement that is not valid"}
		}
		out.pods = append(out.pods, c...)
		if key, known := part.unknown(); !known && out.why == "" {
			out.kind, out.why = peerNone, "label "+plain(key)+" is not part of identities (key labels)"
		}
	}
	out.pods = out.pods.canonical()
	return out
}

// selectorPart is a selector on the labels of pods, or of namespaces.
type selectorPart struct {
	prefix   string // of the keys in identities
	selector *state.Selector
	known    func(key string) bool
}

// unknown names the first key, in their order, that identities lack; ok is true
// when they have all.
func (s selectorPart) unknown() (key string, ok bool) {
	keys := slices.Collect(maps.Keys(s.selector.MatchLabels))
	for _, x := range s.selector.Expressions {
		keys = append(keys, x.Key)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !s.known(k) {
			return k, false
		}
	}
	return "", true
}

func (e *Engine) podLabelKnown(key string) bool {
	if podPrefix+key == namespaceKey || strings.HasPrefix(podPrefix+key, derivedPrefix) {
		return false
	}
	return e.cfg.PodLabelKnown == nil || e.cfg.PodLabelKnown(key)
}

func (e *Engine) namespaceLabelKnown(key string) bool {
	return e.cfg.NamespaceLabelKnown == nil || e.cfg.NamespaceLabelKnown(key)
}
