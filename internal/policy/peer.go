package policy

import (
	"fmt"
	"net/netip"

	"github.com/placid-net/placid/internal/state"
)

// peerKind says what a peer is.
type peerKind int

const (
	peerAny      peerKind = iota // every address
	peerPods                     // identities that a selector matches
	peerIdentity                 // one identity, of those that are reserved
	peerBlock                    // addresses
	peerNone                     // nothing
)

// peer is one PolicyPeer, a part of one, or every peer.
type peer struct {
	kind     peerKind
	pods     conjunction // nil unless it is a selector
	identity uint32
	block    block
	// why says what is wrong with a peerNone; unclear that it cannot be judged who
	// is meant.
	why     string
	unclear bool
}

// text is different for different peers.
func (p peer) text() string {
	switch p.kind {
	case peerAny:
		return "any"
	case peerPods:
		return "pods " + p.pods.String()
	case peerIdentity:
		return fmt.Sprintf("identity %d", p.identity)
	case peerBlock:
		return "block " + p.block.String()
	case peerNone:
	}
	return "none " + p.why
}

// who says it to people.
func (p peer) who() string {
	switch p.kind {
	case peerAny:
		return "every peer"
	case peerBlock:
		return "addresses of " + p.block.String()
	case peerPods, peerIdentity, peerNone:
	}
	return p.text()
}

// reserved is the peer of a reserved identity.
func reserved(id uint32) peer { return peer{kind: peerIdentity, identity: id} }

func nobody(why string) peer { return peer{kind: peerNone, why: why} }

func unclear(why string) peer { return peer{kind: peerNone, why: why, unclear: true} }

// peersOf gives the peers of a rule. One that cannot be judged is nobody, and
// everybody in a rule that denies.
func (e *Engine) peersOf(namespace string, list []state.PolicyPeer, deny bool) []peer {
	if len(list) == 0 {
		return []peer{{kind: peerAny}}
	}
	out := make([]peer, 0, len(list))
	for _, p := range list {
		for _, x := range e.peersIn(namespace, p) {
			if deny && x.unclear {
				x.kind = peerAny
			}
			out = append(out, x)
		}
	}
	return out
}

// peersIn gives who is meant by one PolicyPeer.
func (e *Engine) peersIn(namespace string, p state.PolicyPeer) []peer {
	switch {
	case kindsOf(p) > 1:
		return []peer{unclear("more than one kind of peer at once")}
	case p.Block != nil:
		return []peer{blockPeer(*p.Block)}
	case p.Entity != "":
		return entityPeers(p.Entity)
	case p.Endpoints != nil:
		return []peer{podsOf(selectorPart{"", p.Endpoints, e.labelKnown})}
	case p.Pods != nil || p.Namespaces != nil:
		return []peer{e.podsIn(namespace, p)}
	case kindsOf(p) > 0:
		return []peer{unclear("a reference to nodes, services or groups of CIDRs that was not replaced")}
	}
	return []peer{nobody("neither a selector nor a block")}
}

// kindsOf counts the kinds of peer that p is.
func kindsOf(p state.PolicyPeer) int {
	n := 0
	for _, is := range []bool{
		p.Block != nil, p.Entity != "", p.Endpoints != nil, p.Pods != nil || p.Namespaces != nil,
		p.Nodes != nil, p.Service != nil, p.CIDRGroup != nil,
	} {
		if is {
			n++
		}
	}
	return n
}

func blockPeer(b state.IPBlock) peer {
	switch x, ok := blockOf(b); {
	case !ok:
		return unclear(fmt.Sprintf("block %s is not valid", b.CIDR))
	case x.cidr == netip.Prefix{}:
		return nobody(fmt.Sprintf("no address is in block %s", b.CIDR))
	default:
		return peer{kind: peerBlock, block: x}
	}
}

// entityPeers gives who is meant by an entity.
func entityPeers(x state.Entity) []peer {
	outside := func(addr netip.Addr) []peer {
		return []peer{{kind: peerBlock, block: block{cidr: netip.PrefixFrom(addr, 0), outside: true}}}
	}
	switch x {
	case state.EntityAll:
		return []peer{{kind: peerAny}}
	case state.EntityWorld:
		return []peer{reserved(state.IdentityWorld)}
	case state.EntityWorldIPv4:
		return outside(netip.IPv4Unspecified())
	case state.EntityWorldIPv6:
		return outside(netip.IPv6Unspecified())
	case state.EntityHost:
		return []peer{reserved(state.IdentityHost)}
	case state.EntityRemoteNode:
		return []peer{reserved(state.IdentityRemoteNode)}
	case state.EntityInit:
		return []peer{reserved(state.IdentityInit)}
	case state.EntityCluster:
		return []peer{
			reserved(state.IdentityHost), reserved(state.IdentityRemoteNode), reserved(state.IdentityInit),
			{kind: peerPods, pods: conjunction{}},
		}
	case state.EntityHealth, state.EntityIngress, state.EntityUnmanaged, state.EntityNone:
		return []peer{nobody(fmt.Sprintf("nothing is entity %s", x))}
	case state.EntityKubeAPIServer:
		return []peer{unclear("entity kube-apiserver, which was not replaced")}
	}
	return []peer{unclear(fmt.Sprintf("entity %s, which is not known", plain(string(x))))}
}

// podsIn gives the pods that a peer selects by labels of pods and of namespaces.
func (e *Engine) podsIn(namespace string, p state.PolicyPeer) peer {
	parts := []selectorPart{{podPrefix, p.Pods, e.podLabelKnown}, {namespaceLabelsPrefix, p.Namespaces, e.namespaceLabelKnown}}
	if p.Namespaces == nil {
		own := state.Selector{MatchLabels: map[string]string{namespaceKey: namespace}}
		parts[1] = selectorPart{"", &own, e.labelKnown}
	}
	return podsOf(parts...)
}

// podsOf gives the pods that all parts select.
func podsOf(parts ...selectorPart) peer {
	out := peer{kind: peerPods, pods: conjunction{}}
	for _, part := range parts {
		if part.selector == nil {
			continue
		}
		c, ok := requirements(part.prefix, *part.selector)
		if !ok {
			return unclear("a requirement that is not valid")
		}
		out.pods = append(out.pods, c...)
		if key, known := part.unknown(); !known && out.why == "" {
			out.kind, out.unclear = peerNone, true
			out.why = "label " + plain(key) + " is not part of identities (key labels)"
		}
	}
	out.pods = out.pods.canonical()
	return out
}
