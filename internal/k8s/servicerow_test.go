package k8s

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/placid-net/placid/internal/state"
)

// fromJSON reads a part of an object in the form that people write.
func fromJSON(t *testing.T, text string, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestServiceRow(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	http := state.ServicePort{Protocol: state.ProtocolTCP, Port: 80}
	tests := []struct {
		name, spec  string
		status      string // of the load balancer
		annotations map[string]string
		want        state.Service // without names
		problems    []string      // beginnings
		none        bool
	}{
		{name: "nothing", spec: `{}`},
		{name: "headless", spec: `{"clusterIP":"None","clusterIPs":["None"]}`, none: true},
		{name: "another name", spec: `{"type":"ExternalName","externalName":"example.org"}`, none: true},
		{
			name: "both families",
			spec: `{"type":"ClusterIP","clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1","fd00:96::1"],"ports":[
				{"name":"http","port":80,"nodePort":30080},{"name":"dns","port":53,"protocol":"UDP"},{"name":"sctp","port":9,"protocol":"SCTP"}]}`,
			want: state.Service{
				ClusterIPs: addrs("10.96.0.1", "fd00:96::1"),
				Ports: []state.ServicePort{
					{Name: "http", Protocol: state.ProtocolTCP, Port: 80},
					{Name: "dns", Protocol: state.ProtocolUDP, Port: 53},
					{Name: "sctp", Protocol: state.ProtocolSCTP, Port: 9},
				},
			},
		},
		{
			name: "one address in the older form", spec: `{"clusterIP":"10.96.0.1","ports":[{"port":80}]}`,
			want: state.Service{ClusterIPs: addrs("10.96.0.1"), Ports: []state.ServicePort{http}},
		},
		{
			name: "external addresses and node ports",
			spec: `{"type":"NodePort","externalIPs":["198.51.100.1","::ffff:198.51.100.2","198.051.100.003"],"externalTrafficPolicy":"Local",
				"internalTrafficPolicy":"Local","publishNotReadyAddresses":true,"ports":[{"port":80,"nodePort":30080}]}`,
			want: state.Service{
				ExternalIPs: addrs("198.51.100.1", "198.51.100.2", "198.51.100.3"), ExternalLocal: true, InternalLocal: true, PublishNotReady: true,
				Ports: []state.ServicePort{{Protocol: state.ProtocolTCP, Port: 80, NodePort: 30080}},
			},
		},
		{
			name: "load balancer",
			spec: `{"type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":31000,
				"loadBalancerSourceRanges":[" 192.0.2.0/24 ","fd00::1/64"],"ports":[{"port":80}]}`,
			status: `{"ingress":[{"ip":"203.0.113.1"},{"ip":"203.0.113.2","ipMode":"VIP"},{"ip":"203.0.113.3","ipMode":"Proxy"},{"hostname":"lb.example.org"}]}`,
			want: state.Service{
				LoadBalancers: addrs("203.0.113.1", "203.0.113.2"), SourceRanges: prefixes("192.0.2.0/24", "fd00::/64"),
				ExternalLocal: true, HealthCheckPort: 31000, Ports: []state.ServicePort{http},
			},
		},
		{
			name:   "what only load balancers have",
			spec:   `{"type":"NodePort","externalTrafficPolicy":"Local","healthCheckNodePort":31000,"loadBalancerSourceRanges":["192.0.2.0/24"]}`,
			status: `{"ingress":[{"ip":"203.0.113.1"}]}`, want: state.Service{ExternalLocal: true},
		},
		{name: "no health check for all nodes", spec: `{"type":"LoadBalancer","healthCheckNodePort":31000}`},
		{name: "affinity", spec: `{"sessionAffinity":"ClientIP"}`, want: state.Service{Affinity: 3 * time.Hour}},
		{
			name: "affinity with a timeout", spec: `{"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":90}}}`,
			want: state.Service{Affinity: 90 * time.Second},
		},
		{name: "a timeout without affinity", spec: `{"sessionAffinity":"None","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":90}}}`},
		{name: "same zone", spec: `{"trafficDistribution":"PreferSameZone"}`, want: state.Service{Distribution: state.DistributeSameZone}},
		{name: "same zone in the older form", spec: `{"trafficDistribution":"PreferClose"}`, want: state.Service{Distribution: state.DistributeSameZone}},
		{name: "same node", spec: `{"trafficDistribution":"PreferSameNode"}`, want: state.Service{Distribution: state.DistributeSameNode}},
		{
			name: "annotations", spec: `{}`,
			annotations: map[string]string{"service.cilium.io/lb-algorithm": "maglev", "service.kubernetes.io/topology-mode": "Auto", "example.org/x": "y"},
			want: state.Service{Annotations: map[string]string{
				"service.cilium.io/lb-algorithm": "maglev", "service.kubernetes.io/topology-mode": "Auto",
			}},
		},
		{
			name: "impossible", status: `{"ingress":[{"ip":"localhost"}]}`,
			spec: `{"type":"LoadBalancer","clusterIPs":["10.96.0.300","10.96.0.1"],"externalIPs":["127.0.0.1","224.0.0.1","0.0.0.0","fe80::1%eth0","fe80::1"],
				"sessionAffinity":"Cookie","trafficDistribution":"Far","externalTrafficPolicy":"Local","healthCheckNodePort":70000,
				"loadBalancerSourceRanges":["192.0.2.0/24","everybody"],
				"ports":[{"port":0},{"port":65536},{"port":-1},{"port":80,"protocol":"ICMP"},{"port":80,"nodePort":65536},{"port":81,"nodePort":-5}]}`,
			want: state.Service{
				ClusterIPs: addrs("10.96.0.1"), ExternalLocal: true, SourceRanges: prefixes("192.0.2.0/24"),
				Ports: []state.ServicePort{http, {Protocol: state.ProtocolTCP, Port: 81}},
			},
			problems: []string{
				"spec.clusterIPs[0]:", "spec.externalIPs[0]:", "spec.externalIPs[1]:", "spec.externalIPs[2]:", "spec.externalIPs[3]:",
				"spec.externalIPs[4]:", "spec.ports[0].port:", "spec.ports[1].port:", "spec.ports[2].port:", "spec.ports[3].protocol:",
				"spec.ports[4].nodePort:", "spec.ports[5].nodePort:", "spec.sessionAffinity:", "spec.trafficDistribution:",
				"status.loadBalancer.ingress[0]:", "spec.loadBalancerSourceRanges[1]:", "spec.healthCheckNodePort:",
			},
		},
		{
			name: "no source range is understood", spec: `{"type":"LoadBalancer","loadBalancerSourceRanges":["nobody"]}`,
			want:     state.Service{SourceRanges: prefixes("0.0.0.0/32", "::/128")},
			problems: []string{"spec.loadBalancerSourceRanges[0]: \"nobody\" is not a CIDR; it lets nobody in"},
		},
		{
			name:     "impossible timeouts",
			spec:     `{"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":0}}}`,
			want:     state.Service{Affinity: 3 * time.Hour},
			problems: []string{"spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not from 1 to 86400; it is 10800"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj := service("ns", "web")
			obj.UID, obj.Annotations = "uid", tt.annotations
			obj.CreationTimestamp = metav1.NewTime(created.In(time.FixedZone("x", 3600)))
			obj.Labels, obj.ManagedFields = map[string]string{"a": "b"}, []metav1.ManagedFieldsEntry{{Manager: "m"}}
			fromJSON(t, tt.spec, &obj.Spec)
			obj.Spec.Selector = map[string]string{"app": "web"}
			if tt.status != "" {
				fromJSON(t, tt.status, &obj.Status.LoadBalancer)
			}
			whole := obj.DeepCopy()
			row, problems, err := ServiceRow(trimService(obj))
			if errors.Is(err, errNoRow) != tt.none || !tt.none && err != nil {
				t.Fatalf("error %v, want a row: %t", err, !tt.none)
			}
			if !tt.none {
				tt.want.Ref, tt.want.UID, tt.want.CreatedAt = state.ServiceRef{Namespace: "ns", Name: "web"}, "uid", created
			}
			if diff := cmp.Diff(tt.want, row, comparers()); diff != "" {
				t.Errorf("row (-want +got):\n%s", diff)
			}
			wantBeginnings(t, tt.problems, problems)
			if untrimmed, _, _ := ServiceRow(whole); !cmp.Equal(untrimmed, row, comparers()) || !cmp.Equal(whole, obj) {
				t.Error("trimming changes the row, or the object")
			}
		})
	}
}

// wantBeginnings checks that there are these problems, each by its beginning, in
// any order.
func wantBeginnings(t *testing.T, want, got []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d problems, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for _, w := range want {
		found := false
		for _, g := range got {
			found = found || strings.HasPrefix(g, w)
		}
		if !found {
			t.Errorf("no problem begins with %q in:\n%s", w, strings.Join(got, "\n"))
		}
	}
}

func TestSliceRow(t *testing.T) {
	backend := func(addr string) state.SliceEndpoint {
		return state.SliceEndpoint{Addr: netip.MustParseAddr(addr), Ready: true, Serving: true}
	}
	of := func(ports []state.SlicePort, backends ...state.SliceEndpoint) state.EndpointSlice {
		return state.EndpointSlice{Namespace: "ns", Name: "web-1", Service: "web", Ports: ports, Backends: backends}
	}
	tests := []struct {
		name, text string
		want       state.EndpointSlice
		problems   []string
		none       bool
	}{
		{name: "empty", text: `{"addressType":"IPv4"}`, want: of(nil)},
		{name: "names", text: `{"addressType":"FQDN","endpoints":[{"addresses":["example.org"]}]}`, none: true},
		{name: "no type", text: `{}`, none: true},
		{
			name: "ports and addresses",
			text: `{"addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"},{"port":53,"protocol":"UDP"},{"name":"s","port":9,"protocol":"SCTP"},{"name":"d","port":1}],
				"endpoints":[{"addresses":["10.0.0.1","10.0.0.9"]},{"addresses":["010.0.0.2"]}]}`,
			want: of([]state.SlicePort{
				{Name: "http", Protocol: state.ProtocolTCP, Port: 8080},
				{Protocol: state.ProtocolUDP, Port: 53},
				{Name: "s", Protocol: state.ProtocolSCTP, Port: 9},
				{Name: "d", Protocol: state.ProtocolTCP, Port: 1},
			}, backend("10.0.0.1"), backend("10.0.0.2")),
		},
		{
			name: "conditions",
			text: `{"addressType":"IPv6","endpoints":[
				{"addresses":["fd00::1"],"conditions":{"ready":true,"serving":true,"terminating":false}},
				{"addresses":["fd00::2"],"conditions":{"ready":false}},
				{"addresses":["fd00::3"],"conditions":{"ready":false,"serving":true,"terminating":true}},
				{"addresses":["fd00::4"],"conditions":{"serving":false}}]}`,
			want: of(
				nil, backend("fd00::1"), state.SliceEndpoint{Addr: netip.MustParseAddr("fd00::2")},
				state.SliceEndpoint{Addr: netip.MustParseAddr("fd00::3"), Serving: true, Terminating: true},
				state.SliceEndpoint{Addr: netip.MustParseAddr("fd00::4"), Ready: true},
			),
		},
		{
			name: "places",
			text: `{"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"nodeName":"n1","zone":"z1","hostname":"web-0",
				"targetRef":{"kind":"Pod","name":"web-0"},"deprecatedTopology":{"a":"b"},
				"hints":{"forZones":[{"name":"z1"},{"name":"z2"}],"forNodes":[{"name":"n1"}]}}]}`,
			want: of(nil, state.SliceEndpoint{
				Addr: netip.MustParseAddr("10.0.0.1"), Ready: true, Serving: true, Node: "n1", Zone: "z1",
				HintZones: []string{"z1", "z2"}, HintNodes: []string{"n1"},
			}),
		},
		{
			name: "impossible",
			text: `{"addressType":"IPv4","ports":[{"name":"all"},{"name":"zero","port":0},{"name":"high","port":65536},{"name":"icmp","port":1,"protocol":"ICMP"},{"name":"ok","port":65535}],
				"endpoints":[{"addresses":[]},{"addresses":["fd00::1"]},{"addresses":["nonsense"]},{"addresses":["127.0.0.1"]},{"addresses":["10.0.0.1"]}]}`,
			want: of([]state.SlicePort{{Name: "ok", Protocol: state.ProtocolTCP, Port: 65535}}, backend("10.0.0.1")),
			problems: []string{
				"ports[0].port:", "ports[1].port:", "ports[2].port:", "ports[3].protocol:",
				"endpoints[0].addresses:", "endpoints[1].addresses:", "endpoints[2].addresses:", "endpoints[3].addresses:",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj := slice("ns", "web-1", "web")
			obj.AddressType = ""
			fromJSON(t, tt.text, obj)
			whole := obj.DeepCopy()
			row, problems, err := SliceRow(trimSlice(obj))
			if errors.Is(err, errNoRow) != tt.none || !tt.none && err != nil {
				t.Fatalf("error %v, want a row: %t", err, !tt.none)
			}
			if tt.want.Backends == nil && !tt.none {
				tt.want.Backends = []state.SliceEndpoint{}
			}
			if diff := cmp.Diff(tt.want, row, comparers()); diff != "" {
				t.Errorf("row (-want +got):\n%s", diff)
			}
			wantBeginnings(t, tt.problems, problems)
			if untrimmed, _, _ := SliceRow(whole); !cmp.Equal(untrimmed, row, comparers()) || !cmp.Equal(whole, obj) {
				t.Error("trimming changes the row, or the object")
			}
		})
	}
	if _, _, err := SliceRow(slice("ns", "alone", "")); !errors.Is(err, errNoRow) {
		t.Errorf("a slice of no Service: %v", err)
	}
}

// A full slice: Kubernetes puts up to 100 endpoints into one by default, and up to
// 1000 if it is told to.
func TestBigSlice(t *testing.T) {
	obj := slice("ns", strings.Repeat("n", 253), strings.Repeat("s", 63))
	for i := range 1000 {
		obj.Endpoints = append(obj.Endpoints, discoveryv1.Endpoint{Addresses: []string{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()}})
	}
	row, problems, err := SliceRow(obj)
	if err != nil || len(problems) > 0 || len(row.Backends) != 1000 || row.Backends[999].Addr != netip.MustParseAddr("10.0.3.231") {
		t.Errorf("%d backends, %v, %v", len(row.Backends), problems, err)
	}
}

// What is taken for an address is one in one form only.
func FuzzServiceAddr(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "010.000.0.1", "::ffff:10.0.0.1", "fd00::1", "fe80::1%eth0", "", "1.2.3", "::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseServiceAddr(text)
		if err != nil {
			return
		}
		again, err := parseServiceAddr(a.String())
		if err != nil || again != a || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
			t.Errorf("%q is %s, which is %s, %v", text, a, again, err)
		}
	})
}

// Nothing that the API can hold makes the conversion panic or gives a row that is
// not as its type says.
func FuzzServiceRow(f *testing.F) {
	f.Add(`{"spec":{"type":"LoadBalancer","clusterIPs":["10.0.0.1"],"ports":[{"port":80}]}}`)
	f.Add(`{"spec":{"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{}}},"status":{"loadBalancer":{"ingress":[{"ip":"::"}]}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var obj corev1.Service
		if json.Unmarshal([]byte(text), &obj) != nil {
			return
		}
		row, _, err := ServiceRow(&obj)
		if err != nil {
			return
		}
		for _, p := range row.Ports {
			if p.Port == 0 || p.Protocol == state.ProtocolAny {
				t.Errorf("%s gives the port %+v", text, p)
			}
		}
		for _, p := range row.SourceRanges {
			if p != p.Masked() || p.Addr().Is4In6() {
				t.Errorf("%s gives the range %s", text, p)
			}
		}
		if row.Affinity < 0 || row.Affinity > maxAffinity {
			t.Errorf("%s gives the affinity %s", text, row.Affinity)
		}
		if len(obj.Spec.LoadBalancerSourceRanges) > 0 && obj.Spec.Type == corev1.ServiceTypeLoadBalancer && len(row.SourceRanges) == 0 {
			t.Errorf("%s lets everybody in", text)
		}
	})
}
