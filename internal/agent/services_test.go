package agent

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/agentapi"
)

const healthCheckURL = "http://127.0.0.1:31234/healthz"

// service writes a Service of the type LoadBalancer with a port 80 named http. It
// is of the first day of the year unless since says otherwise.
func (a *testAgent) service(name, clusterIP string, since ...string) {
	a.api.put(servicesPath, name, object{
		"metadata": object{"namespace": "default", "creationTimestamp": cmp.Or(strings.Join(since, ""), "2026-01-01T00:00:00Z")},
		"spec": object{
			"type": "LoadBalancer", "clusterIP": clusterIP, "clusterIPs": []string{clusterIP}, "ipFamilies": []string{"IPv4"},
			"externalTrafficPolicy": "Local", "healthCheckNodePort": 31234,
			"ports": []any{object{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30080}},
		},
		"status": object{"loadBalancer": object{"ingress": []any{object{"ip": "198.51.100.1"}}}},
	})
}

// slice writes the one EndpointSlice of a Service; every backend is on this node.
func (a *testAgent) slice(service string, addrs ...string) {
	endpoints := []any{}
	for _, addr := range addrs {
		endpoints = append(endpoints, object{"addresses": []string{addr}, "nodeName": testNode, "conditions": object{"ready": true, "serving": true, "terminating": false}})
	}
	a.api.put(slicesPath, service+"-1", object{
		"metadata":    object{"namespace": "default", "labels": object{"kubernetes.io/service-name": service}},
		"addressType": "IPv4", "endpoints": endpoints,
		"ports": []any{object{"name": "http", "protocol": "TCP", "port": 8080}},
	})
}

// served waits until the kernel serves the Service's port with so many backends.
func (a *testAgent) served(t *testing.T, name string, backends int) agentapi.ServiceInfo {
	t.Helper()
	var out agentapi.ServiceInfo
	waitFor(t, name+" to be served", func() bool {
		services, err := a.client.Services(t.Context(), "default/"+name)
		if err != nil || len(services) != 1 || len(services[0].Ports) != 1 {
			return false
		}
		out = services[0]
		return out.Ports[0].State == agentapi.ServiceRealised && len(out.Ports[0].Backends) == backends
	})
	return out
}

func (a *testAgent) lb(t *testing.T) agentapi.LBTables {
	t.Helper()
	out, err := a.client.LB(t.Context())
	must(t, err)
	return out
}

// TestAgentServices follows a Service from the API server into the kernel, over
// an agent that is killed, to its end.
func TestAgentServices(t *testing.T) {
	a := newTestAgent(t)
	a.api.set("10.1.1.0/24")
	a.service("web", "10.96.0.10")
	a.slice("web", "10.1.1.5", "10.1.1.6")
	a.start(t)
	a.waitReady(t)

	web := a.served(t, "web", 2)
	kinds := []string{}
	for _, f := range web.Ports[0].Frontends {
		kinds = append(kinds, f.Kind+" "+f.Addr.String())
	}
	want := []string{"ClusterIP 10.96.0.10:80", "NodePort " + nodeAddr + ":30080", "LoadBalancer 198.51.100.1:80"}
	slices.Sort(want)
	slices.Sort(kinds)
	if !slices.Equal(kinds, want) {
		t.Errorf("frontends %q, want %q", kinds, want)
	}
	// Two addresses have an entry of their own; all backends are local, so that
	// both scopes have one list.
	if e := (agentapi.ServiceEntries{Frontends: 5, Backends: 2}); web.Entries != e || web.Estimate != 2 {
		t.Errorf("entries %+v, estimate %d", web.Entries, web.Estimate)
	}
	before := a.lb(t)
	if len(before.Frontends) != 5 || len(before.Lists) != 1 || len(before.Lists[0].Backends) != 2 || before.Frontends[1].ID == 0 {
		t.Errorf("the kernel has %+v", before)
	}
	for _, table := range before.Tables {
		if got := map[string]uint64{"frontend": 5, "backend": 2}[table.Name]; table.Entries != got {
			t.Errorf("table %+v, want %d entries", table, got)
		}
	}
	s, err := a.client.Status(t.Context())
	must(t, err)
	if st := s.Services; st == nil || !st.Enabled || st.Services != 1 || st.Ports != 1 || st.Frontends != 3 || st.Backends != 2 || st.Problem != "" || len(st.Refused)+len(st.Problems) > 0 {
		t.Errorf("status %+v", s.Services)
	}
	waitFor(t, "the health check", func() bool { return strings.Contains(a.MustRun(t, "ss", "-Hltn"), ":31234") })
	if status, body := a.get(t, healthCheckURL); status != http.StatusOK || !strings.Contains(body, `"localEndpoints":2`) {
		t.Errorf("the health check says %d %s", status, body)
	}

	t.Run("killed", func(t *testing.T) {
		a.kill()
		a.slice("web", "10.1.1.5", "10.1.1.7") // meanwhile
		a.start(t)
		a.waitReady(t)
		now := a.served(t, "web", 2)
		if now.Ports[0].ID != web.Ports[0].ID {
			t.Errorf("the service's id was %d and is %d", web.Ports[0].ID, now.Ports[0].ID)
		}
		if was, is := backendID(web, "10.1.1.5:8080"), backendID(now, "10.1.1.5:8080"); was == 0 || is != was {
			t.Errorf("a backend's id was %d and is %d", was, is)
		}
	})
	t.Run("two with one address", func(t *testing.T) {
		a.service("late", "10.96.0.11", "2026-01-02T00:00:00Z")
		waitFor(t, "the Service's event", func() bool {
			events, _ := a.api.seen()
			return strings.Contains(strings.Join(events, "\n"), "ServiceProblem")
		})
		services, err := a.client.Services(t.Context(), "default/late")
		must(t, err)
		if len(services) != 1 || len(services[0].Problems) < 2 {
			t.Errorf("services %+v", services)
		}
		a.api.remove(servicesPath, "late")
		a.served(t, "web", 2)
	})
	t.Run("gone", func(t *testing.T) {
		a.api.remove(servicesPath, "web")
		waitFor(t, "the kernel to have nothing", func() bool {
			tables := a.lb(t)
			left := uint64(0)
			for _, table := range tables.Tables {
				left += table.Entries
			}
			return len(tables.Frontends)+len(tables.Lists) == 0 && left == 0
		})
		_, err := a.client.Services(t.Context(), "default/web")
		checkCode(t, err, agentapi.CodeNotFound)
		waitFor(t, "the health check to end", func() bool { return !strings.Contains(a.MustRun(t, "ss", "-Hltn"), ":31234") })
	})
	t.Run("switched off", func(t *testing.T) {
		a.service("web", "10.96.0.10")
		a.served(t, "web", 2)
		a.kill()
		a.start(t, "PLACID_KUBE_PROXY_REPLACEMENT=false")
		a.waitReady(t)
		s, err := a.client.Status(t.Context())
		must(t, err)
		if s.Services == nil || s.Services.Enabled {
			t.Errorf("status %+v", s.Services)
		}
	})
}

// backendID is the id of the backend at an address.
func backendID(s agentapi.ServiceInfo, addr string) uint32 {
	for _, b := range s.Ports[0].Backends {
		if b.Addr.String() == addr {
			return b.ID
		}
	}
	return 0
}
