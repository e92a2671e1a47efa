package k8s

import (
	"fmt"
	"net/netip"
	"slices"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/state"
)

// entities are those that peers can be.
func entities() []state.Entity {
	return []state.Entity{
		state.EntityAll, state.EntityWorld, state.EntityWorldIPv4, state.EntityWorldIPv6, state.EntityCluster, state.EntityHost,
		state.EntityRemoteNode, state.EntityInit, state.EntityKubeAPIServer, state.EntityHealth, state.EntityIngress,
		state.EntityUnmanaged, state.EntityNone,
	}
}

// peers converts the peers of a rule, each list in its order.
func (c *ciliumConverter) peers(r *ciliumRule) []state.PolicyPeer {
	var out []state.PolicyPeer
	for i, s := range r.endpoints {
		out = append(out, c.endpoints(fmt.Sprintf("%s[%d]", r.peer("Endpoints"), i), s)...)
	}
	for i, s := range r.cidrs {
		block, err := ciliumCIDR(s)
		if err != nil {
			c.refuse(fmt.Sprintf("%s[%d]", r.peer("CIDR"), i), "%v", err)
		}
		out = append(out, state.PolicyPeer{Block: &state.IPBlock{CIDR: block, Outside: true}})
	}
	for i := range r.cidrSet {
		out = append(out, c.cidrRule(fmt.Sprintf("%s[%d]", r.peer("CIDRSet"), i), &r.cidrSet[i]))
	}
	for i, e := range r.entities {
		out = append(out, c.entity(fmt.Sprintf("%s[%d]", r.peer("Entities"), i), state.Entity(e)))
	}
	for i, s := range r.nodes {
		out = append(out, state.PolicyPeer{Nodes: c.objects(fmt.Sprintf("%s[%d]", r.peer("Nodes"), i), s)})
	}
	for i := range r.services {
		out = append(out, c.service(fmt.Sprintf("%s[%d]", r.peer("Services"), i), &r.services[i]))
	}
	if len(r.fqdns) > 0 {
		c.notSupported(r.peer("FQDNs"), "names of the DNS are not followed")
	}
	if r.groups > 0 {
		c.notSupported(r.peer("Groups"), "groups of cloud providers are not read")
	}
	return out
}

func (c *ciliumConverter) entity(field string, e state.Entity) state.PolicyPeer {
	if slices.Contains(entities(), e) {
		return state.PolicyPeer{Entity: e}
	}
	c.refuse(field, "%q is not a known entity", e)
	return state.PolicyPeer{}
}

// cidrRule converts an item of a CIDR set.
func (c *ciliumConverter) cidrRule(field string, r *v2.CIDRRule) state.PolicyPeer {
	given := 0
	for _, is := range []bool{r.CIDR != "", r.CIDRGroupRef != "", r.CIDRGroupSelector != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		c.refuse(field, "it wants one of cidr, cidrGroupRef and cidrGroupSelector")
		return state.PolicyPeer{}
	}
	var except []netip.Prefix
	for i, s := range r.Except {
		p, err := ciliumPrefix(s)
		if err != nil {
			c.refuse(fmt.Sprintf("%s.except[%d]", field, i), "%v", err)
			continue
		}
		except = append(except, p)
	}
	if r.CIDR == "" {
		group := &state.GroupPeer{Name: r.CIDRGroupRef, Except: except}
		if r.CIDRGroupSelector != nil {
			group.Selector = c.objects(field+".cidrGroupSelector", r.CIDRGroupSelector)
		}
		return state.PolicyPeer{CIDRGroup: group}
	}
	cidr, err := ciliumPrefix(r.CIDR)
	if err != nil {
		c.refuse(field+".cidr", "%v", err)
		return state.PolicyPeer{}
	}
	for i, p := range except {
		if !inside(p, cidr) {
			c.refuse(fmt.Sprintf("%s.except[%d]", field, i), "%s is not inside of %s", p, cidr)
		}
	}
	return state.PolicyPeer{Block: &state.IPBlock{CIDR: cidr, Except: except, Outside: true}}
}

func inside(p, of netip.Prefix) bool { return p.Bits() >= of.Bits() && of.Contains(p.Addr()) }

// ciliumCIDR reads a CIDR, or an address as one of all its bits.
func ciliumCIDR(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return ciliumPrefix(s)
}

// ciliumPrefix reads a CIDR as Cilium does, which knows fewer forms than
// parseBlock.
func ciliumPrefix(s string) (netip.Prefix, error) {
	if _, err := netip.ParsePrefix(s); err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a CIDR", s)
	}
	return parseBlock(s)
}

// service converts a reference to Services. A Service without a namespace is one
// of the policy's own, and in a rule that denies one of any.
func (c *ciliumConverter) service(field string, s *v2.Service) state.PolicyPeer {
	switch byName, bySelector := s.K8sService, s.K8sServiceSelector; {
	case (byName == nil) == (bySelector == nil):
		c.refuse(field, "it wants one of k8sService and k8sServiceSelector")
	case byName != nil && byName.ServiceName == "":
		c.refuse(field+".k8sService.serviceName", "it is empty")
	case byName != nil:
		ns := byName.Namespace
		if ns == "" && !c.deny {
			ns = c.namespace
		}
		if ns == "" && !c.deny {
			c.refuse(field+".k8sService.namespace", "it is empty, and the policy has none")
		}
		return state.PolicyPeer{Service: &state.ServicePeer{Namespace: ns, Name: byName.ServiceName}}
	default:
		return state.PolicyPeer{Service: &state.ServicePeer{
			Namespace: bySelector.Namespace, Selector: c.objects(field+".k8sServiceSelector.selector", bySelector.Selector),
		}}
	}
	return state.PolicyPeer{}
}
