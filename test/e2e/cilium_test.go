package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// The kinds of Cilium's policies, as kubectl calls them.
const (
	cnpKind, ccnpKind, groupKind = "ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies", "ciliumcidrgroups"
	rackLabel                    = "e2e.placid.io/rack"
)

// TestCiliumPolicies shows, step by step and by trying every way between pods and
// hosts, that CiliumNetworkPolicies and CiliumClusterwideNetworkPolicies mean what
// Cilium says.
func TestCiliumPolicies(t *testing.T) {
	l := startLab(t, "cilium", "--set", "ipam=kubernetes", "--set", "routing-mode=native", "--set", frequentAudits)
	w := l.newWorld(t)
	t.Cleanup(func() {
		if err := l.deleteCilium(nil); err != nil {
			t.Error(err)
		}
	})
	l.kubectl(t, "label", "node", l.nodes[1].name, "--overwrite", rackLabel+"=two")
	l.startCiliumServices(t, w)
	for _, s := range slices.Concat(l.ciliumPeerSteps(w), l.ciliumPortSteps(), l.ciliumOtherSteps()) {
		l.run(t, s.name, func(t *testing.T) {
			if s.change != nil {
				s.change(t)
			}
			l.setCilium(t, s.objects...)
			l.checkValid(t)
			l.checkWays(t, w, s.want)
			if s.also != nil {
				s.also(t, w)
			}
		})
	}
}

// ciliumStep is policies and what becomes of flows under them.
type ciliumStep struct {
	name    string
	change  func(t *testing.T)
	objects []string // YAML
	// want tells what becomes of a flow to a pod that its own node did not begin.
	want func(p probe, from, to *party) bool
	also func(t *testing.T, w *world)
}

// cnp and ccnp make policies of the YAML of their spec, or of specs.
func cnp(namespace, name, spec string) string {
	return fmt.Sprintf("{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: %s, name: %s, labels: {%s: \"yes\"}}, %s}",
		namespace, name, policyLabel, spec)
}

func ccnp(name, spec string) string {
	return fmt.Sprintf("{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: %s, labels: {%s: \"yes\"}}, %s}",
		name, policyLabel, spec)
}

// setCilium makes these the only objects of Cilium's.
func (l *lab) setCilium(t *testing.T, objects ...string) {
	t.Helper()
	var list []any
	keep := map[string]bool{}
	for _, text := range objects {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		var named metav1.PartialObjectMetadata
		decode(t, mustJSON(t, o), &named)
		keep[named.Kind+" "+named.Namespace+"/"+named.Name] = true
		list = append(list, o)
	}
	if len(list) > 0 {
		l.apply(t, list...)
	}
	if err := l.deleteCilium(keep); err != nil {
		t.Fatal(err)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// deleteCilium deletes the tests' objects but for those to keep.
func (l *lab) deleteCilium(keep map[string]bool) error {
	out, err := l.try(background(), nil, "kubectl", "get", strings.Join([]string{cnpKind, ccnpKind, groupKind}, ","), "-A", "-l", policyLabel, "-o", "json")
	if err != nil {
		return err
	}
	var found metav1.PartialObjectMetadataList
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		return fmt.Errorf("decode the policies there are: %w", err)
	}
	for _, o := range found.Items {
		if keep[o.Kind+" "+o.Namespace+"/"+o.Name] {
			continue
		}
		if _, err := l.try(background(), nil, "kubectl", "-n", cmp.Or(o.Namespace, "default"), "delete", strings.ToLower(o.Kind), o.Name); err != nil {
			return err
		}
	}
	return nil
}

// checkValid waits until `kubectl get` shows of every policy that it is valid.
func (l *lab) checkValid(t *testing.T) {
	t.Helper()
	const column = `-o=jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Valid")].status}{"\n"}{end}`
	eventually(t, time.Minute, "every policy is said to be valid", func() error {
		out := l.kubectl(t, "get", cnpKind+","+ccnpKind, "-A", column)
		for line := range strings.Lines(out) {
			if !strings.HasSuffix(strings.TrimSpace(line), "=True") {
				return fmt.Errorf("it shows\n%s", out)
			}
		}
		return nil
	})
}

// checkWays probes every way that a pod takes part in until all is as it is wanted.
func (l *lab) checkWays(t *testing.T, w *world, want func(p probe, from, to *party) bool) {
	t.Helper()
	var matrix []attempt
	var probes []probe
	denied := 0
	for _, from := range slices.Concat(w.pods, w.hosts) {
		for _, to := range slices.Concat(w.pods, w.hosts) {
			if from == to || from.pod == nil && to.pod == nil {
				continue
			}
			for _, f := range families {
				for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
					for _, port := range probePorts {
						p := probe{from: from.place, to: to.place, family: f, protocol: protocol, port: port}
						a := attempt{p, from.isNodeOf(*to) || want(p, from, to)}
						matrix, probes = append(matrix, a), append(probes, p)
						if !a.want {
							denied++
						}
					}
				}
			}
		}
	}
	began := time.Now()
	eventually(t, policyTimeout, "every way is as the policies say", func() error {
		var wrong []string
		for i, ok := range probeAll(t, probes) {
			if ok != matrix[i].want {
				wrong = append(wrong, fmt.Sprintf("%s: answered %t, want %t", probes[i], ok, matrix[i].want))
			}
		}
		if len(wrong) > 0 {
			return fmt.Errorf("%d of %d:\n%s", len(wrong), len(matrix), strings.Join(wrong[:min(len(wrong), 40)], "\n"))
		}
		return nil
	})
	t.Logf("%d ways, %d of them denied, right within %s", len(matrix), denied, time.Since(began).Round(10*time.Millisecond))
}

// none of what would be denied is so.
func none(denied ...bool) bool { return !slices.Contains(denied, true) }

func (p *party) in(namespace string) bool { return p.ns != nil && p.ns.Name == namespace }
func (p *party) is(name string) bool      { return p.pod != nil && p.name == name }
func (p *party) isNode() bool             { return p.pod == nil && p.node != "" }
func (p *party) isOutside() bool          { return p.pod == nil && p.node == "" }

// startCiliumServices makes a Service of pods, a headless one, and one of the host
// outside.
func (l *lab) startCiliumServices(t *testing.T, w *world) {
	t.Helper()
	service := func(name string, selector map[string]string) corev1.Service {
		return corev1.Service{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{Namespace: spaceY, Name: name},
			Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Selector: selector, Ports: []corev1.ServicePort{{Port: int32(probePorts[0])}}},
		}
	}
	objects := []any{service("pods", map[string]string{"pod": "a"}), service("host", nil)}
	outside := w.hosts[len(w.hosts)-1]
	for f, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		objects = append(objects, discoveryv1.EndpointSlice{
			TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
			ObjectMeta: metav1.ObjectMeta{
				Namespace: spaceY, Name: "host-" + strings.ToLower(string(family)), Labels: map[string]string{discoveryv1.LabelServiceName: "host"},
			},
			AddressType: family, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{outside.addrs[f].String()}}},
			Ports: []discoveryv1.EndpointPort{{Port: new(int32(probePorts[0]))}},
		})
	}
	l.apply(t, objects...)
}

// hostPrefix is the CIDR of one address.
func hostPrefix(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// ciliumPeerSteps are about whom rules mean.
func (l *lab) ciliumPeerSteps(w *world) []ciliumStep {
	outside := w.hosts[len(w.hosts)-1]
	racks := []string{
		cnp(spaceX, "p", "spec: {endpointSelector: {}, ingress: [{fromNodes: [{matchLabels: {"+rackLabel+": two}}]}]}"),
		cnp(spaceZ, "p", "spec: {endpointSelector: {}, egress: [{toNodes: [{matchLabels: {"+rackLabel+": two}}]}]}"),
	}
	throughRack := func(h host) func(probe, *party, *party) bool {
		other := func(p *party) bool { return !p.isNode() || p.node != h.name }
		return func(_ probe, from, to *party) bool {
			return none(to.in(spaceX) && other(from), from.in(spaceZ) && other(to))
		}
	}
	out4, out6 := hostPrefix(outside.addrs[ipv4]), hostPrefix(outside.addrs[ipv6])
	return []ciliumStep{
		{
			name: "entities: nodes, the world, all pods",
			objects: []string{
				cnp(spaceX, "p", "spec: {endpointSelector: {}, ingress: [{fromEntities: [host, remote-node]}]}"),
				cnp(spaceY, "p", "spec: {endpointSelector: {matchLabels: {pod: a}}, ingress: [{fromEntities: [cluster]}]}"),
				cnp(spaceZ, "p", "spec: {endpointSelector: {}, egress: [{toEntities: [world]}]}"),
			},
			want: func(_ probe, from, to *party) bool {
				return none(from.in(spaceZ) && !to.isOutside(), to.in(spaceX) && !from.isNode(), to.is(spaceY+"/a") && from.isOutside())
			},
		}, {
			name: "endpoints: of the namespace, of others, of any",
			objects: []string{
				cnp(spaceX, "p", `spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{}]}, {fromEndpoints: [{matchLabels: {"k8s:pod": b, "k8s:io.kubernetes.pod.namespace": np-z}}]}]}`),
				cnp(spaceY, "p", `spec: {endpointSelector: {matchLabels: {"any:pod": a}}, ingress: [{fromEndpoints: [{matchLabels: {io.cilium.k8s.namespace.labels.ns: x}}]}]}`),
			},
			want: func(_ probe, from, to *party) bool {
				return none(to.in(spaceX) && !from.in(spaceX) && !from.is(spaceZ+"/b"), to.is(spaceY+"/a") && !from.in(spaceX))
			},
		}, {
			name: "CIDRs mean neither pods nor nodes, and leave exceptions out",
			objects: []string{
				cnp(spaceX, "p", fmt.Sprintf("spec: {endpointSelector: {}, ingress: [{fromCIDRSet: [{cidr: 0.0.0.0/0, except: [%s]}, {cidr: \"::/0\"}]}]}", out4)),
				cnp(spaceY, "p", fmt.Sprintf("spec: {endpointSelector: {}, egress: [{toCIDR: [%s, \"%s\", 10.0.0.0/8]}]}", out4, out6)),
			},
			want: func(p probe, from, to *party) bool {
				return none(to.in(spaceX) && (!from.isOutside() || p.family == ipv4), from.in(spaceY) && !to.isOutside())
			},
		}, {
			name: "groups of CIDRs",
			objects: []string{
				fmt.Sprintf("{apiVersion: cilium.io/v2, kind: CiliumCIDRGroup, metadata: {name: outside, labels: {%s: \"yes\"}}, spec: {externalCIDRs: [%s, \"%s\"]}}", policyLabel, out4, out6),
				cnp(spaceX, "p", "spec: {endpointSelector: {}, ingress: [{fromCIDRSet: [{cidrGroupRef: outside}]}]}"),
				cnp(spaceZ, "p", "spec: {endpointSelector: {}, enableDefaultDeny: {egress: false}, egressDeny: [{toCIDRSet: [{cidrGroupSelector: {matchLabels: {"+policyLabel+": \"yes\"}}}]}]}"),
			},
			want: func(_ probe, from, to *party) bool {
				return none(to.in(spaceX) && !from.isOutside(), from.in(spaceZ) && to.isOutside())
			},
		}, {
			name:    "nodes by their labels",
			objects: racks,
			want:    throughRack(l.nodes[1]),
		}, {
			name: "the labels of nodes change",
			change: func(t *testing.T) {
				l.kubectl(t, "label", "node", l.nodes[1].name, rackLabel+"-")
				l.kubectl(t, "label", "node", l.nodes[0].name, "--overwrite", rackLabel+"=two")
			},
			objects: racks,
			want:    throughRack(l.nodes[0]),
		}, {
			name: "Services: of pods, and of addresses",
			objects: []string{
				cnp(spaceZ, "p", "spec: {endpointSelector: {matchLabels: {pod: a}}, egress: [{toServices: [{k8sService: {serviceName: pods, namespace: np-y}}]}]}"),
				cnp(spaceZ, "q", "spec: {endpointSelector: {matchLabels: {pod: b}}, egress: [{toServices: [{k8sService: {serviceName: host, namespace: np-y}}]}]}"),
			},
			want: func(_ probe, from, to *party) bool {
				return none(from.is(spaceZ+"/a") && !to.is(spaceY+"/a"), from.is(spaceZ+"/b") && !to.isOutside())
			},
		},
	}
}

// ciliumPortSteps are about ports, and about what is denied.
func (l *lab) ciliumPortSteps() []ciliumStep {
	low, high := probePorts[0], probePorts[1]
	return []ciliumStep{
		{
			name: "ranges, names and protocols",
			objects: []string{
				cnp(spaceX, "p", fmt.Sprintf(`spec: {endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "%d", endPort: %d, protocol: TCP}, {port: "%d"}]}]}]}`, low-100, low, high)),
				cnp(spaceY, "p", `spec: {endpointSelector: {}, ingress: [{fromEntities: [all], toPorts: [{ports: [{port: web, protocol: TCP}]}]}]}`),
			},
			want: func(p probe, _, to *party) bool {
				tcp := p.protocol == corev1.ProtocolTCP
				return none(to.in(spaceX) && p.port == low && !tcp, to.in(spaceY) && (p.port != high || !tcp))
			},
		}, {
			name: "deny beats allow, of every kind of policy",
			objects: []string{
				cnp(spaceX, "p", "spec: {endpointSelector: {}, ingress: [{fromEntities: [all]}], ingressDeny: [{fromEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: np-y, pod: a}}]}]}"),
				cnp(spaceX, "q", fmt.Sprintf(`spec: {endpointSelector: {}, ingressDeny: [{fromEntities: [world], toPorts: [{ports: [{port: "%d", protocol: UDP}]}]}]}`, high)),
				ccnp("p", "spec: {endpointSelector: {matchLabels: {io.kubernetes.pod.namespace: np-z}}, enableDefaultDeny: {egress: false}, egressDeny: [{toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: np-x, pod: b}}]}]}"),
			},
			want: func(p probe, from, to *party) bool {
				return none(to.in(spaceX) && from.is(spaceY+"/a"), to.in(spaceX) && from.isOutside() && p.port == high && p.protocol == corev1.ProtocolUDP,
					from.in(spaceZ) && to.is(spaceX+"/b"))
			},
		}, {
			name: "clusterwide, without default deny",
			objects: []string{
				ccnp("p", "spec: {endpointSelector: {matchExpressions: [{key: io.cilium.k8s.namespace.labels.ns, operator: In, values: [x, \"y\"]}]}, enableDefaultDeny: {ingress: false}, ingressDeny: [{fromEntities: [world]}], ingress: [{fromEntities: [host]}]}"),
			},
			want: func(_ probe, from, to *party) bool { return none(from.isOutside() && (to.in(spaceX) || to.in(spaceY))) },
		}, {
			name: "several specs",
			objects: []string{
				cnp(spaceX, "p", "specs: [{endpointSelector: {matchLabels: {pod: a}}, ingress: [{fromEntities: [world]}]}, {endpointSelector: {matchLabels: {pod: b}}, egress: [{toEntities: [cluster]}]}]"),
			},
			want: func(_ probe, from, to *party) bool {
				return none(to.is(spaceX+"/a") && !from.isOutside(), from.is(spaceX+"/b") && to.isOutside())
			},
		},
	}
}

// ciliumOtherSteps are about ICMP, the API server, and what is not supported.
func (l *lab) ciliumOtherSteps() []ciliumStep {
	return []ciliumStep{
		{
			name: "ICMP types",
			objects: []string{
				cnp(spaceX, "p", "spec: {endpointSelector: {matchLabels: {pod: a}}, ingress: [{icmps: [{fields: [{type: 8}, {family: IPv6, type: EchoRequest}]}]}]}"),
				cnp(spaceX, "q", "spec: {endpointSelector: {matchLabels: {pod: b}}, enableDefaultDeny: {ingress: false}, ingressDeny: [{icmps: [{fields: [{type: EchoRequest}]}]}]}"),
			},
			want: func(_ probe, _, to *party) bool { return !to.is(spaceX + "/a") },
			also: func(t *testing.T, w *world) {
				from := w.pod(t, spaceY+"/a")
				for _, tc := range []struct {
					to   string
					want [2]bool // by family
				}{{spaceX + "/a", [2]bool{true, true}}, {spaceX + "/b", [2]bool{false, true}}} {
					for _, f := range families {
						if got := pinged(t, from.place, w.pod(t, tc.to).addrs[f]); got != tc.want[f] {
							t.Errorf("ping of %s over %s: answered %t, want %t", tc.to, f, got, tc.want[f])
						}
					}
				}
			},
		}, {
			name:    "the API server",
			objects: []string{cnp(spaceX, "p", "spec: {endpointSelector: {}, egress: [{toEntities: [kube-apiserver]}]}")},
			want:    func(_ probe, from, _ *party) bool { return !from.in(spaceX) },
			also: func(t *testing.T, w *world) {
				server := get[discoveryv1.EndpointSliceList](t, l, "-n", "default", "endpointslices", "-l", discoveryv1.LabelServiceName+"=kubernetes").Items[0]
				addr := netip.AddrPortFrom(netip.MustParseAddr(server.Endpoints[0].Addresses[0]), uint16(*server.Ports[0].Port))
				if out, err := inNetns(w.pod(t, spaceX+"/a").netns, func() (string, error) { return tcpAnswers(addr) }); err != nil {
					t.Errorf("a pod does not reach the API server at %s: %v %s", addr, err, out)
				}
			},
		}, {
			name: "what is not supported allows nothing, and an event says so",
			objects: []string{
				cnp(spaceX, "http", `spec: {endpointSelector: {matchLabels: {pod: a}}, ingress: [{toPorts: [{ports: [{port: "7080", protocol: TCP}], rules: {http: [{method: GET}]}}]}, {fromEntities: [world]}]}`),
				cnp(spaceY, "names", `spec: {endpointSelector: {}, egress: [{toFQDNs: [{matchName: example.org}]}]}`),
				ccnp("nodes", `spec: {nodeSelector: {}, ingress: [{fromEntities: [cluster]}]}`),
			},
			want: func(_ probe, from, to *party) bool {
				return none(to.is(spaceX+"/a") && !from.isOutside(), from.in(spaceY))
			},
			also: func(t *testing.T, _ *world) {
				for name, field := range map[string]string{"http": "spec.ingress[0].toPorts[0].rules.http", "names": "spec.egress[0].toFQDNs", "nodes": "spec.nodeSelector"} {
					l.waitPolicyEvent(t, name, "PolicyNotSupported", field)
				}
			},
		}, {
			name: "all policies are gone",
			want: func(probe, *party, *party) bool { return true },
		},
	}
}

// pinged tells whether an address answers one of three echo requests.
func pinged(t *testing.T, from place, to netip.Addr) bool {
	t.Helper()
	out, err := inNetns(from.netns, func() ([]byte, error) {
		return exec.CommandContext(t.Context(), "ping", "-c", "3", "-i", "0.2", "-W", "1", to.String()).CombinedOutput()
	})
	if err != nil && exitCode(err) != 1 {
		t.Fatalf("ping %s: %v\n%s", to, err, out)
	}
	return err == nil
}

// tcpAnswers connects to an address.
func tcpAnswers(addr netip.AddrPort) (string, error) {
	out, err := exec.CommandContext(background(), "timeout", "5", "bash", "-c", fmt.Sprintf("</dev/tcp/%s/%d", addr.Addr(), addr.Port())).CombinedOutput()
	return string(out), err
}

// waitPolicyEvent waits for an event about the object that names the field.
func (l *lab) waitPolicyEvent(t *testing.T, name, reason, field string) {
	t.Helper()
	eventually(t, policyTimeout, "an event about "+name, func() error {
		events := get[corev1.EventList](t, l, "events", "-A", "--field-selector", "reason="+reason+",involvedObject.name="+name)
		for _, e := range events.Items {
			if strings.Contains(e.Message, field) {
				return nil
			}
		}
		return fmt.Errorf("%d events, none that names %s", len(events.Items), field)
	})
}
