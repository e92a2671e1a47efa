package agentapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/agentapi/agentapitest"
	"github.com/placid-net/placid/internal/state"
)

// comparer compares addresses by value.
func comparer() cmp.Option {
	return cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})
}

func fullService() *agentapitest.Service {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ep := state.Endpoint{
		ID:         7,
		Attachment: state.AttachmentID{ContainerID: "c1", IfName: "eth0"},
		Netns:      "/run/netns/x",
		Pod:        state.PodRef{Namespace: "ns", Name: "pod", UID: "u"},
		IPv4:       netip.MustParseAddr("10.0.0.2"),
		MAC:        state.MAC{2, 0, 0, 0, 0, 1},
		HostIfName: "plc7",
		HostIndex:  12,
		Bandwidth:  state.Bandwidth{IngressRate: 1, EgressBurst: 2},
		MTU:        1450,
		CreatedAt:  at,
	}
	info := agentapi.MapInfo{Name: "endpoint_map", Type: "Hash", ID: 3, MaxEntries: 10, Entries: 2, KeySize: 16, ValueSize: 32}
	return &agentapitest.Service{
		AddResult:       agentapi.CNIResult{Endpoint: ep, HostMAC: state.MAC{2, 0, 0, 0, 0, 2}, Gateway4: netip.MustParseAddr("10.0.0.1")},
		StatusResult:    agentapi.Status{Version: "v1", Node: "n1", Ready: true, StartedAt: at, IPAM: []agentapi.IPAMPool{{CIDR: netip.MustParsePrefix("10.0.0.0/24"), Used: 1, Capacity: 253}}},
		EndpointsResult: []state.Endpoint{ep},
		ConfigResult:    []agentapi.ConfigEntry{{Key: "mtu", Value: "0", Source: "default", Doc: "d"}},
		MapsResult:      []agentapi.MapInfo{info},
		Dumps:           map[string]agentapi.MapDump{"odd/name ?": {Info: info, Columns: []string{"k"}, Rows: [][]string{{"1"}}}},
	}
}

func TestEveryMethodReachesTheService(t *testing.T) {
	svc := fullService()
	path := agentapitest.SocketPath(t)
	agentapitest.Serve(t, path, svc)
	c := agentapi.NewClient(path)
	ctx := t.Context()
	req := agentapi.CNIRequest{
		Attachment: state.AttachmentID{ContainerID: "c1", IfName: "eth0"},
		Netns:      "/run/netns/x",
		Pod:        state.PodRef{Namespace: "ns", Name: "pod"},
		MTU:        1400,
		Expect:     []netip.Addr{netip.MustParseAddr("fd00::2")},
	}
	gc := agentapi.GCRequest{Valid: []state.AttachmentID{{ContainerID: "c1", IfName: "eth0"}}}

	add, err := c.Add(ctx, req)
	same(t, "Add", add, svc.AddResult, err)
	same(t, "Del", nil, nil, c.Del(ctx, req))
	same(t, "Check", nil, nil, c.Check(ctx, req))
	same(t, "GC", nil, nil, c.GC(ctx, gc))
	same(t, "CNIStatus", nil, nil, c.CNIStatus(ctx))
	status, err := c.Status(ctx)
	same(t, "Status", status, svc.StatusResult, err)
	eps, err := c.Endpoints(ctx)
	same(t, "Endpoints", eps, svc.EndpointsResult, err)
	conf, err := c.Config(ctx)
	same(t, "Config", conf, svc.ConfigResult, err)
	maps, err := c.Maps(ctx)
	same(t, "Maps", maps, svc.MapsResult, err)
	dump, err := c.MapDump(ctx, "odd/name ?")
	same(t, "MapDump", dump, svc.Dumps["odd/name ?"], err)

	same(t, "calls", svc.Calls(), []agentapitest.Call{
		{Method: "Add", Request: req},
		{Method: "Del", Request: req},
		{Method: "Check", Request: req},
		{Method: "GC", Request: gc},
		{Method: "CNIStatus"},
		{Method: "Status"},
		{Method: "Endpoints"},
		{Method: "Config"},
		{Method: "Maps"},
		{Method: "MapDump", Request: "odd/name ?"},
	}, nil)
}

func same(t *testing.T, what string, got, want any, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if d := cmp.Diff(want, got, comparer()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
		want   agentapi.Error
	}{
		{&agentapi.Error{Code: agentapi.CodeInvalid, Message: "m"}, 400, agentapi.Error{Code: agentapi.CodeInvalid, Message: "m"}},
		{&agentapi.Error{Code: agentapi.CodeNotFound, Message: "m"}, 404, agentapi.Error{Code: agentapi.CodeNotFound, Message: "m"}},
		{&agentapi.Error{Code: agentapi.CodeConflict, Message: "m"}, 409, agentapi.Error{Code: agentapi.CodeConflict, Message: "m"}},
		{&agentapi.Error{Code: agentapi.CodeExhausted, Message: "m"}, 507, agentapi.Error{Code: agentapi.CodeExhausted, Message: "m"}},
		{&agentapi.Error{Code: agentapi.CodeNotReady, Message: "m"}, 503, agentapi.Error{Code: agentapi.CodeNotReady, Message: "m"}},
		{&agentapi.Error{Code: agentapi.CodeInternal, Message: "m"}, 500, agentapi.Error{Code: agentapi.CodeInternal, Message: "m"}},
		{&agentapi.Error{Code: "ofTheFuture", Message: "m"}, 500, agentapi.Error{Code: "ofTheFuture", Message: "m"}},
		{fmt.Errorf("add: %w", &agentapi.Error{Code: agentapi.CodeExhausted, Message: "m"}), 507, agentapi.Error{Code: agentapi.CodeExhausted, Message: "add: m"}},
		{errors.New("plain"), 500, agentapi.Error{Code: agentapi.CodeInternal, Message: "plain"}},
	} {
		t.Run(tc.err.Error()+"/"+tc.want.Code, func(t *testing.T) {
			svc := &agentapitest.Service{Err: func(string) error { return tc.err }}
			rec := httptest.NewRecorder()
			agentapi.Handler(svc).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, agentapi.PathStatus, nil))
			if rec.Code != tc.status {
				t.Errorf("status %d, want %d", rec.Code, tc.status)
			}
			path := agentapitest.SocketPath(t)
			agentapitest.Serve(t, path, svc)
			_, err := agentapi.NewClient(path).Status(t.Context())
			var got *agentapi.Error
			if !errors.As(err, &got) || *got != tc.want {
				t.Errorf("client got %#v, want %#v", err, tc.want)
			}
		})
	}
}

func TestRequestsThatDoNotReachTheService(t *testing.T) {
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		code, message            string
	}{
		{"empty body", "POST", agentapi.PathCNIAdd, ``, 400, "invalid", "decode the request body"},
		{"no JSON", "POST", agentapi.PathCNIAdd, `}{`, 400, "invalid", "decode the request body"},
		{"wrong type", "POST", agentapi.PathCNIAdd, `{"mtu":"big"}`, 400, "invalid", "mtu"},
		{"bad address", "POST", agentapi.PathCNICheck, `{"attachment":{"containerID":"c","ifName":"e"},"expect":["10.0.0"]}`, 400, "invalid", "10.0.0"},
		{"two values", "POST", agentapi.PathCNIAdd, `{"attachment":{"containerID":"c","ifName":"e"}} {}`, 400, "invalid", "more follows"},
		{"junk after", "POST", agentapi.PathCNIAdd, `{"attachment":{"containerID":"c","ifName":"e"}} x`, 400, "invalid", "invalid character"},
		{"over a mebibyte", "POST", agentapi.PathCNIDel, `{"netns":"` + strings.Repeat("x", agentapi.MaxRequestBody) + `"}`, 400, "invalid", "over 1048576 bytes"},
		{"spaces to over a mebibyte", "POST", agentapi.PathCNIDel, `{}` + strings.Repeat(" ", agentapi.MaxRequestBody), 400, "invalid", "over 1048576 bytes"},
		{"no container", "POST", agentapi.PathCNIDel, `{"attachment":{"ifName":"eth0"}}`, 400, "invalid", "attachment.containerID"},
		{"no interface", "POST", agentapi.PathCNICheck, `{"attachment":{"containerID":"c"}}`, 400, "invalid", "attachment.ifName"},
		{
			"host port 0", "POST", agentapi.PathCNIAdd, `{"attachment":{"containerID":"c","ifName":"e"},"hostPorts":[{"protocol":6,"containerPort":80}]}`,
			400, "invalid", "hostPorts[0] leads from port 0 to port 80, protocol TCP",
		},
		{
			"host port without a protocol", "POST", agentapi.PathCNIAdd,
			`{"attachment":{"containerID":"c","ifName":"e"},"hostPorts":[{"protocol":17,"hostPort":1,"containerPort":1},{"hostPort":80,"containerPort":80}]}`,
			400, "invalid", "hostPorts[1] leads from port 80 to port 80, protocol ANY",
		},
		{"gc without list", "POST", agentapi.PathCNIGC, `{}`, 400, "invalid", "valid is missing"},
		{"gc with null", "POST", agentapi.PathCNIGC, `{"valid":null}`, 400, "invalid", "valid is missing"},
		{"gc with half an id", "POST", agentapi.PathCNIGC, `{"valid":[{"containerID":"c"}]}`, 400, "invalid", "valid[0]"},
		{"get of add", "GET", agentapi.PathCNIAdd, ``, 405, "invalid", "use POST"},
		{"post of status", "POST", agentapi.PathStatus, `{}`, 405, "invalid", "use GET"},
		{"unknown path", "GET", "/v9/nothing", ``, 404, "notFound", "/v9/nothing"},
		{"map without a name", "GET", agentapi.PathMapPrefix, ``, 404, "notFound", agentapi.PathMapPrefix},
	} {
		t.Run(tc.name, func(t *testing.T) {
			svc := &agentapitest.Service{}
			rec := httptest.NewRecorder()
			agentapi.Handler(svc).ServeHTTP(rec, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
			var e agentapi.Error
			if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil {
				t.Fatalf("body %q: %v", rec.Body, err)
			}
			if rec.Code != tc.status || e.Code != tc.code || !strings.Contains(e.Message, tc.message) {
				t.Errorf("got %d %+v, want %d %s with %q", rec.Code, e, tc.status, tc.code, tc.message)
			}
			if calls := svc.Calls(); len(calls) != 0 {
				t.Errorf("reached the service: %+v", calls)
			}
		})
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	svc := &agentapitest.Service{}
	rec := httptest.NewRecorder()
	body := `{"attachment":{"containerID":"c","ifName":"e","later":1},"later":{"x":[]}}`
	agentapi.Handler(svc).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, agentapi.PathCNIDel, strings.NewReader(body)))
	if rec.Code != http.StatusNoContent || rec.Body.Len() != 0 {
		t.Errorf("got %d %q, want 204 without a body", rec.Code, rec.Body)
	}
}

func TestEmptyListsAreNotNull(t *testing.T) {
	for path, want := range map[string]string{
		agentapi.PathEndpoints: `[]`, agentapi.PathConfig: `[]`, agentapi.PathMaps: `[]`, agentapi.PathIdentities: `[]`,
		agentapi.PathPolicy: `[]`, agentapi.PathSelectors: `[]`, agentapi.PathCTTop + "?by=pod": `[]`,
		agentapi.PathCT: `{"entries":[],"total":0}`,
	} {
		rec := httptest.NewRecorder()
		agentapi.Handler(&agentapitest.Service{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if got := rec.Body.String(); got != want {
			t.Errorf("%s answers %q, want %s", path, got, want)
		}
	}
}

func TestClientGoneEndsTheCall(t *testing.T) {
	ended := make(chan struct{})
	svc := &agentapitest.Service{Wait: func(ctx context.Context, _ string) {
		<-ctx.Done()
		close(ended)
	}}
	path := agentapitest.SocketPath(t)
	agentapitest.Serve(t, path, svc)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := agentapi.NewClient(path).CNIStatus(ctx)
	unavailable(t, err, path, "deadline exceeded")
	<-ended
}

func TestClientCancelledByItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	path := agentapitest.SocketPath(t)
	agentapitest.Serve(t, path, &agentapitest.Service{Wait: func(ctx context.Context, _ string) {
		cancel()
		<-ctx.Done()
	}})
	var e *agentapi.Error
	if err := agentapi.NewClient(path).CNIStatus(ctx); !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("got %v, want context.Canceled and no agentapi.Error", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Run("absent socket", func(t *testing.T) {
		path := agentapitest.SocketPath(t)
		unavailable(t, agentapi.NewClient(path).CNIStatus(t.Context()), path, "no such file")
	})
	t.Run("stale socket", func(t *testing.T) {
		path := agentapitest.SocketPath(t)
		staleSocket(t, path)
		unavailable(t, agentapi.NewClient(path).CNIStatus(t.Context()), path, "refused")
	})
	t.Run("breaks off before the answer", func(t *testing.T) {
		path := rawServer(t, "")
		unavailable(t, agentapi.NewClient(path).CNIStatus(t.Context()), path, "EOF")
	})
	t.Run("breaks off within the answer", func(t *testing.T) {
		path := rawServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
		_, err := agentapi.NewClient(path).Status(t.Context())
		unavailable(t, err, path, "EOF")
	})
	t.Run("breaks off within the error", func(t *testing.T) {
		path := rawServer(t, "HTTP/1.1 500 X\r\nContent-Length: 99\r\n\r\n{")
		_, err := agentapi.NewClient(path).Status(t.Context())
		unavailable(t, err, path, "EOF")
	})
}

func unavailable(t *testing.T, err error, parts ...string) {
	t.Helper()
	var e *agentapi.Error
	if !errors.As(err, &e) || e.Code != agentapi.CodeUnavailable {
		t.Fatalf("got %#v, want an Error with code unavailable", err)
	}
	for _, p := range parts {
		if !strings.Contains(e.Message, p) {
			t.Errorf("message %q does not say %q", e.Message, p)
		}
	}
	if !strings.Contains(e.Message, "broke off") && !strings.Contains(e.Message, "check whether the placid-agent pod runs on this node") {
		t.Errorf("message %q gives no advice", e.Message)
	}
}

func TestAnswersOfSomethingElse(t *testing.T) {
	for _, tc := range []struct{ name, answer, part string }{
		{"error that is no JSON", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops", "502 Bad Gateway"},
		{"error without a code", "HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}", "is it the placid-agent's socket?"},
		{"success that is no JSON", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noops", "decode the answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := agentapi.NewClient(rawServer(t, tc.answer)).Status(t.Context())
			var e *agentapi.Error
			if !errors.As(err, &e) || e.Code != agentapi.CodeInternal || !strings.Contains(e.Message, tc.part) {
				t.Errorf("got %#v, want code internal with %q", err, tc.part)
			}
		})
	}
}

// rawServer answers each connection with the bytes of answer and closes it.
func rawServer(t *testing.T, answer string) string {
	t.Helper()
	path := agentapitest.SocketPath(t)
	l, err := agentapi.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, answer)
			}
			conn.Close()
		}
	}()
	return path
}

// staleSocket leaves a socket file that nobody listens on.
func staleSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestListen(t *testing.T) {
	t.Run("makes the folder and restricts the socket from the first moment", func(t *testing.T) {
		path := filepath.Join(filepath.Dir(agentapitest.SocketPath(t)), "sub", "a.sock")
		l, err := agentapi.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("mode %v, want 0600", got)
		}
		l.Close()
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close: %v, want no file", err)
		}
	})
	t.Run("whatever the umask", func(t *testing.T) {
		defer syscall.Umask(syscall.Umask(0))
		path := agentapitest.SocketPath(t)
		l, err := agentapi.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
		}
	})
	t.Run("replaces a stale socket", func(t *testing.T) {
		path := agentapitest.SocketPath(t)
		staleSocket(t, path)
		agentapitest.Serve(t, path, &agentapitest.Service{})
		if err := agentapi.NewClient(path).CNIStatus(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("leaves a live agent alone", func(t *testing.T) {
		path := agentapitest.SocketPath(t)
		agentapitest.Serve(t, path, &agentapitest.Service{})
		listenFails(t, path, "only one placid-agent")
		if err := agentapi.NewClient(path).CNIStatus(t.Context()); err != nil {
			t.Errorf("the first agent no longer answers: %v", err)
		}
	})
	t.Run("does not remove a socket that is not proven stale", func(t *testing.T) {
		path := agentapitest.SocketPath(t)
		other, err := net.ListenPacket("unixgram", path)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		listenFails(t, path, "see whether anybody answers")
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	})
	t.Run("does not remove a file", func(t *testing.T) {
		path := agentapitest.SocketPath(t)
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		listenFails(t, path, "no socket")
		if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
			t.Errorf("file is now %q, %v", b, err)
		}
	})
	t.Run("refuses a folder that others may write to", func(t *testing.T) {
		path := agentapitest.SocketPath(t)
		if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		listenFails(t, path, "others could replace the socket")
	})
	t.Run("refuses a path that is too long", func(t *testing.T) {
		listenFails(t, filepath.Join("/tmp", strings.Repeat("x", agentapi.MaxSocketPath)), "the kernel allows 107")
	})
	t.Run("names the folder it may not make", func(t *testing.T) {
		listenFails(t, "/proc/placid/agent.sock", "/proc/placid")
	})
}

func listenFails(t *testing.T, path, part string) {
	t.Helper()
	l, err := agentapi.Listen(path)
	if err == nil {
		l.Close()
		t.Fatal("no error")
	}
	if !strings.Contains(err.Error(), part) {
		t.Errorf("error %q does not say %q", err, part)
	}
}

func FuzzHandlerBody(f *testing.F) {
	f.Add(`{"attachment":{"containerID":"c","ifName":"e"},"expect":["10.0.0.1"]}`)
	f.Add(`{"valid":[]}`)
	f.Add(`{"valid":[{"containerID":"c","ifName":"e"}],"attachment":null}`)
	f.Add(`{"from":"a/b","to":"fd00::1","port":80,"protocol":6}`)
	f.Add(`[]`)
	f.Add(``)
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{agentapi.PathCNIAdd, agentapi.PathCNIDel, agentapi.PathCNICheck, agentapi.PathCNIGC, agentapi.PathPolicyTrace} {
			svc := &agentapitest.Service{}
			rec := httptest.NewRecorder()
			agentapi.Handler(svc).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
			var e agentapi.Error
			refused := rec.Code == http.StatusBadRequest && json.Unmarshal(rec.Body.Bytes(), &e) == nil && e.Code == agentapi.CodeInvalid && e.Message != ""
			served := rec.Code < 300 && len(svc.Calls()) == 1
			if refused == served || (refused && len(svc.Calls()) != 0) {
				t.Fatalf("%s answers %d %q after %d calls", path, rec.Code, rec.Body, len(svc.Calls()))
			}
		}
	})
}
