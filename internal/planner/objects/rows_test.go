package objects

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

func compareAddrs() cmp.Options {
	return cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func TestPodRow(t *testing.T) {
	s, problems := read(t, tree(t, map[string]string{"in.yaml": `apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: shop
  uid: u1
  labels: {app: web}
  ownerReferences:
  - {kind: Other, name: x}
  - {apiVersion: apps/v1, kind: StatefulSet, name: web, controller: true}
spec:
  nodeName: n1
  initContainers:
  - name: once
    ports: [{containerPort: 1, hostPort: 1, name: once}]
  - name: sidecar
    restartPolicy: Always
    ports: [{containerPort: 15001, hostPort: 15001, hostIP: 192.0.2.1}]
  containers:
  - name: web
    ports:
    - {containerPort: 8080, name: http, hostPort: 80}
    - {containerPort: 5353, protocol: UDP, hostPort: 53}
    - {containerPort: 70000, hostPort: 70000}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop}
spec: {hostNetwork: true, serviceAccountName: agent, containers: [{ports: [{containerPort: 9, hostPort: 9}]}]}
status: {podIP: 192.0.2.7}
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: shop}
status: {phase: Succeeded}
`}))
	wantLines(t, problems, "warning in.yaml, document 1: Pod shop/web-0: spec.containers[0].ports[2]: it is no port of a pod; it is left out")
	want := []snapshot.Pod{
		{Pod: state.Pod{Ref: state.PodRef{Namespace: "shop", Name: "agent"}, ServiceAccount: "agent"}, HostNetwork: true, Addrs: addrs("192.0.2.7"), Ports: []state.NamedPort{{Protocol: state.ProtocolTCP, Port: 9}}},
		{
			Pod: state.Pod{
				Ref: state.PodRef{Namespace: "shop", Name: "web-0", UID: "u1"}, Labels: map[string]string{"app": "web"}, ServiceAccount: "default",
				NamedPorts: []state.NamedPort{{Name: "http", Protocol: state.ProtocolTCP, Port: 8080}},
			},
			Node: "n1", Addrs: addrs("10.0.0.1", "fd00::1"), Owner: "StatefulSet/web",
			Ports: []state.NamedPort{
				{Protocol: state.ProtocolTCP, Port: 15001}, {Protocol: state.ProtocolUDP, Port: 5353}, {Name: "http", Protocol: state.ProtocolTCP, Port: 8080},
			},
			HostPorts: []state.HostPort{
				{HostIP: netip.MustParseAddr("192.0.2.1"), Protocol: state.ProtocolTCP, HostPort: 15001, ContainerPort: 15001},
				{Protocol: state.ProtocolTCP, HostPort: 80, ContainerPort: 8080},
				{Protocol: state.ProtocolUDP, HostPort: 53, ContainerPort: 5353},
			},
		},
	}
	if diff := cmp.Diff(want, s.Pods, compareAddrs()); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]state.Namespace{{Name: "shop", Labels: map[string]string{"kubernetes.io/metadata.name": "shop"}}}, s.Namespaces); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
}

func TestNodeRow(t *testing.T) {
	s, problems := read(t, tree(t, map[string]string{"in.yaml": `apiVersion: v1
kind: Node
metadata:
  name: n1
  labels: {topology.kubernetes.io/zone: a, node.kubernetes.io/instance-type: m5.large}
spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, "fd00:1::/64", nothing]}
status:
  addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 192.0.2.1}, {type: ExternalIP, address: 203.0.113.1}]
  capacity: {cpu: 3500m, memory: 16Gi, pods: "110"}
  allocatable: {pods: 58}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {failure-domain.beta.kubernetes.io/zone: b, beta.kubernetes.io/instance-type: old}}
spec: {podCIDR: 10.2.0.0/24}
---
apiVersion: cilium.io/v2
kind: CiliumNode
metadata: {name: n2}
spec: {addresses: [{type: InternalIP, ip: 192.0.2.2}, {type: CiliumInternalIP, ip: 10.9.0.1}], ipam: {podCIDRs: [10.9.0.0/24]}}
---
apiVersion: cilium.io/v2
kind: CiliumNode
metadata: {name: n3, labels: {node.kubernetes.io/instance-type: m5.large}}
spec: {addresses: [{type: InternalIP, ip: 192.0.2.3}], ipam: {podCIDRs: [10.10.0.0/24]}}
`}))
	wantLines(t, problems, `warning in.yaml, document 1: Node n1: spec.podCIDRs[2]: "nothing" is not a CIDR; it is left out`)
	prefixes := func(texts ...string) []netip.Prefix {
		var out []netip.Prefix
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	want := []snapshot.Node{
		{
			Name: "n1", Labels: map[string]string{"topology.kubernetes.io/zone": "a", "node.kubernetes.io/instance-type": "m5.large"},
			Addrs: addrs("192.0.2.1", "203.0.113.1"), PodCIDRs: prefixes("10.1.0.0/24", "fd00:1::/64"), Zone: "a", InstanceType: "m5.large",
			Memory: 16 << 30, CPUs: 4, MaxPods: 58,
		},
		{
			Name: "n2", Labels: map[string]string{"failure-domain.beta.kubernetes.io/zone": "b", "beta.kubernetes.io/instance-type": "old"},
			PodCIDRs: prefixes("10.9.0.0/24"), Zone: "b", InstanceType: "old",
		},
		{
			Name: "n3", Labels: map[string]string{"node.kubernetes.io/instance-type": "m5.large"}, Addrs: addrs("192.0.2.3"),
			PodCIDRs: prefixes("10.10.0.0/24"), InstanceType: "m5.large",
		},
	}
	if diff := cmp.Diff(want, s.Nodes, compareAddrs()); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if s.Platform != snapshot.Cilium {
		t.Errorf("platform %q", s.Platform)
	}
}

// TestServiceRows reads Services of every type, with slices and with Endpoints,
// which count where there is no slice.
func TestServiceRows(t *testing.T) {
	s, problems := read(t, tree(t, map[string]string{"in.yaml": `apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {tier: front}}
spec: {clusterIP: 10.96.0.5, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: old, namespace: shop}
spec: {type: NodePort, clusterIP: 10.96.0.6, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}}
---
apiVersion: v1
kind: Service
metadata: {name: out, namespace: shop}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1], nodeName: n1}, {addresses: [nowhere]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: lone, namespace: shop}
addressType: IPv4
---
apiVersion: v1
kind: Endpoints
metadata: {name: web, namespace: shop}
subsets: [{addresses: [{ip: 10.0.0.9}], ports: [{port: 8080}]}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: old, namespace: shop}
subsets:
- addresses: [{ip: 10.0.0.2, nodeName: n2}, {ip: "fd00::2"}]
  notReadyAddresses: [{ip: 10.0.0.3}]
  ports: [{name: http, port: 8080, protocol: TCP}]
`}))
	wantLines(t, problems, `warning in.yaml, document 5: EndpointSlice shop/web-1: endpoints[1].addresses: ["nowhere"]: not an IP address; the endpoint is left out`)
	var services []string
	for _, svc := range s.Services {
		services = append(services, svc.Ref.String()+" "+svc.Type)
	}
	if diff := cmp.Diff([]string{"shop/old NodePort", "shop/web ClusterIP"}, services); diff != "" || s.Headless != 2 || len(s.PolicyServices) != 4 {
		t.Errorf("services (-want +got):\n%s\n%d without an address, %d for policies", diff, s.Headless, len(s.PolicyServices))
	}
	if web := s.Services[1]; web.Selector["app"] != "web" || web.Labels["tier"] != "front" {
		t.Errorf("service %+v", web)
	}
	tcp := func(name string) []state.SlicePort {
		return []state.SlicePort{{Name: name, Protocol: state.ProtocolTCP, Port: 8080}}
	}
	want := []state.EndpointSlice{
		{Namespace: "shop", Name: "old-endpoints-0-IPv4", Service: "old", Ports: tcp("http"), Backends: []state.SliceEndpoint{
			{Addr: netip.MustParseAddr("10.0.0.2"), Ready: true, Serving: true, Node: "n2"}, {Addr: netip.MustParseAddr("10.0.0.3")},
		}},
		{Namespace: "shop", Name: "old-endpoints-0-IPv6", Service: "old", Ports: tcp("http"), Backends: []state.SliceEndpoint{
			{Addr: netip.MustParseAddr("fd00::2"), Ready: true, Serving: true},
		}},
		{Namespace: "shop", Name: "web-1", Service: "web", Ports: tcp(""), Backends: []state.SliceEndpoint{
			{Addr: netip.MustParseAddr("10.0.0.1"), Ready: true, Serving: true, Node: "n1"},
		}},
	}
	if diff := cmp.Diff(want, s.Slices, compareAddrs()); diff != "" {
		t.Errorf("slices (-want +got):\n%s", diff)
	}
}

// TestPolicyRows reads a policy of each kind, and two in one object.
func TestPolicyRows(t *testing.T) {
	s, problems := read(t, tree(t, map[string]string{"in.yaml": deny + `---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: two, namespace: shop}
spec: {endpointSelector: {}, ingress: [{}]}
specs:
- {endpointSelector: {matchLabels: {app: web}}, egress: [{toEntities: [world]}]}
status: {conditions: [], derivativePolicies: {x: 1}}
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: all}
spec: {endpointSelector: {}, egressDeny: [{toCIDRSet: [{cidrGroupRef: offices}]}]}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumCIDRGroup
metadata: {name: offices, labels: {use: people}}
spec: {externalCIDRs: [192.0.2.0/24, nowhere]}
`}))
	wantLines(t, problems)
	if got := policyNames(s); got != "ccnp/all cnp/shop/two cnp/shop/two#1 shop/deny" {
		t.Errorf("policies %s", got)
	}
	if len(s.CIDRGroups) != 1 || len(s.CIDRGroups[0].CIDRs) != 1 || len(s.CIDRGroups[0].Problems) != 1 {
		t.Errorf("groups %+v", s.CIDRGroups)
	}
	if o := s.Origins[snapshot.Object{Kind: "CiliumClusterwideNetworkPolicy", Name: "all"}]; o.Document != 3 || o.Item != 0 {
		t.Errorf("origin %+v", o)
	}
}

// Rules of a direction that a policy does not list are told, unless it lists none: then
// they say what it is about.
func TestRulesOfAnUnlistedDirection(t *testing.T) {
	policy := func(types string) string {
		return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\n" +
			"spec: {podSelector: {}, " + types + "ingress: [{}], egress: [{}]}\n"
	}
	const place = "warning in.yaml, document 1: NetworkPolicy shop/web: "
	for types, want := range map[string][]string{
		"":                                 nil,
		"policyTypes: [Ingress, Egress], ": nil,
		"policyTypes: [Ingress], ":         {place + "spec.egress: its rules have no effect, and pods are not isolated by them: spec.policyTypes does not list Egress"},
		"policyTypes: [Egress], ":          {place + "spec.ingress: its rules have no effect, and pods are not isolated by them: spec.policyTypes does not list Ingress"},
	} {
		_, problems := read(t, tree(t, map[string]string{"in.yaml": policy(types)}))
		wantLines(t, problems, want...)
	}
}
