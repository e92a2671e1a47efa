package k8s

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/state"
)

// rowsOf converts the YAML of spec and specs of a policy named p, of the namespace
// shop unless it is clusterwide.
func rowsOf(t testing.TB, clusterwide bool, text string) []state.NetworkPolicy {
	t.Helper()
	if clusterwide {
		p := &v2.CiliumClusterwideNetworkPolicy{}
		if err := yaml.UnmarshalStrict([]byte(text), p); err != nil {
			t.Fatal(err)
		}
		p.Name = "p"
		return CiliumClusterwideRows(p)
	}
	p := &v2.CiliumNetworkPolicy{}
	if err := yaml.UnmarshalStrict([]byte(text), p); err != nil {
		t.Fatal(err)
	}
	p.Namespace, p.Name = "shop", "p"
	return CiliumRows(p)
}

func selectorText(s *state.Selector) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		out = append(out, k+"="+s.MatchLabels[k])
	}
	for _, e := range s.Expressions {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Key, e.Operator, strings.Join(e.Values, "|"))))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

func peerText(p state.PolicyPeer) string {
	switch {
	case p.Endpoints != nil:
		return selectorText(p.Endpoints)
	case p.Block != nil:
		text := p.Block.CIDR.String()
		for _, e := range p.Block.Except {
			text += " but " + e.String()
		}
		if !p.Block.Outside {
			text += " also inside"
		}
		return text
	case p.Entity != "":
		return string(p.Entity)
	case p.Nodes != nil:
		return "nodes " + selectorText(p.Nodes)
	case p.Service != nil && p.Service.Selector != nil:
		return "services " + p.Service.Namespace + " " + selectorText(p.Service.Selector)
	case p.Service != nil:
		return "service " + p.Service.Namespace + "/" + p.Service.Name
	case p.CIDRGroup != nil && p.CIDRGroup.Selector != nil:
		return "groups " + selectorText(p.CIDRGroup.Selector)
	case p.CIDRGroup != nil:
		return fmt.Sprintf("group %s but %v", p.CIDRGroup.Name, p.CIDRGroup.Except)
	}
	return "nobody"
}

func portText(p state.PolicyPort) string {
	switch {
	case p.ICMPType != nil:
		return fmt.Sprintf("type %d/%s", *p.ICMPType, p.Protocol)
	case p.Name != "":
		return p.Name + "/" + p.Protocol.String()
	case p.EndPort != 0:
		return fmt.Sprintf("%d-%d/%s", p.Port, p.EndPort, p.Protocol)
	case p.Port == 0:
		return p.Protocol.String()
	}
	return fmt.Sprintf("%d/%s", p.Port, p.Protocol)
}

// rowLines describes a row, a line for each thing that it says.
func rowLines(p state.NetworkPolicy) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	add("%s selects %s", p.Key(), selectorText(&p.Subject))
	if p.IsolatesIngress || p.IsolatesEgress {
		add("isolates %v %v", p.IsolatesIngress, p.IsolatesEgress)
	}
	for _, l := range []struct {
		name  string
		rules []state.PolicyRule
	}{{"ingress", p.Ingress}, {"ingressDeny", p.IngressDeny}, {"egress", p.Egress}, {"egressDeny", p.EgressDeny}} {
		for _, r := range l.rules {
			var peers, ports []string
			for _, peer := range r.Peers {
				peers = append(peers, peerText(peer))
			}
			for _, port := range r.Ports {
				ports = append(ports, portText(port))
			}
			if len(peers) == 0 {
				peers = []string{"everybody"}
			}
			add("%s", strings.TrimSpace(l.name+": "+strings.Join(peers, "; ")+" : "+strings.Join(ports, " ")))
		}
	}
	for _, problem := range p.Problems {
		add("problem %s", problem)
	}
	for _, problem := range p.Unsupported {
		add("unsupported %s", problem)
	}
	return out
}

const shopWeb = "selects {k8s:app=web, k8s:io.kubernetes.pod.namespace=shop}"

// ruleCase is one rule of one list of a policy.
type ruleCase struct {
	name, list, rule string
	want             []string
}

func ciliumRuleCases() []ruleCase {
	return []ruleCase{
		{"nothing", "ingress", `{}`, []string{"ingress: nobody :"}},
		{"nothing denied", "ingressDeny", `{}`, []string{"ingressDeny: nobody :"}},
		{"ports alone", "ingress", `{toPorts: [{ports: [{port: "80", protocol: TCP}]}]}`, []string{"ingress: everybody : 80/TCP"}},
		{"null ports", "ingress", `{toPorts: null}`, []string{"ingress: nobody :"}},
		{"an empty list of peers", "ingress", `{fromEndpoints: [], toPorts: [{ports: [{port: "80", protocol: TCP}]}]}`, []string{"ingress: nobody :"}},
		{"an empty list beside another", "ingress", `{fromCIDR: [], fromEntities: [all]}`, []string{"ingress: nobody :"}},
		{"an empty list beside another, denied", "ingressDeny", `{fromCIDR: [], fromEntities: [all]}`, []string{"ingressDeny: all :"}},
		{"an empty list denied", "ingressDeny", `{fromEndpoints: [], toPorts: [{ports: [{port: "80"}]}]}`, []string{"ingressDeny: nobody :"}},
		{"the namespace", "ingress", `{fromEndpoints: [{}]}`, []string{"ingress: {k8s:io.kubernetes.pod.namespace=shop} :"}},
		{"null as a selector", "ingress", `{fromEndpoints: [null]}`, []string{
			"ingress: nobody :", "problem spec.ingress[0].fromEndpoints[0]: it is null; the rule allows nothing",
		}},
		{
			"forms of keys", "egress", `{toEndpoints: [{matchLabels: {app: a, "k8s:tier": b, "any:team": c}}]}`,
			[]string{"egress: {k8s:app=a, k8s:io.kubernetes.pod.namespace=shop, k8s:team=c, k8s:tier=b} :"},
		},
		{
			"one key in two forms", "egress", `{toEndpoints: [{matchLabels: {app: a, "k8s:app": b}}]}`,
			[]string{"egress: {k8s:app=a, k8s:io.kubernetes.pod.namespace=shop, k8s:app In b} :"},
		},
		{
			"another namespace", "ingress", `{fromEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system}}]}`,
			[]string{"ingress: {k8s:io.kubernetes.pod.namespace=kube-system} :"},
		},
		{
			"namespaces by their labels", "ingress", `{fromEndpoints: [{matchExpressions: [{key: "io.cilium.k8s.namespace.labels.team", operator: Exists}]}]}`,
			[]string{"ingress: {k8s:io.cilium.k8s.namespace.labels.team Exists} :"},
		},
		{
			"not a namespace", "ingress", `{fromEndpoints: [{matchExpressions: [{key: "io.kubernetes.pod.namespace", operator: NotIn, values: [a]}]}]}`,
			[]string{"ingress: {k8s:io.kubernetes.pod.namespace NotIn a} :"},
		},
		{
			"not a namespace, denied", "ingressDeny", `{fromEndpoints: [{matchExpressions: [{key: "io.kubernetes.pod.namespace", operator: NotIn, values: [a]}]}]}`,
			[]string{"ingressDeny: {k8s:io.kubernetes.pod.namespace NotIn a}; world; host; remote-node; init :"},
		},
		{"a reserved label", "ingress", `{fromEndpoints: [{matchLabels: {"reserved:host": ""}}]}`, []string{"ingress: host :"}},
		{"a reserved label that exists", "ingress", `{fromEndpoints: [{matchExpressions: [{key: "reserved:world", operator: Exists}]}]}`, []string{"ingress: world :"}},
		{"an unknown reserved label", "ingress", `{fromEndpoints: [{matchLabels: {"reserved:moon": ""}}]}`, []string{
			"ingress: nobody :", `problem spec.ingress[0].fromEndpoints[0]: "moon" is not a known entity; the rule allows nothing`,
		}},
		{"a reserved label beside others", "ingressDeny", `{fromEndpoints: [{matchLabels: {"reserved:host": "", a: b}}]}`, []string{
			"ingressDeny: everybody :",
			`problem spec.ingressDeny[0].fromEndpoints[0].matchLabels[reserved:host]: "reserved:host": a reserved label wants to stand alone; the rule denies everything`,
		}},
		{"another source", "ingress", `{fromEndpoints: [{matchLabels: {"container:x": "y"}}, {matchLabels: {app: a}}]}`, []string{
			"ingress: nobody :",
			`problem spec.ingress[0].fromEndpoints[0].matchLabels[container:x]: "container:x": nothing has labels of the source "container"; the rule allows nothing`,
		}},
		{"a bad operator", "ingress", `{fromEndpoints: [{matchExpressions: [{key: a, operator: Near}]}]}`, []string{
			"ingress: nobody :", `problem spec.ingress[0].fromEndpoints[0].matchExpressions[0].operator: "Near" is not known; the rule allows nothing`,
		}},
		{"CIDRs", "egress", `{toCIDR: [10.0.0.1/8, 192.0.2.1, "2001:db8::/32"]}`, []string{"egress: 10.0.0.0/8; 192.0.2.1/32; 2001:db8::/32 :"}},
		{"no CIDR", "egress", `{toCIDR: [10.0.0.0/8, ten]}`, []string{
			"egress: nobody :", `problem spec.egress[0].toCIDR[1]: "ten" is not a CIDR; the rule allows nothing`,
		}},
		{
			"a CIDR set", "egress", `{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.0/16]}, {cidrGroupRef: g, except: [10.0.0.0/9]}, {cidrGroupSelector: {matchLabels: {a: b}}}]}`,
			[]string{"egress: 10.0.0.0/8 but 10.1.0.0/16 but 10.2.0.0/16; group g but [10.0.0.0/9]; groups {a=b} :"},
		},
		{"an exception outside", "ingress", `{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}`, []string{
			"ingress: nobody :", "problem spec.ingress[0].fromCIDRSet[0].except[0]: 11.0.0.0/16 is not inside of 10.0.0.0/8; the rule allows nothing",
		}},
		{"an exception that is larger", "ingress", `{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/7]}]}`, []string{
			"ingress: nobody :", "problem spec.ingress[0].fromCIDRSet[0].except[0]: 10.0.0.0/7 is not inside of 10.0.0.0/8; the rule allows nothing",
		}},
		{"an address in a CIDR set", "ingress", `{fromCIDRSet: [{cidr: 10.0.0.1}]}`, []string{
			"ingress: nobody :", `problem spec.ingress[0].fromCIDRSet[0].cidr: "10.0.0.1" is not a CIDR; the rule allows nothing`,
		}},
		{"two in a CIDR set", "ingress", `{fromCIDRSet: [{cidr: 10.0.0.0/8, cidrGroupRef: g}]}`, []string{
			"ingress: nobody :", "problem spec.ingress[0].fromCIDRSet[0]: it wants one of cidr, cidrGroupRef and cidrGroupSelector; the rule allows nothing",
		}},
		{"entities", "egress", `{toEntities: [all, world, world-ipv4, world-ipv6, cluster, host, remote-node, init, kube-apiserver, health, ingress, unmanaged, none]}`, []string{
			"egress: all; world; world-ipv4; world-ipv6; cluster; host; remote-node; init; kube-apiserver; health; ingress; unmanaged; none :",
		}},
		{"an unknown entity", "egress", `{toEntities: [world, moon]}`, []string{
			"egress: nobody :", `problem spec.egress[0].toEntities[1]: "moon" is not a known entity; the rule allows nothing`,
		}},
		{"nodes", "ingress", `{fromNodes: [{matchLabels: {"k8s:role": db}, matchExpressions: [{key: zone, operator: In, values: [a, b]}]}]}`, []string{
			"ingress: nodes {role=db, zone In a|b} :",
		}},
		{"services", "egress", `{toServices: [{k8sService: {serviceName: a, namespace: x}}, {k8sService: {serviceName: b}}, {k8sServiceSelector: {selector: {matchLabels: {c: d}}, namespace: z}}]}`, []string{
			"egress: service x/a; service shop/b; services z {c=d} :",
		}},
		{"a service denied", "egressDeny", `{toServices: [{k8sService: {serviceName: b}}]}`, []string{"egressDeny: service /b :"}},
		{"no service", "egress", `{toServices: [{}]}`, []string{
			"egress: nobody :", "problem spec.egress[0].toServices[0]: it wants one of k8sService and k8sServiceSelector; the rule allows nothing",
		}},
		{"a service without selector", "egress", `{toServices: [{k8sServiceSelector: {namespace: x}}]}`, []string{
			"egress: nobody :", "problem spec.egress[0].toServices[0].k8sServiceSelector.selector: it is missing; the rule allows nothing",
		}},
		{"mixed", "ingress", `{fromEndpoints: [{}], fromEntities: [all]}`, []string{
			"ingress: nobody :", "problem spec.ingress[0]: fromEndpoints and fromEntities exclude each other; the rule allows nothing",
		}},
		{"mixed, denied", "ingressDeny", `{fromEndpoints: [{}], fromEntities: [world]}`, []string{
			"ingressDeny: everybody :", "problem spec.ingressDeny[0]: fromEndpoints and fromEntities exclude each other; the rule denies everything",
		}},

		{
			"ports", "ingress", `{fromEntities: [all], toPorts: [{ports: [{port: "80", protocol: TCP}, {port: "8000", endPort: 8080, protocol: udp}]}, {ports: [{port: HTTP, protocol: SCTP}]}]}`,
			[]string{"ingress: all : 80/TCP 8000-8080/UDP http/SCTP"},
		},
		{"any protocol", "ingress", `{fromEntities: [all], toPorts: [{ports: [{port: "53", protocol: ANY}]}]}`, []string{"ingress: all : 53/TCP 53/UDP 53/SCTP"}},
		{"all ports of any", "ingress", `{fromEntities: [all], toPorts: [{ports: [{port: "0"}]}]}`, []string{"ingress: all : TCP UDP SCTP"}},
		{"all ports of any, denied", "ingressDeny", `{fromEntities: [all], toPorts: [{ports: [{port: "0"}]}]}`, []string{"ingressDeny: all : ANY"}},
		{"all ports of one", "ingress", `{toPorts: [{ports: [{port: "0", protocol: TCP}]}]}`, []string{"ingress: everybody : TCP"}},
		{"a range from 0", "ingress", `{toPorts: [{ports: [{port: "0", endPort: 9, protocol: TCP}]}]}`, []string{"ingress: everybody : 1-9/TCP"}},
		{"protocols without ports", "ingress", `{toPorts: [{ports: [{port: "0", protocol: GRE}, {port: "0", protocol: VRRP}]}]}`, []string{"ingress: everybody : 47 112"}},
		{"a port where there are none", "ingress", `{toPorts: [{ports: [{port: "1", protocol: GRE}]}]}`, []string{
			"ingress: nobody :", `problem spec.ingress[0].toPorts[0].ports[0].port: "GRE" has no ports: use 0; the rule allows nothing`,
		}},
		{"ICMP as a port", "ingress", `{toPorts: [{ports: [{port: "8", protocol: ICMP}]}]}`, []string{
			"ingress: nobody :", `problem spec.ingress[0].toPorts[0].ports[0].protocol: "ICMP" has no ports: use icmps; the rule allows nothing`,
		}},
		{"no such protocol", "ingress", `{toPorts: [{ports: [{port: "8", protocol: TCPX}]}]}`, []string{
			"ingress: nobody :", `problem spec.ingress[0].toPorts[0].ports[0].protocol: "TCPX" is not known; the rule allows nothing`,
		}},
		{"no such port", "ingress", `{toPorts: [{ports: [{port: "65536", protocol: TCP}]}]}`, []string{
			"ingress: nobody :", `problem spec.ingress[0].toPorts[0].ports[0].port: "65536" is neither a port from 0 to 65535 nor the name of one; the rule allows nothing`,
		}},
		{"a port with zeros", "ingress", `{toPorts: [{ports: [{port: "010", protocol: TCP}]}]}`, []string{
			"ingress: nobody :", `problem spec.ingress[0].toPorts[0].ports[0].port: "010" is neither a port from 0 to 65535 nor the name of one; the rule allows nothing`,
		}},
		{"a range that ends before it begins", "ingress", `{toPorts: [{ports: [{port: "80", endPort: 79, protocol: TCP}]}]}`, []string{
			"ingress: nobody :", "problem spec.ingress[0].toPorts[0].ports[0].endPort: 79 is not a port from 80 to 65535; the rule allows nothing",
		}},
		{"a range from a name", "ingress", `{toPorts: [{ports: [{port: http, endPort: 79, protocol: TCP}]}]}`, []string{
			"ingress: nobody :", "problem spec.ingress[0].toPorts[0].ports[0].endPort: it wants a port that is a number; the rule allows nothing",
		}},
		{"an item without ports", "ingressDeny", `{fromEntities: [all], toPorts: [{}]}`, []string{
			"ingressDeny: everybody :", "problem spec.ingressDeny[0].toPorts[0].ports: there are none; the rule denies everything",
		}},
		{"too many ports", "ingress", "{toPorts: [{ports: [" + strings.Repeat(`{port: "1"}, `, 41) + "]}]}", []string{
			"ingress: nobody :", "problem spec.ingress[0].toPorts[0].ports: 41 are more than 40; the rule allows nothing",
		}},

		{
			"ICMP types", "ingress", `{icmps: [{fields: [{type: 8}, {type: EchoReply}, {family: IPv6, type: EchoRequest}]}, {fields: [{type: "3", family: IPv4}]}]}`,
			[]string{"ingress: everybody : type 8/ICMP type 0/ICMP type 128/ICMPv6 type 3/ICMP"},
		},
		{"a name of the other family", "ingress", `{icmps: [{fields: [{type: PacketTooBig}]}]}`, []string{
			"ingress: nobody :", `problem spec.ingress[0].icmps[0].fields[0].type: "PacketTooBig" is neither a number from 0 to 255 nor a known name; the rule allows nothing`,
		}},
		{"no ICMP type", "ingress", `{icmps: [{fields: [{type: 256}, {family: IPv5, type: 1}, {}]}]}`, []string{
			"ingress: nobody :",
			`problem spec.ingress[0].icmps[0].fields[0].type: "256" is neither a number from 0 to 255 nor a known name; the rule allows nothing`,
			`problem spec.ingress[0].icmps[0].fields[1].family: "IPv5" is neither IPv4 nor IPv6; the rule allows nothing`,
			"problem spec.ingress[0].icmps[0].fields[2].type: it is missing; the rule allows nothing",
		}},
		{"ICMP beside ports", "ingress", `{icmps: [{fields: [{type: 8}]}], toPorts: [{ports: [{port: "80"}]}]}`, []string{
			"ingress: nobody :", "problem spec.ingress[0]: icmps and toPorts exclude each other; the rule allows nothing",
		}},
		{"no fields", "ingress", `{icmps: [{}]}`, []string{
			"ingress: nobody :", "problem spec.ingress[0].icmps[0].fields: there are none; the rule allows nothing",
		}},

		{"names of the DNS", "egress", `{toFQDNs: [{matchName: example.org}], toPorts: [{ports: [{port: "443"}]}]}`, []string{
			"egress: nobody :", "unsupported spec.egress[0].toFQDNs: names of the DNS are not followed; the rule allows nothing",
		}},
		{"groups", "ingress", `{fromGroups: [{aws: {region: x}}]}`, []string{
			"ingress: nobody :", "unsupported spec.ingress[0].fromGroups: groups of cloud providers are not read; the rule allows nothing",
		}},
		{"requirements", "ingress", `{fromEndpoints: [{}], fromRequires: [{matchLabels: {a: b}}]}`, []string{
			"ingress: nobody :", "unsupported spec.ingress[0].fromRequires: requirements are no longer part of Cilium's policies; the rule allows nothing",
		}},
		{"layer 7", "ingress", `{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}]}}, {ports: [{port: "81"}], rules: {}}]}`, []string{
			"ingress: nobody :", "unsupported spec.ingress[0].toPorts[0].rules.http: rules above layer 4 are not enforced; the rule allows nothing",
		}},
		{"an empty list of layer 7", "ingress", `{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {dns: []}}]}`, []string{
			"ingress: nobody :", "unsupported spec.ingress[0].toPorts[0].rules.dns: rules above layer 4 are not enforced; the rule allows nothing",
		}},
		{"layer 7 of nothing", "ingress", `{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {}}]}`, []string{"ingress: everybody : 80/TCP"}},
		{"all else above layer 4", "egress", `{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {kafka: [], l7: [], l7proto: x}, terminatingTLS: {a: b}, originatingTLS: {}, serverNames: [x], listener: {name: y}}]}`, []string{
			"egress: nobody :",
			"unsupported spec.egress[0].toPorts[0].rules.kafka: rules above layer 4 are not enforced; the rule allows nothing",
			"unsupported spec.egress[0].toPorts[0].rules.l7: rules above layer 4 are not enforced; the rule allows nothing",
			"unsupported spec.egress[0].toPorts[0].rules.l7proto: rules above layer 4 are not enforced; the rule allows nothing",
			"unsupported spec.egress[0].toPorts[0].terminatingTLS: TLS is not terminated; the rule allows nothing",
			"unsupported spec.egress[0].toPorts[0].originatingTLS: TLS is not originated; the rule allows nothing",
			"unsupported spec.egress[0].toPorts[0].serverNames: the names of servers in TLS are not read; the rule allows nothing",
			"unsupported spec.egress[0].toPorts[0].listener: traffic is not redirected to a listener; the rule allows nothing",
		}},
		{"authentication", "ingress", `{fromEndpoints: [{}], authentication: {mode: required}}`, []string{
			"ingress: nobody :", `unsupported spec.ingress[0].authentication.mode: "required": peers are not authenticated; the rule allows nothing`,
		}},
		{"no authentication", "ingress", `{fromEntities: [all], authentication: {mode: disabled}}`, []string{"ingress: all :"}},
	}
}

func TestCiliumRules(t *testing.T) {
	for _, tc := range ciliumRuleCases() {
		t.Run(tc.name, func(t *testing.T) {
			rows := rowsOf(t, false, "spec: {endpointSelector: {matchLabels: {app: web}}, "+tc.list+": ["+tc.rule+"]}")
			want := append([]string{"cnp/shop/p " + shopWeb, "isolates " + fmt.Sprint(tc.list[0] == 'i', tc.list[0] == 'e')}, tc.want...)
			if diff := cmp.Diff(want, rowLines(rows[0])); len(rows) != 1 || diff != "" {
				t.Errorf("row (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCiliumPolicies has whole policies.
func TestCiliumPolicies(t *testing.T) {
	const podsOfAll = "{k8s:io.kubernetes.pod.namespace Exists}"
	for _, tc := range []struct {
		name        string
		clusterwide bool
		text        string
		want        []string
	}{
		{"clusterwide", true, `spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{}]}], egressDeny: [{toEntities: [world]}]}`, []string{
			"ccnp/p selects {}", "isolates true true", "ingress: " + podsOfAll + " :", "egressDeny: world :",
		}},
		{"clusterwide, of some namespaces", true, `spec: {endpointSelector: {matchLabels: {io.cilium.k8s.namespace.labels.a: b}}, ingress: [{fromEndpoints: [{matchLabels: {"any:io.kubernetes.pod.namespace": x}}]}]}`, []string{
			"ccnp/p selects {k8s:io.cilium.k8s.namespace.labels.a=b}", "isolates true false", "ingress: {k8s:io.kubernetes.pod.namespace=x} :",
		}},
		{"no default deny", false, `spec: {endpointSelector: {matchLabels: {app: web}}, enableDefaultDeny: {ingress: false, egress: true}, ingress: [{fromEntities: [all]}]}`, []string{
			"cnp/shop/p " + shopWeb, "isolates false true", "ingress: all :",
		}},
		{"specs", false, `{spec: {endpointSelector: {matchLabels: {app: web}}, ingress: [{}]}, specs: [{endpointSelector: {matchLabels: {app: web}}, egress: [{}]}, {endpointSelector: {matchLabels: {app: web}}, egress: [{toFQDNs: [{matchName: a}]}]}]}`, []string{
			"cnp/shop/p " + shopWeb, "isolates true false", "ingress: nobody :",
			"cnp/shop/p#1 " + shopWeb, "isolates false true", "egress: nobody :",
			"cnp/shop/p#2 " + shopWeb, "isolates false true", "egress: nobody :",
			"unsupported specs[1].egress[0].toFQDNs: names of the DNS are not followed; the rule allows nothing",
		}},
		{"specs alone", false, `specs: [{endpointSelector: {matchLabels: {app: web}}, ingress: [{}]}, null]`, []string{
			"cnp/shop/p#1 " + shopWeb, "isolates true false", "ingress: nobody :",
			"cnp/shop/p#2 selects {reserved:host Exists}", "problem specs[1]: it is missing; the policy selects no pods",
		}},
		{"nothing at all", false, `{}`, []string{"cnp/shop/p selects {reserved:host Exists}", "problem spec: it is missing; the policy selects no pods"}},
		{"no rules", false, `spec: {endpointSelector: {matchLabels: {app: web}}, ingress: []}`, []string{
			"cnp/shop/p " + shopWeb, "problem spec: it has none of ingress, ingressDeny, egress and egressDeny; it allows and denies nothing",
		}},
		{"nodes", true, `spec: {nodeSelector: {}, ingress: [{fromEntities: [cluster]}]}`, []string{
			"ccnp/p selects {reserved:host Exists}", "isolates true false", "ingress: cluster :",
			"unsupported spec.nodeSelector: policies of nodes are not enforced; the policy selects no pods",
		}},
		{"no selector", true, `spec: {ingress: [{}]}`, []string{
			"ccnp/p selects {reserved:host Exists}", "isolates true false", "ingress: nobody :",
			"problem spec: it has none of endpointSelector and nodeSelector; the policy selects no pods",
		}},
		{"both selectors", true, `spec: {endpointSelector: {}, nodeSelector: {}, ingress: [{}]}`, []string{
			"ccnp/p selects {reserved:host Exists}", "isolates true false", "ingress: nobody :",
			"problem spec: endpointSelector and nodeSelector exclude each other; the policy selects no pods",
		}},
		{"a subject with a reserved label", true, `spec: {endpointSelector: {matchLabels: {"reserved:ingress": ""}}, ingress: [{}]}`, []string{
			"ccnp/p selects {reserved:ingress=}", "isolates true false", "ingress: nobody :",
			"unsupported spec.endpointSelector: what has reserved labels is under no policies; the policy selects no pods",
		}},
		{"a subject without a reserved label", true, `spec: {endpointSelector: {matchExpressions: [{key: "reserved:init", operator: DoesNotExist}]}, ingress: [{}]}`, []string{
			"ccnp/p selects {reserved:init DoesNotExist}", "isolates true false", "ingress: nobody :",
		}},
		{"a subject that is not understood", false, `spec: {endpointSelector: {matchLabels: {app: web}, matchExpressions: [{key: a, operator: Near}]}, ingress: [{fromEntities: [all]}], egressDeny: [{toEntities: [world]}, {}]}`, []string{
			"cnp/shop/p " + shopWeb, "isolates true true", "egressDeny: everybody :", "egressDeny: everybody :",
			`problem spec.endpointSelector.matchExpressions[0].operator: "Near" is not known; the policy isolates without rules what the rest selects`,
		}},
		{"a subject of another namespace", false, `spec: {endpointSelector: {matchLabels: {app: web, "k8s:io.kubernetes.pod.namespace": other}}, ingress: [{}]}`, []string{
			"cnp/shop/p " + shopWeb, "isolates true false", "ingress: nobody :",
			`problem spec.endpointSelector: "other" is not the policy's own namespace; it is taken for that`,
		}},
		{"audited", false, `{metadata: {annotations: {placid.io/policy-audit: maybe}}, spec: {endpointSelector: {matchLabels: {app: web}}, ingress: [{}]}}`, []string{
			"cnp/shop/p " + shopWeb, "isolates true false", "ingress: nobody :",
			`problem metadata.annotations[placid.io/policy-audit]: "maybe" is neither true nor false; the policy is enforced`,
		}},
		{"a service of no namespace", true, `spec: {endpointSelector: {}, egress: [{toServices: [{k8sService: {serviceName: a}}]}]}`, []string{
			"ccnp/p selects {}", "isolates false true", "egress: nobody :",
			"problem spec.egress[0].toServices[0].k8sService.namespace: it is empty, and the policy has none; the rule allows nothing",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, row := range rowsOf(t, tc.clusterwide, tc.text) {
				got = append(got, rowLines(row)...)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCiliumAudit(t *testing.T) {
	for _, row := range rowsOf(t, true, `{metadata: {annotations: {placid.io/policy-audit: "true"}}, specs: [{endpointSelector: {}, ingress: [{}]}, {endpointSelector: {}, egress: [{}]}]}`) {
		if !row.Audit {
			t.Errorf("%s is not audited", row.Key())
		}
	}
}

func TestCIDRGroupRow(t *testing.T) {
	g := &v2.CiliumCIDRGroup{Spec: v2.CIDRGroupSpec{ExternalCIDRs: []string{"10.1.2.3/8", "nine", "2001:db8::1"}}}
	g.Name, g.Labels = "g", map[string]string{"a": "b"}
	want := state.CIDRGroup{
		Name: "g", Labels: map[string]string{"a": "b"}, CIDRs: prefixes("10.0.0.0/8", "2001:db8::1/128"),
		Problems: []string{`spec.externalCIDRs[1]: "nine" is not a CIDR; it is left out`},
	}
	if diff := cmp.Diff(want, CIDRGroupRow(g), comparers()); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
}
