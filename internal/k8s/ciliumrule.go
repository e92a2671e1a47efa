package k8s

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/placid-net/placid/api/cilium/v2"
)

// ciliumRule is an ingress or an egress rule.
type ciliumRule struct {
	field          string // its name, e.g. "spec.ingress[0]"
	from           string // "from" or "to": what the names of its lists of peers begin with
	endpoints      []*metav1.LabelSelector
	nodes          []*metav1.LabelSelector
	cidrs          []string
	cidrSet        []v2.CIDRRule
	entities       []v2.Entity
	services       []v2.Service
	fqdns          []v2.FQDNSelector
	groups         int
	groupsGiven    bool
	requires       int
	toPorts        []v2.PortRule
	icmps          []v2.ICMPRule
	authentication *v2.Authentication
}

// rulesOf returns the rules of the four lists: ingress, ingressDeny, egress and
// egressDeny.
func rulesOf(field string, r *v2.Rule) [4][]ciliumRule {
	return [4][]ciliumRule{
		ingressRules(field+".ingress", r.Ingress), ingressRules(field+".ingressDeny", r.IngressDeny),
		egressRules(field+".egress", r.Egress), egressRules(field+".egressDeny", r.EgressDeny),
	}
}

func ingressRules(field string, in []v2.IngressRule) []ciliumRule {
	var out []ciliumRule
	for i, r := range in {
		out = append(out, ciliumRule{
			field: fmt.Sprintf("%s[%d]", field, i), from: "from",
			endpoints: r.FromEndpoints, nodes: r.FromNodes, cidrs: r.FromCIDR, cidrSet: r.FromCIDRSet, entities: r.FromEntities,
			groups: len(r.FromGroups), groupsGiven: r.FromGroups != nil, requires: len(r.FromRequires),
			toPorts: r.ToPorts, icmps: r.ICMPs, authentication: r.Authentication,
		})
	}
	return out
}

func egressRules(field string, in []v2.EgressRule) []ciliumRule {
	var out []ciliumRule
	for i, r := range in {
		out = append(out, ciliumRule{
			field: fmt.Sprintf("%s[%d]", field, i), from: "to",
			endpoints: r.ToEndpoints, nodes: r.ToNodes, cidrs: r.ToCIDR, cidrSet: r.ToCIDRSet, entities: r.ToEntities,
			services: r.ToServices, fqdns: r.ToFQDNs,
			groups: len(r.ToGroups), groupsGiven: r.ToGroups != nil, requires: len(r.ToRequires),
			toPorts: r.ToPorts, icmps: r.ICMPs, authentication: r.Authentication,
		})
	}
	return out
}

// peer is the name of one of the rule's lists of peers.
func (r *ciliumRule) peer(kind string) string { return r.field + "." + r.from + kind }

// peerList is one of the lists of peers that a rule can have.
type peerList struct {
	name  string
	given bool // also when it is empty
	items int
}

func (r *ciliumRule) lists() []peerList {
	list := func(kind string, given bool, items int) peerList { return peerList{r.from + kind, given, items} }
	return []peerList{
		list("Endpoints", r.endpoints != nil, len(r.endpoints)), list("CIDR", r.cidrs != nil, len(r.cidrs)),
		list("CIDRSet", r.cidrSet != nil, len(r.cidrSet)), list("Entities", r.entities != nil, len(r.entities)),
		list("Nodes", r.nodes != nil, len(r.nodes)), list("Services", r.services != nil, len(r.services)),
		list("FQDNs", r.fqdns != nil, len(r.fqdns)), list("Groups", r.groupsGiven, r.groups),
	}
}

// nobody tells whether the rule, as it is written, is about no traffic at all: it
// has neither peers nor ports, or a list of peers without any. A rule that denies
// and has peers is about those, whatever other lists are empty.
func (r *ciliumRule) nobody(deny bool) bool {
	empty, items := false, 0
	for _, l := range r.lists() {
		empty = empty || l.given && l.items == 0
		items += l.items
	}
	if items > 0 {
		return empty && !deny
	}
	return empty || len(r.toPorts)+len(r.icmps) == 0
}
