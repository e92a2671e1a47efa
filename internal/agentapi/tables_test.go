package agentapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/agentapi/agentapitest"
)

func tableService() *agentapitest.Service {
	move := agentapi.TableMove{
		Name: "ct_tcp", From: 1024, To: 2048, Why: "Monday", State: agentapi.MoveMoving, Began: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Took: time.Second,
		Total: 900, Passed: 300, Moved: 290, Ended: 10, Left: 1, Rate: 300, Remaining: 2 * time.Second, Memory: 458752, Problem: "none",
	}
	return &agentapitest.Service{
		ResizeResult: move,
		TablesResult: agentapi.Tables{
			Ratio: 0.0025, Autosize: true, Budget: 1 << 28, Memory: 1 << 26, NAT: 131072,
			Tables: []agentapi.TableInfo{{
				Name: "ct_tcp", Label: "tcp", Kind: "hash", Key: "bpf-ct-global-tcp-max", Evicts: true, Fixed: true, Entries: 900, Size: 2048, Old: 1024,
				Pressure: 0.44, Peak: 1000, Headroom: 1148, Waiting: 5, Memory: 688128, Blocked: "it is", Limit: agentapi.LimitBudget,
				Inserts: agentapi.TableInserts{Inserted: 4, Full: 3, Busy: 2, Other: 1}, Move: &move,
			}},
		},
	}
}

func TestTableMethodsReachTheService(t *testing.T) {
	svc := tableService()
	path := agentapitest.SocketPath(t)
	agentapitest.Serve(t, path, svc)
	c := agentapi.NewClient(path)
	tables, err := c.Tables(t.Context())
	same(t, "Tables", tables, svc.TablesResult, err)
	req := agentapi.ResizeRequest{Name: "ct_tcp", Entries: 2048, Why: "Monday"}
	move, err := c.ResizeTable(t.Context(), req)
	same(t, "ResizeTable", move, svc.ResizeResult, err)
	same(t, "calls", svc.Calls(), []agentapitest.Call{{Method: "Tables"}, {Method: "ResizeTable", Request: req}}, nil)
}

// TestTablesThatAreNone checks that a client gets a list also where there is
// nothing.
func TestTablesThatAreNone(t *testing.T) {
	rec := httptest.NewRecorder()
	agentapi.Handler(&agentapitest.Service{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, agentapi.PathTables, http.NoBody))
	if rec.Code != http.StatusOK || !strings.HasSuffix(rec.Body.String(), `"tables":[]}`) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// TestResizeRefusals: each code reaches the client as it is.
func TestResizeRefusals(t *testing.T) {
	for code, status := range map[string]int{
		agentapi.CodeNotFound: 404, agentapi.CodeInvalid: 400, agentapi.CodeTooSmall: 409, agentapi.CodeBusy: 409, agentapi.CodeNoMemory: 507,
	} {
		svc := &agentapitest.Service{Err: func(string) error { return &agentapi.Error{Code: code, Message: "no: " + code} }}
		rec := httptest.NewRecorder()
		agentapi.Handler(svc).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, agentapi.PathTableResize, strings.NewReader(`{"name":"ct_tcp","entries":5}`)))
		var e agentapi.Error
		if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil || rec.Code != status || e.Code != code || e.Message != "no: "+code {
			t.Errorf("%s: %d %s", code, rec.Code, rec.Body)
		}
	}
}

func TestTableRequestsThatDoNotReachTheService(t *testing.T) {
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		message                  string
	}{
		{"tables of a name", "GET", agentapi.PathTables + "?name=ct_tcp", "", 400, `"name"`},
		{"post of tables", "POST", agentapi.PathTables, "", 405, "use GET"},
		{"a look at a resize", "GET", agentapi.PathTableResize, "", 405, "use POST"},
		{"no table", "POST", agentapi.PathTableResize, `{"entries":5}`, 400, "name is missing"},
		{"no size", "POST", agentapi.PathTableResize, `{"name":"ct_tcp"}`, 400, "entries is 0"},
		{"a negative size", "POST", agentapi.PathTableResize, `{"name":"ct_tcp","entries":-1}`, 400, "decode the request body"},
		{"a size beyond all", "POST", agentapi.PathTableResize, `{"name":"ct_tcp","entries":4294967296}`, 400, "decode the request body"},
		{"nothing", "POST", agentapi.PathTableResize, "", 400, "decode the request body"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			svc := &agentapitest.Service{}
			rec := httptest.NewRecorder()
			agentapi.Handler(svc).ServeHTTP(rec, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
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
