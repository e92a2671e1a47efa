package agentapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/agentapi/agentapitest"
	"github.com/placid-net/placid/internal/state"
)

func balanceService() *agentapitest.Service {
	addr := netip.MustParseAddrPort
	return &agentapitest.Service{
		ServicesResult: []agentapi.ServiceInfo{{
			Service: state.ServiceRef{Namespace: "ns", Name: "a.b"},
			Ports: []agentapi.ServicePort{{
				Name: "http", Protocol: state.ProtocolTCP, Port: 80, State: agentapi.ServiceRefused, ID: 7, Affinity: 60,
				Refusal:      &agentapi.LBRefusal{Table: "backend", Needs: 3, Free: 1},
				SourceRanges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
				Frontends: []agentapi.ServiceFrontend{{
					Addr: addr("10.96.0.1:80"), Kind: "ClusterIP", Maglev: true, SourceRanges: true,
					Outside: agentapi.ServiceScope{Reach: agentapi.ReachNone}, Cluster: agentapi.ServiceScope{Reach: agentapi.ReachAll, List: 4, Backends: 1},
				}},
				Backends: []agentapi.ServiceBackend{{Addr: addr("[fd00::1]:80"), State: agentapi.BackendActive, All: true, Local: true, ID: 9}},
				Entries:  agentapi.ServiceEntries{Frontends: 1, Backends: 2, Maglev: 1, SourceRanges: 1}, Estimate: 1,
			}},
			HealthCheck: &agentapi.ServiceHealth{Port: 31000, LocalEndpoints: 1},
			Problems:    []string{"spec.x: no"},
		}},
		LBResult: agentapi.LBTables{
			Frontends: []agentapi.LBFrontend{{
				Addr: addr("10.96.0.1:80"), Protocol: state.ProtocolTCP, ID: 7, Service: "ns/a.b", Port: "http", Flags: []string{"MAGLEV"}, Affinity: 60, Outside: 3, Cluster: 4,
			}},
			Lists:  []agentapi.LBList{{ID: 4, Backends: []agentapi.LBBackend{{Addr: addr("10.0.0.1:80"), ID: 9}}}},
			Tables: []agentapi.LBTable{{Name: "frontend", Entries: 1, Size: 10}},
		},
	}
}

func TestServiceMethodsReachTheService(t *testing.T) {
	svc := balanceService()
	path := agentapitest.SocketPath(t)
	agentapitest.Serve(t, path, svc)
	c := agentapi.NewClient(path)
	services, err := c.Services(t.Context(), "ns/a.b")
	same(t, "Services", services, svc.ServicesResult, err)
	services, err = c.Services(t.Context(), "")
	same(t, "Services of all", services, svc.ServicesResult, err)
	tables, err := c.LB(t.Context())
	same(t, "LB", tables, svc.LBResult, err)
	same(t, "calls", svc.Calls(), []agentapitest.Call{
		{Method: "Services", Request: "ns/a.b"}, {Method: "Services", Request: ""}, {Method: "LB"},
	}, nil)
}

// TestServicesThatAreNone checks that a client gets lists also where there is
// nothing.
func TestServicesThatAreNone(t *testing.T) {
	for path, want := range map[string]string{
		agentapi.PathServices: "[]", agentapi.PathLB: `{"frontends":[],"lists":[],"tables":[]}`,
	} {
		rec := httptest.NewRecorder()
		agentapi.Handler(&agentapitest.Service{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		if rec.Code != http.StatusOK || rec.Body.String() != want {
			t.Errorf("%s: %d %s, want %s", path, rec.Code, rec.Body, want)
		}
	}
}

func TestServiceRequestsThatDoNotReachTheService(t *testing.T) {
	for _, tc := range []struct {
		name, method, path string
		status             int
		message            string
	}{
		{"services of no name", "GET", agentapi.PathServices + "?service=web", 400, "want namespace/name"},
		{"services of an empty name", "GET", agentapi.PathServices + "?service=", 400, "want namespace/name"},
		{"services of a colour", "GET", agentapi.PathServices + "?colour=red", 400, `"colour"`},
		{"post of services", "POST", agentapi.PathServices, 405, "use GET"},
		{"tables of a name", "GET", agentapi.PathLB + "?service=a/b", 400, `"service"`},
		{"delete of the tables", "DELETE", agentapi.PathLB, 405, "use GET"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			svc := &agentapitest.Service{}
			rec := httptest.NewRecorder()
			agentapi.Handler(svc).ServeHTTP(rec, httptest.NewRequest(tc.method, tc.path, http.NoBody))
			var e agentapi.Error
			if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil || rec.Code != tc.status || !strings.Contains(e.Message, tc.message) {
				t.Errorf("answer %d %s, want %d and %q", rec.Code, rec.Body, tc.status, tc.message)
			}
			if len(svc.Calls()) > 0 {
				t.Errorf("it reached the service: %v", svc.Methods())
			}
		})
	}
}
