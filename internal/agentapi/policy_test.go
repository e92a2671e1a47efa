package agentapi_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/agentapi/agentapitest"
	"github.com/placid-net/placid/internal/state"
)

func policyService() *agentapitest.Service {
	return &agentapitest.Service{
		CTListResult: agentapi.CTList{Total: 3, Entries: []agentapi.CTEntry{{
			Proto: 6, Source: netip.MustParseAddrPort("10.0.0.2:4711"), Destination: netip.MustParseAddrPort("10.0.0.3:80"),
			State: agentapi.CTStateEstablished, Flags: []string{"REPLIED"}, Table: agentapi.CTTableTCP, Age: time.Minute, Expires: time.Hour,
			SourceIdentity: 300, DestinationIdentity: 2, Epoch: 4, SourcePod: "ns/a",
		}}},
		CTFlushResult:    agentapi.CTFlushed{Deleted: 5},
		CTTopResult:      []agentapi.CTTalker{{Name: "ns/a", Entries: 9}},
		CTCollectResult:  agentapi.CTCollection{Alive: 1, Deleted: 2, Took: time.Second, CPU: time.Millisecond},
		IdentitiesResult: []agentapi.IdentityInfo{{Identity: state.Identity{ID: 300, Labels: map[string]string{"k8s:app": "a"}}, Addrs: 2}},
		PolicyResult: []agentapi.EndpointPolicy{{
			Endpoint: 7, Pod: state.PodRef{Namespace: "ns", Name: "a"}, Identity: 300,
			Ingress: agentapi.PolicySet{ID: "1f", Enforcement: agentapi.EnforcementEnforced, Entries: []agentapi.PolicyLine{{Peer: "any", Ports: []string{"80/TCP"}}}},
			Egress:  agentapi.PolicySet{ID: "0", Enforcement: agentapi.EnforcementOpen},
		}},
		SelectorsResult: []agentapi.SelectorInfo{{Selector: "app=a", Policies: []string{"ns/p"}, Identities: []uint32{300}}},
		TraceResult:     agentapi.TraceResult{Allowed: true, Steps: []agentapi.TraceStep{{Direction: agentapi.DirectionIngress, Pod: "ns/a", Allowed: true}}},
	}
}

func TestPolicyMethodsReachTheService(t *testing.T) {
	svc := policyService()
	path := agentapitest.SocketPath(t)
	agentapitest.Serve(t, path, svc)
	c := agentapi.NewClient(path)
	ctx := t.Context()
	filter := agentapi.CTFilter{
		Pod: "ns/a", Addr: netip.MustParsePrefix("fd00::/64"), Port: 80, Proto: 6, State: agentapi.CTStateClosing, Limit: 7,
	}
	trace := agentapi.TraceRequest{From: "ns/a", To: "fd00::7", Port: 80, Protocol: state.ProtocolTCP}

	flows, err := c.CTList(ctx, filter)
	same(t, "CTList", flows, svc.CTListResult, err)
	flows, err = c.CTList(ctx, agentapi.CTFilter{})
	same(t, "CTList of all", flows, svc.CTListResult, err)
	flushed, err := c.CTFlush(ctx, agentapi.CTFilter{All: true})
	same(t, "CTFlush of all", flushed, svc.CTFlushResult, err)
	flushed, err = c.CTFlush(ctx, agentapi.CTFilter{Port: 80})
	same(t, "CTFlush", flushed, svc.CTFlushResult, err)
	talkers, err := c.CTTop(ctx, agentapi.CTTopPod, 3)
	same(t, "CTTop", talkers, svc.CTTopResult, err)
	collected, err := c.CTCollect(ctx)
	same(t, "CTCollect", collected, svc.CTCollectResult, err)
	identities, err := c.Identities(ctx)
	same(t, "Identities", identities, svc.IdentitiesResult, err)
	policies, err := c.Policy(ctx, "ns/a")
	same(t, "Policy", policies, svc.PolicyResult, err)
	policies, err = c.Policy(ctx, "")
	same(t, "Policy of all", policies, svc.PolicyResult, err)
	selectors, err := c.Selectors(ctx)
	same(t, "Selectors", selectors, svc.SelectorsResult, err)
	verdict, err := c.PolicyTrace(ctx, trace)
	same(t, "PolicyTrace", verdict, svc.TraceResult, err)

	same(t, "calls", svc.Calls(), []agentapitest.Call{
		{Method: "CTList", Request: filter},
		{Method: "CTList", Request: agentapi.CTFilter{}},
		{Method: "CTFlush", Request: agentapi.CTFilter{All: true}},
		{Method: "CTFlush", Request: agentapi.CTFilter{Port: 80}},
		{Method: "CTTop", Request: agentapitest.TopRequest{By: agentapi.CTTopPod, Limit: 3}},
		{Method: "CTCollect"},
		{Method: "Identities"},
		{Method: "Policy", Request: "ns/a"},
		{Method: "Policy", Request: ""},
		{Method: "Selectors"},
		{Method: "PolicyTrace", Request: trace},
	}, nil)
}

// TestClientIsRefused checks that a flush that says nothing does nothing, also
// through the client.
func TestClientIsRefused(t *testing.T) {
	svc := &agentapitest.Service{}
	path := agentapitest.SocketPath(t)
	agentapitest.Serve(t, path, svc)
	_, err := agentapi.NewClient(path).CTFlush(t.Context(), agentapi.CTFilter{})
	var e *agentapi.Error
	if !errors.As(err, &e) || e.Code != agentapi.CodeInvalid || len(svc.Calls()) != 0 {
		t.Errorf("got %v after %v, want CodeInvalid and no call", err, svc.Methods())
	}
}

func TestPolicyRequestsThatDoNotReachTheService(t *testing.T) {
	ct, top := agentapi.PathCT, agentapi.PathCTTop
	trace := func(s string) string { return `{"from":"a/b","to":"c/d","protocol":6` + s + `}` }
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		message                  string
	}{
		{"list of an unknown condition", "GET", ct + "?colour=red", "", 400, `"colour"`},
		{"list of a condition twice", "GET", ct + "?port=1&port=2", "", 400, "give it once"},
		{"list of junk", "GET", ct + "?port=%zz", "", 400, "parse the query"},
		{"list of no pod", "GET", ct + "?pod=web", "", 400, "want namespace/name"},
		{"list of an empty pod", "GET", ct + "?pod=", "", 400, "want namespace/name"},
		{"list of a bad address", "GET", ct + "?addr=10.0.0.0/33", "", 400, "10.0.0.0/33"},
		{"list of a zone", "GET", ct + "?addr=fe80::1%25eth0", "", 400, "addr"},
		{"list of a bad port", "GET", ct + "?port=65536", "", 400, "from 0 to 65535"},
		{"list of a bad protocol", "GET", ct + "?proto=tcp", "", 400, "from 0 to 255"},
		{"list of a bad state", "GET", ct + "?state=old", "", 400, "new, replied, established, closing"},
		{"list of a bad limit", "GET", ct + "?limit=-1", "", 400, "from 0 to 2147483647"},
		{"list of a bad all", "GET", ct + "?all=maybe", "", 400, "true or false"},
		{"flush of nothing", "DELETE", ct, "", 400, "needs a condition"},
		{"flush of nothing but all=false", "DELETE", ct + "?all=false", "", 400, "needs a condition"},
		{"flush of port 0", "DELETE", ct + "?port=0", "", 400, "needs a condition"},
		{"flush of an unknown condition", "DELETE", ct + "?port=80&colour=red", "", 400, `"colour"`},
		{"flush with a limit", "DELETE", ct + "?port=80&limit=1", "", 400, "no limit"},
		{"flush of all and some", "DELETE", ct + "?port=80&all=true", "", 400, "contradicts"},
		{"post of conntrack", "POST", ct, "{}", 405, "use DELETE or GET"},
		{"top of nothing", "GET", top, "", 400, "source, destination, pod"},
		{"top of colours", "GET", top + "?by=colour", "", 400, `"colour"`},
		{"top of a bad limit", "GET", top + "?by=pod&limit=x", "", 400, "limit"},
		{"top of a pod", "GET", top + "?by=pod&pod=a/b", "", 400, `"pod"`},
		{"get of gc", "GET", agentapi.PathCTCollect, "", 405, "use POST"},
		{"gc of a pod", "POST", agentapi.PathCTCollect + "?pod=a/b", "", 400, `"pod"`},
		{"policy of no pod", "GET", agentapi.PathPolicy + "?pod=a/b/c", "", 400, "want namespace/name"},
		{"policy of a colour", "GET", agentapi.PathPolicy + "?colour=red", "", 400, `"colour"`},
		{"trace without a body", "POST", agentapi.PathPolicyTrace, "", 400, "decode the request body"},
		{"trace from nowhere", "POST", agentapi.PathPolicyTrace, trace(`,"from":""`), 400, "from"},
		{"trace from a name", "POST", agentapi.PathPolicyTrace, trace(`,"from":"web"`), 400, "from"},
		{"trace to a CIDR", "POST", agentapi.PathPolicyTrace, trace(`,"to":"10.0.0.0/8"`), 400, "to is"},
		{"trace to a zone", "POST", agentapi.PathPolicyTrace, trace(`,"to":"fe80::1%eth0"`), 400, "to is"},
		{"trace of any protocol", "POST", agentapi.PathPolicyTrace, trace(`,"protocol":0`), 400, "protocol is missing"},
		{"trace of a large port", "POST", agentapi.PathPolicyTrace, trace(`,"port":65536`), 400, "port"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			svc := &agentapitest.Service{}
			rec := httptest.NewRecorder()
			agentapi.Handler(svc).ServeHTTP(rec, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
			var e agentapi.Error
			if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil {
				t.Fatalf("body %q: %v", rec.Body, err)
			}
			if rec.Code != tc.status || e.Code != agentapi.CodeInvalid || !strings.Contains(e.Message, tc.message) {
				t.Errorf("got %d %+v, want %d with %q", rec.Code, e, tc.status, tc.message)
			}
			if calls := svc.Calls(); len(calls) != 0 {
				t.Errorf("reached the service: %+v", calls)
			}
		})
	}
}

func TestParsePrefix(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.2.3": "10.1.2.3/32", "10.1.2.3/8": "10.0.0.0/8", "0.0.0.0/0": "0.0.0.0/0", "fd00::1": "fd00::1/128",
		"fd00::1/64": "fd00::/64", "::/0": "::/0", "::ffff:10.1.2.3": "10.1.2.3/32", "::ffff:10.1.2.3/104": "10.0.0.0/8",
		"": "", "10.1.2": "", "10.1.2.3/33": "", "fe80::1%eth0": "", "fe80::1%eth0/64": "", "ns/pod": "", "10.1.2.3:80": "",
	} {
		got, err := agentapi.ParsePrefix(in)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("ParsePrefix(%q) = %v, %v; want %q", in, got, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), in) {
			t.Errorf("error %q does not name %q", err, in)
		}
	}
}

func TestIsPodName(t *testing.T) {
	for in, want := range map[string]bool{
		"default/web-0": true, "a/b": true, "kube-system/dns.x-1": true, "12/34": true, "default/tcp": true,
		"": false, "/": false, "a": false, "a/": false, "/b": false, "a/b/c": false, "a/b:80": false, "a b/c": false,
		"10.0.0.0/8": false, "fd00::/8": false, "[fd00::1]/tcp": false, "a/ü": false,
	} {
		if got := agentapi.IsPodName(in); got != want {
			t.Errorf("IsPodName(%q) is %t", in, got)
		}
	}
}

// FuzzCTQuery checks that whatever a flush accepts deletes not everything unless
// it says so, and comes through a client unchanged.
func FuzzCTQuery(f *testing.F) {
	f.Add("port=80&proto=6")
	f.Add("addr=::ffff:10.0.0.1/104&pod=a/b&state=new")
	f.Add("all=1")
	f.Add("all=false&addr=0.0.0.0/0")
	f.Add("limit=0&port=+80")
	f.Add("addr=fe80::1%25eth0")
	f.Fuzz(func(t *testing.T, rawQuery string) {
		flush := func(rawQuery string) (int, *agentapi.CTFilter) {
			svc := &agentapitest.Service{}
			r := httptest.NewRequest(http.MethodDelete, agentapi.PathCT, nil)
			r.URL.RawQuery = rawQuery
			rec := httptest.NewRecorder()
			agentapi.Handler(svc).ServeHTTP(rec, r)
			for _, c := range svc.Calls() {
				return rec.Code, new(c.Request.(agentapi.CTFilter))
			}
			return rec.Code, nil
		}
		code, got := flush(rawQuery)
		if (code == http.StatusOK) != (got != nil) {
			t.Fatalf("%q is answered with %d, filter %+v", rawQuery, code, got)
		}
		if got == nil {
			return
		}
		if got.Selective() == got.All || got.Limit != 0 {
			t.Fatalf("%q flushes %+v", rawQuery, got)
		}
		again := agentapi.Query(*got).Encode()
		if _, sent := flush(again); sent == nil || *sent != *got {
			t.Errorf("%q is %+v, sent again as %q it is %+v", rawQuery, got, again, sent)
		}
	})
}

// TestStatusOfAnOlderAgent checks that what it does not have stays absent.
func TestStatusOfAnOlderAgent(t *testing.T) {
	b, err := json.Marshal(agentapi.Status{})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err = json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"policy", "conntrack"} {
		if v, ok := fields[name]; ok {
			t.Errorf("%s is %v, want it absent", name, v)
		}
	}
	full := agentapi.Status{
		Policy: &agentapi.PolicyStatus{Mode: "default", Policies: 1, Staged: "waiting", Problems: []string{"p"}},
		Conntrack: &agentapi.ConntrackStatus{
			TCP: agentapi.CTTable{Entries: 1, Size: 2}, LastCollection: &agentapi.CTCollection{Deleted: 3}, Interval: time.Minute,
		},
	}
	if b, err = json.Marshal(full); err != nil {
		t.Fatal(err)
	}
	var back agentapi.Status
	if err = json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(full, back, comparer()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
