package verdict

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/state"
)

// Keys of labels, as identities have them.
const (
	podPrefix       = identity.SourceKubernetes + ":"
	namespaceName   = podPrefix + identity.NamespaceKey
	namespacePrefix = podPrefix + identity.NamespaceLabelPrefix
	accountName     = podPrefix + identity.ServiceAccountKey
)

// other is the value of a label that has none of the values which policies name.
// No label of Kubernetes has it.
const other = "\x00"

// isDerived tells whether a name of a label of an identity stands for something
// else than a label of the pod.
func isDerived(name string) bool {
	return name == namespaceName || strings.HasPrefix(name, podPrefix+"io.cilium.k8s.")
}

// values are the values of a label that policies name.
type values map[string]struct{}

// mentions is all that policies can tell pods by.
type mentions struct {
	// own are the labels of pods by which policies of Kubernetes select their pods,
	// labels those of identities, as "k8s:key".
	own, labels map[string]values
	ports       map[state.NamedPort]struct{} // names, with Port 0
	prefixes    map[netip.Prefix]struct{}
}

// mentioned collects them from the policies of all sides.
func mentioned(sides ...[]state.NetworkPolicy) mentions {
	m := mentions{
		own: map[string]values{}, labels: map[string]values{},
		ports: map[state.NamedPort]struct{}{}, prefixes: map[netip.Prefix]struct{}{},
	}
	for _, policies := range sides {
		for _, p := range policies {
			m.policy(p)
		}
	}
	return m
}

func (m mentions) policy(p state.NetworkPolicy) {
	if p.Kind == state.PolicyKubernetes {
		m.selector(m.own, "", p.Subject)
	} else {
		m.selector(m.labels, "", p.Subject)
	}
	if p.Namespace != "" {
		note(m.labels, namespaceName, p.Namespace)
	}
	for _, rules := range [][]state.PolicyRule{p.Ingress, p.Egress, p.IngressDeny, p.EgressDeny} {
		for _, r := range rules {
			for _, x := range r.Peers {
				m.peer(p.Namespace, x)
			}
			for _, x := range r.Ports {
				if x.Name != "" {
					m.ports[state.NamedPort{Name: x.Name, Protocol: x.Protocol}] = struct{}{}
				}
			}
		}
	}
}

func (m mentions) peer(namespace string, p state.PolicyPeer) {
	if p.Pods != nil {
		m.selector(m.labels, podPrefix, *p.Pods)
	}
	switch {
	case p.Namespaces != nil:
		m.selector(m.labels, namespacePrefix, *p.Namespaces)
	case p.Pods != nil:
		note(m.labels, namespaceName, namespace)
	}
	if p.Endpoints != nil {
		m.selector(m.labels, "", *p.Endpoints)
	}
	if p.Block != nil {
		m.prefix(p.Block.CIDR)
		for _, x := range p.Block.Except {
			m.prefix(x)
		}
	}
	switch p.Entity {
	case state.EntityWorldIPv4:
		m.prefix(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	case state.EntityWorldIPv6:
		m.prefix(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
	default:
	}
}

// prefix takes note of a prefix, in the form that addresses are looked up in.
func (m mentions) prefix(p netip.Prefix) {
	if !p.IsValid() {
		return
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	m.prefixes[p.Masked()] = struct{}{}
}

func (m mentions) selector(table map[string]values, prefix string, s state.Selector) {
	for key, value := range s.MatchLabels {
		note(table, prefix+key, value)
	}
	for _, x := range s.Expressions {
		note(table, prefix+x.Key, x.Values...)
	}
}

func note(table map[string]values, key string, named ...string) {
	if table[key] == nil {
		table[key] = values{}
	}
	for _, v := range named {
		table[key][v] = struct{}{}
	}
}

// project keeps of labels what policies name: keys in the table, with other for a
// value that is not in it.
func project(labels map[string]string, table map[string]values) map[string]string {
	out := map[string]string{}
	for key, value := range labels {
		named, known := table[key]
		if !known {
			continue
		}
		if _, ok := named[value]; !ok {
			value = other
		}
		out[key] = value
	}
	return out
}

// projectPorts keeps the named ports that policies name.
func (m mentions) projectPorts(ports []state.NamedPort) []state.NamedPort {
	return slices.DeleteFunc(slices.Clone(ports), func(p state.NamedPort) bool {
		_, known := m.ports[state.NamedPort{Name: p.Name, Protocol: p.Protocol}]
		return !known
	})
}
