package k8s

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/state"
)

// runCilium starts a client that watches all kinds of policies.
func runCilium(t *testing.T, api *apiServer) fixture {
	t.Helper()
	tables, err := state.NewTables()
	must(t, err)
	log := &logBuffer{}
	c, err := New(Config{
		REST: &rest.Config{Host: api.http.URL}, NodeName: "me", Tables: tables, Log: slog.New(slog.NewTextHandler(log, nil)),
		Policy: true, CiliumPolicies: true, ClusterwidePolicies: true,
	})
	must(t, err)
	f := fixture{Client: c, tables: tables, log: log}
	f.start(t)
	return f
}

// references are what the tables hold for policies of Cilium's kinds, in short.
type references struct{ Policies, Groups, Services, Slices []string }

func (f fixture) references() references {
	var v references
	policies, _, err1 := f.tables.NetworkPolicies()
	for _, p := range policies {
		v.Policies = append(v.Policies, p.Key())
	}
	groups, _, err2 := f.tables.CIDRGroups()
	for _, g := range groups {
		v.Groups = append(v.Groups, fmt.Sprintf("%s %v %v", g.Name, g.Labels, g.CIDRs))
	}
	services, _, err3 := f.tables.PolicyServices()
	for _, s := range services {
		v.Services = append(v.Services, fmt.Sprintf("%s %v %v", s.Ref, s.Labels, s.Selector))
	}
	all, _, err4 := f.tables.PolicySlices()
	for _, s := range all {
		v.Slices = append(v.Slices, fmt.Sprintf("%s/%s of %s: %d", s.Namespace, s.Name, s.Service, len(s.Backends)))
	}
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			v.Policies = append(v.Policies, err.Error())
		}
	}
	return v
}

func TestCiliumTablesFollowTheServer(t *testing.T) {
	bothLists(t, func(t *testing.T, api *apiServer) {
		rule := &v2.Rule{EndpointSelector: &metav1.LabelSelector{}, Ingress: []v2.IngressRule{{}}}
		api.put(policiesPath, networkPolicy("ns", "k"))
		api.put(cnpPath, cnp("ns", "a", rule, rule))
		api.put(cnpPath, cnp("ns", "b"))
		api.put(clusterwidePath, ccnp("c", rule))
		group := cidrGroup("g", "10.0.0.0/8", "bad")
		group.Labels = map[string]string{"k": "v"}
		api.put(groupsPath, group)
		headless := service("ns", "headless")
		headless.Spec.ClusterIP, headless.Spec.Selector = "None", map[string]string{"app": "db"}
		headless.Labels = map[string]string{"service.kubernetes.io/headless": "", "team": "x"}
		api.put(servicesPath, headless)
		api.put(servicesPath, service("ns", "outside"))
		byHand, byController := slice("ns", "hand", "outside", "203.0.113.1"), slice("ns", "made", "headless", "10.0.0.1")
		byController.Labels[discoveryv1.LabelManagedBy] = sliceController
		api.put(slicesPath, byHand)
		api.put(slicesPath, byController)

		f := runCilium(t, api)
		await(t, "PolicySynced", f.PolicySynced())
		want := references{
			Policies: []string{"ccnp/c#1", "cnp/ns/a#1", "cnp/ns/a#2", "cnp/ns/b", "ns/k"},
			Groups:   []string{"g map[k:v] [10.0.0.0/8]"},
			Services: []string{"ns/headless map[service.kubernetes.io/headless: team:x] map[app:db]", "ns/outside map[] map[]"},
			Slices:   []string{"ns/hand of outside: 1"},
		}
		if diff := cmp.Diff(want, f.references()); diff != "" {
			t.Fatalf("tables when synced (-want +got):\n%s", diff)
		}
		if rows, _, err := f.tables.Services(); err != nil || len(rows) != 0 {
			t.Errorf("services that nobody serves: %v, %v", rows, err)
		}
		if f.log.count("spec.externalCIDRs[1]") != 1 || f.log.count("spec: it is missing") != 1 {
			t.Error("the log does not say what is not understood")
		}

		// An object loses a part, another goes, one comes while nobody watches.
		api.put(cnpPath, cnp("ns", "a", rule))
		api.remove(cnpPath, "b")
		api.remove(servicesPath, "outside")
		want.Policies, want.Services = []string{"ccnp/c#1", "cnp/ns/a#1", "ns/k"}, want.Services[:1]
		eventually(t, "tables", want, f.references)
		api.set(func(s *apiServer) { s.down = true })
		api.disconnect()
		eventually(t, "Health", false, func() bool { return f.Health().OK })
		api.remove(cnpPath, "a")
		api.put(clusterwidePath, ccnp("d", rule, rule))
		api.remove(groupsPath, "g")
		api.expire()
		api.set(func(s *apiServer) { s.down = false })
		want.Policies, want.Groups = []string{"ccnp/c#1", "ccnp/d#1", "ccnp/d#2", "ns/k"}, nil
		eventually(t, "tables after an outage", want, f.references)
	})
}

// TestCiliumAbsent: a cluster without the definitions has no such policies; they
// come when the definitions do, and go with them.
func TestCiliumAbsent(t *testing.T) {
	bothLists(t, func(t *testing.T, api *apiServer) {
		api.set(func(s *apiServer) { s.noCilium = true })
		api.put(policiesPath, networkPolicy("ns", "k"))
		f := runCilium(t, api)
		await(t, "PolicySynced", f.PolicySynced())
		eventually(t, "Health", true, func() bool { return f.Health().OK })
		want := references{Policies: []string{"ns/k"}}
		if diff := cmp.Diff(want, f.references()); diff != "" {
			t.Fatalf("tables when synced (-want +got):\n%s", diff)
		}
		api.put(cnpPath, cnp("ns", "a"))
		api.set(func(s *apiServer) { s.noCilium = false })
		eventually(t, "tables", references{Policies: []string{"cnp/ns/a", "ns/k"}}, f.references)
		api.set(func(s *apiServer) { s.noCilium = true })
		api.disconnect()
		eventually(t, "tables without the definitions", want, f.references)
	})
}

// ciliumAtTheServer: what Cilium's definitions accept keeps its meaning on its way
// through ours and a real API server.
func ciliumAtTheServer(t *testing.T, f fixture) {
	const everything = `{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "all"}, "spec": {
		"endpointSelector": {"matchLabels": {"any:app": "web"}}, "enableDefaultDeny": {"egress": false}, "description": "d",
		"labels": [{"key": "a", "source": "k8s", "value": "b"}], "log": {"value": "x"},
		"ingress": [{}, {"fromEndpoints": []}, {"fromEndpoints": [{}], "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}],
			"rules": {"http": [{"method": "GET", "headers": ["X-A: b"], "headerMatches": [{"name": "n", "secret": {"name": "s"}}]}]}}]},
			{"fromGroups": [{"aws": {"region": "r", "labels": {"a": "b"}}}]}, {"icmps": [{"fields": [{"type": "EchoRequest", "family": "IPv6"}, {"type": 8, "family": "IPv4"}]}]},
			{"fromEntities": ["cluster"], "authentication": {"mode": "required"}}, {"fromNodes": [{"matchLabels": {"a": "b"}}]}],
		"ingressDeny": [{"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}, {"cidrGroupRef": "g"}, {"cidrGroupSelector": {"matchLabels": {"k": "v"}}}]}],
		"egress": [{"toFQDNs": [{"matchPattern": "*.example.org"}], "toPorts": [{"ports": [{"port": "443", "endPort": 444}],
			"terminatingTLS": {"secret": {"name": "s", "namespace": "n"}, "certificate": "c"}, "serverNames": ["a"],
			"listener": {"envoyConfig": {"kind": "CiliumEnvoyConfig", "name": "e"}, "name": "l", "priority": 3}}]},
			{"toServices": [{"k8sServiceSelector": {"selector": {"matchLabels": {"a": "b"}}, "namespace": "n"}}, {"k8sService": {"serviceName": "s"}}]}],
		"egressDeny": [{"toEntities": ["kube-apiserver"]}]}, "specs": [{"nodeSelector": {}, "ingress": []}]}`
	var want, got v2.CiliumNetworkPolicy
	must(t, json.Unmarshal([]byte(everything), &want))
	body := f.cilium.client.Post().Namespace("shop").Resource("ciliumnetworkpolicies").SetHeader("Content-Type", "application/json").
		Param("fieldValidation", "Strict").Body([]byte(everything))
	must(t, body.Do(t.Context()).Into(&got))
	if diff := cmp.Diff(want.Spec, got.Spec, comparers(), sameJSON()); diff != "" {
		t.Errorf("spec (-given +stored):\n%s", diff)
	}
	want.ObjectMeta = got.ObjectMeta
	rows := CiliumRows(&want)
	eventually(t, "rows", rows, func() []state.NetworkPolicy {
		all, _, _ := f.tables.NetworkPolicies()
		return slices.DeleteFunc(all, func(p state.NetworkPolicy) bool { return p.Kind != state.PolicyCilium })
	}, comparers())
	if len(rows) != 2 || len(rows[0].Unsupported) == 0 || len(rows[0].Problems) != 0 {
		t.Errorf("rows %+v", rows)
	}
	for _, bad := range []string{`{"egress": [{"toEntities": ["moon"]}]}`, `{"ingress": [{"toPorts": [{"ports": [{"port": "1", "protocol": "TCPX"}]}]}]}`} {
		text := `{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "bad"}, "spec": ` + bad + `}`
		err := f.cilium.client.Post().Namespace("shop").Resource("ciliumnetworkpolicies").Body([]byte(text)).SetHeader("Content-Type", "application/json").Do(t.Context()).Error()
		if !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v, want that it is invalid", bad, err)
		}
	}
}

// sameJSON compares what is kept as it was written by what it means.
func sameJSON() cmp.Option {
	return cmp.Comparer(func(a, b runtime.RawExtension) bool {
		var x, y any
		return json.Unmarshal(a.Raw, &x) == nil && json.Unmarshal(b.Raw, &y) == nil && reflect.DeepEqual(x, y)
	})
}
