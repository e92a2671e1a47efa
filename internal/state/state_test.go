package state

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func changed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTables(t *testing.T) {
	tables, err := NewTables()
	must(t, err)
	nodes, nodesChanged, err := tables.Nodes()
	must(t, err)
	eps, epsChanged, err := tables.Endpoints()
	must(t, err)
	if len(nodes) != 0 || len(eps) != 0 {
		t.Fatalf("new tables hold %v and %v", nodes, eps)
	}

	must(t, tables.UpsertNode(Node{Name: "b"}))
	must(t, tables.UpsertNode(Node{Name: "a"}))
	if !changed(nodesChanged) || changed(epsChanged) {
		t.Errorf("after a node: nodes changed %t, endpoints changed %t", changed(nodesChanged), changed(epsChanged))
	}
	nodes, nodesChanged, err = tables.Nodes()
	must(t, err)
	if len(nodes) != 2 || nodes[0].Name != "a" || changed(nodesChanged) {
		t.Errorf("nodes %v, changed %t", nodes, changed(nodesChanged))
	}
	must(t, tables.UpsertNode(Node{Name: "a", MTU: 1400}))
	if nodes[0].MTU != 0 || !changed(nodesChanged) {
		t.Errorf("a snapshot changed with its table: %v, changed %t", nodes, changed(nodesChanged))
	}
	must(t, tables.DeleteNode("b"))
	must(t, tables.DeleteNode("b"))
	if nodes, _, _ = tables.Nodes(); len(nodes) != 1 || nodes[0].MTU != 1400 {
		t.Errorf("nodes %v", nodes)
	}

	id := AttachmentID{ContainerID: "c1", IfName: "eth0"}
	for _, n := range []uint32{300, 2, 70000} {
		must(t, tables.UpsertEndpoint(Endpoint{ID: n, Attachment: AttachmentID{ContainerID: "c1", IfName: "eth" + string(rune('0'+n%10))}}))
	}
	must(t, tables.UpsertEndpoint(Endpoint{ID: 300, Attachment: id, MTU: 9}))
	if eps, _, err = tables.Endpoints(); err != nil || len(eps) != 3 {
		t.Errorf("endpoints %v, %v", eps, err)
	}
	ep, ok, err := tables.EndpointByAttachment(id)
	if err != nil || !ok || ep.MTU != 9 {
		t.Errorf("endpoint of %s: %+v, %t, %v", id, ep, ok, err)
	}
	must(t, tables.DeleteEndpoint(ep.ID))
	must(t, tables.DeleteEndpoint(ep.ID))
	if _, ok, err = tables.EndpointByAttachment(id); ok || err != nil {
		t.Errorf("after its deletion: %t, %v", ok, err)
	}
}

func TestNodeAddr(t *testing.T) {
	n := Node{Addrs: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}}
	if n.Addr(false) != n.Addrs[1] || n.Addr(true) != n.Addrs[0] || (Node{}).Addr(true).IsValid() {
		t.Errorf("addresses %s and %s", n.Addr(false), n.Addr(true))
	}
}

func TestEndpointJSON(t *testing.T) {
	want := Endpoint{
		ID: 7, Attachment: AttachmentID{"c1", "eth0"}, Netns: "/run/netns/x", Pod: PodRef{"ns", "pod", "uid"},
		IPv4: netip.MustParseAddr("10.1.1.5"), MAC: MAC{2, 0, 0, 0, 0, 0xab}, HostIfName: "plc1", HostIndex: 4,
		Bandwidth: Bandwidth{EgressRate: 1e6}, MTU: 1450, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		HostPorts: []HostPort{
			{Protocol: ProtocolTCP, HostPort: 8080, ContainerPort: 80},
			{HostIP: netip.MustParseAddr("fd00::1"), Protocol: ProtocolSCTP, HostPort: 9, ContainerPort: 99},
		},
	}
	data, err := json.Marshal(want)
	must(t, err)
	var got Endpoint
	must(t, json.Unmarshal(data, &got))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v comes back as %+v", want, got)
	}
	if addrs := got.Addrs(); len(addrs) != 1 || addrs[0] != want.IPv4 {
		t.Errorf("addresses %v", addrs)
	}
	for _, bad := range []string{"", "02:00", "02:00:00:00:00:00:00:01", "hello"} {
		if err := new(MAC).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a MAC", bad)
		}
	}
}
