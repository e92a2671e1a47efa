package k8s

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/placid-net/placid/internal/state"
)

const (
	servicesPath = "/api/v1/services"
	slicesPath   = "/apis/discovery.k8s.io/v1/endpointslices"
)

func service(ns, name string) *corev1.Service {
	return &corev1.Service{TypeMeta: meta("Service", "v1"), ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
}

func servedAt(name, clusterIP string, labels map[string]string) *corev1.Service {
	s := service("ns", name)
	s.Labels, s.UID, s.Spec.ClusterIP = labels, typesUID("uid-"+name), clusterIP
	return s
}

// slice gives an EndpointSlice of a Service, "" for none.
func slice(ns, name, service string, addrs ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		TypeMeta: meta("EndpointSlice", "discovery.k8s.io/v1"), ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	if service != "" {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

func zoned(name, zone string) *corev1.Node {
	n := coreNode(name, "uid-"+name)
	n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	return n
}

// runServices runs a client that watches what services need.
func runServices(t *testing.T, api *apiServer, proxyName string) fixture {
	t.Helper()
	f := newClientWith(t, api, Config{Services: true, ServiceProxyName: proxyName})
	f.start(t)
	return f
}

// served is what the tables hold of services, in short.
type served struct{ Services, Slices []string }

func (f fixture) served() served {
	var v served
	services, _, err1 := f.tables.Services()
	for _, s := range services {
		line := s.Ref.String()
		for _, a := range s.ClusterIPs {
			line += " " + a.String()
		}
		v.Services = append(v.Services, line)
	}
	slices, _, err2 := f.tables.Slices()
	for _, s := range slices {
		line := s.Namespace + "/" + s.Name + " of " + s.Service
		for _, b := range s.Backends {
			line += " " + b.Addr.String()
		}
		v.Slices = append(v.Slices, line)
	}
	if err := errors.Join(err1, err2); err != nil {
		v.Services = append(v.Services, err.Error())
	}
	return v
}

func fillServices(api *apiServer) {
	api.put(servicesPath, servedAt("web", "10.96.0.1", nil))
	api.put(servicesPath, servedAt("db", "10.96.0.2", nil))
	api.put(servicesPath, servedAt("none", corev1.ClusterIPNone, nil))
	api.put(servicesPath, servedAt("marked", "10.96.0.3", map[string]string{labelHeadless: ""}))
	api.put(servicesPath, servedAt("foreign", "10.96.0.4", map[string]string{labelServiceProxyName: "other"}))
	api.put(slicesPath, slice("ns", "web-1", "web", "10.0.0.1", "10.0.0.2"))
	api.put(slicesPath, slice("ns", "db-1", "db", "10.0.0.3"))
	api.put(slicesPath, slice("ns", "alone", "", "10.0.0.4"))
	headless := slice("ns", "none-1", "none", "10.0.0.5")
	headless.Labels[labelHeadless] = ""
	api.put(slicesPath, headless)
	foreign := slice("ns", "foreign-1", "foreign", "10.0.0.6")
	foreign.Labels[labelServiceProxyName] = "other"
	api.put(slicesPath, foreign)
}

func TestServicesFollowTheServer(t *testing.T) {
	bothLists(t, func(t *testing.T, api *apiServer) {
		fillServices(api)
		f := runServices(t, api, "")
		await(t, "ServicesSynced", f.ServicesSynced())
		want := served{
			Services: []string{"ns/db 10.96.0.2", "ns/web 10.96.0.1"},
			Slices:   []string{"ns/db-1 of db 10.0.0.3", "ns/web-1 of web 10.0.0.1 10.0.0.2"},
		}
		if diff := cmp.Diff(want, f.served()); diff != "" {
			t.Fatalf("tables when synced (-want +got):\n%s", diff)
		}

		api.put(servicesPath, servedAt("web", corev1.ClusterIPNone, nil)) // cannot be, and is no row any more
		api.put(servicesPath, servedAt("new", "10.96.0.9", nil))
		api.remove(servicesPath, "db")
		api.put(slicesPath, slice("ns", "web-1", "web", "10.0.0.2"))
		api.put(slicesPath, slice("ns", "new-1", "new"))
		api.remove(slicesPath, "db-1")
		want = served{Services: []string{"ns/new 10.96.0.9"}, Slices: []string{"ns/new-1 of new", "ns/web-1 of web 10.0.0.2"}}
		eventually(t, "tables", want, f.served)

		// The API server is away: everything stays.
		api.set(func(s *apiServer) { s.down = true })
		api.disconnect()
		eventually(t, "Health", false, func() bool { return f.Health().OK })
		api.remove(servicesPath, "new")
		api.remove(slicesPath, "web-1")
		if diff := cmp.Diff(want, f.served()); diff != "" {
			t.Errorf("tables during an outage (-want +got):\n%s", diff)
		}
		api.expire()
		api.set(func(s *apiServer) { s.down = false })
		eventually(t, "tables after an outage", served{Slices: []string{"ns/new-1 of new"}}, f.served)
		eventually(t, "Health", true, func() bool { return f.Health().OK })
	})
}

// With a name, Services that carry it count; slices need not.
func TestServicesOfAnotherProxyName(t *testing.T) {
	api := newAPIServer(t)
	fillServices(api)
	api.put(slicesPath, slice("ns", "foreign-by-hand", "foreign", "10.0.0.7"))
	f := runServices(t, api, "other")
	await(t, "ServicesSynced", f.ServicesSynced())
	got := f.served()
	if diff := cmp.Diff([]string{"ns/foreign 10.96.0.4"}, got.Services); diff != "" {
		t.Errorf("Services (-want +got):\n%s", diff)
	}
	if all := strings.Join(got.Slices, "\n"); !strings.Contains(all, "foreign-1") || !strings.Contains(all, "foreign-by-hand") || strings.Contains(all, "none-1") {
		t.Errorf("slices:\n%s", all)
	}
}

func TestBadServiceProxyName(t *testing.T) {
	tables, err := state.NewTables()
	must(t, err)
	good := newClient(t, newAPIServer(t))
	rc, err := Connection{Kubeconfig: writeKubeconfig(t, good.api.http.URL), QPS: 1, Burst: 1, UserAgent: "x"}.RESTConfig()
	must(t, err)
	_, err = New(Config{REST: rc, NodeName: "me", Tables: tables, Log: good.Client.log, Services: true, ServiceProxyName: "a b"})
	if err == nil || !strings.Contains(err.Error(), `proxy "a b"`) {
		t.Errorf("error %v", err)
	}
}

// A list of what is known wakes nobody.
func TestServicesRelist(t *testing.T) {
	api := newAPIServer(t)
	fillServices(api)
	f := runServices(t, api, "")
	await(t, "ServicesSynced", f.ServicesSynced())
	services, slices := f.tables.FeedServices(), f.tables.FeedSlices()
	services.Take()
	slices.Take()
	api.expire()
	api.disconnect()
	// What is new comes with the new list of its resource, and nothing else does.
	api.put(servicesPath, servedAt("zz", "10.96.0.9", nil))
	api.put(slicesPath, slice("ns", "zz-1", "zz"))
	await(t, "the Service that is new", services.Ready())
	await(t, "the slice that is new", slices.Ready())
	if c := services.Take(); len(c) != 1 || c[0].Old != nil || c[0].New.Ref.Name != "zz" {
		t.Errorf("changes of Services: %v", c)
	}
	if c := slices.Take(); len(c) != 1 || c[0].Old != nil || c[0].New.Name != "zz-1" {
		t.Errorf("changes of slices: %v", c)
	}
}

func (f fixture) zones() map[string]string {
	out := map[string]string{}
	nodes, _, err := f.tables.Nodes()
	if err != nil {
		out["error"] = err.Error()
	}
	for _, n := range nodes {
		out[n.Name] = n.Zone
	}
	return out
}

func TestZoneOfThisNode(t *testing.T) {
	bothLists(t, func(t *testing.T, api *apiServer) {
		api.put(coreNodesPath, zoned("me", "z1"))
		api.put(coreNodesPath, zoned("peer", "z2"))
		api.put(nodesPath, node("peer"))
		f := runServices(t, api, "")
		await(t, "ServicesSynced", f.ServicesSynced())
		await(t, "NodesSynced", f.NodesSynced())
		// The row of this node comes later than its zone.
		api.put(nodesPath, node("me"))
		eventually(t, "zones", map[string]string{"me": "z1", "peer": ""}, f.zones)
		api.put(coreNodesPath, zoned("me", "z3"))
		eventually(t, "another zone", map[string]string{"me": "z3", "peer": ""}, f.zones)
		api.put(nodesPath, node("me", "10.1.0.0/24"))
		eventually(t, "the row was written again", 1, func() int {
			n, _, _ := f.tables.NodeByName("me")
			return len(n.PodCIDRs)
		})
		if diff := cmp.Diff(map[string]string{"me": "z3", "peer": ""}, f.zones()); diff != "" {
			t.Errorf("zones (-want +got):\n%s", diff)
		}
		api.put(coreNodesPath, coreNode("me", "uid-me"))
		eventually(t, "the label was removed", map[string]string{"me": "", "peer": ""}, f.zones)
		api.put(coreNodesPath, zoned("me", "z4"))
		eventually(t, "the label is back", map[string]string{"me": "z4", "peer": ""}, f.zones)
		api.remove(coreNodesPath, "me")
		eventually(t, "the Node was deleted", map[string]string{"me": "", "peer": ""}, f.zones)
		api.remove(nodesPath, "me")
		eventually(t, "the row was deleted", map[string]string{"peer": ""}, f.zones)
		api.put(coreNodesPath, zoned("me", "z5"))
		api.put(nodesPath, node("last"))
		eventually(t, "a zone makes no row", map[string]string{"peer": "", "last": ""}, f.zones)
	})
}

func TestEventService(t *testing.T) {
	api := newAPIServer(t)
	fillServices(api)
	f := runServices(t, api, "")
	await(t, "ServicesSynced", f.ServicesSynced())
	for range 3 {
		f.EventService(state.ServiceRef{Namespace: "ns", Name: "web"}, EventWarning, "ServiceRefused", "table backend_map is full")
	}
	f.EventService(state.ServiceRef{Namespace: "ns", Name: "gone"}, EventWarning, "ServiceRefused", "no row, no UID")
	eventually(t, "events", 2, func() int { _, _, events := api.seen(); return len(events) })
	_, _, events := api.seen()
	ref := events[0].InvolvedObject
	if ref.Kind != "Service" || ref.APIVersion != "v1" || ref.Namespace != "ns" || ref.Name != "web" || ref.UID != "uid-web" {
		t.Errorf("the event is about %+v", ref)
	}
	if e := events[0]; e.Namespace != "ns" || e.Reason != "ServiceRefused" || e.Message != "table backend_map is full" || e.Type != corev1.EventTypeWarning {
		t.Errorf("the event is %+v", e)
	}
	if ref := events[1].InvolvedObject; ref.Name != "gone" || ref.UID != "" {
		t.Errorf("the event is about %+v", ref)
	}
}

func TestServiceProblemsAreLogged(t *testing.T) {
	api := newAPIServer(t)
	api.put(servicesPath, servedAt("web", "nonsense", nil))
	api.put(slicesPath, slice("ns", "web-1", "web", "rubbish", "10.0.0.1"))
	f := runServices(t, api, "")
	await(t, "ServicesSynced", f.ServicesSynced())
	want := served{Services: []string{"ns/web"}, Slices: []string{"ns/web-1 of web 10.0.0.1"}}
	if diff := cmp.Diff(want, f.served()); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	for _, parts := range [][2]string{{"service=ns/web", "nonsense"}, {"slice=ns/web-1", "rubbish"}} {
		if f.log.count(parts[0]) != 1 || f.log.count(parts[1]) != 1 {
			t.Errorf("the log does not name %q and %q once", parts[0], parts[1])
		}
	}
}
