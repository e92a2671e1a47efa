package services

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/loadbalance"
)

// loopback opens ports on the loopback address, whatever their numbers are there.
type loopback struct {
	mu    sync.Mutex
	addrs map[uint16]string // by the number that was asked for
}

func (l *loopback) open(port uint16) (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.addrs == nil {
		l.addrs = map[uint16]string{}
	}
	l.addrs[port] = listener.Addr().String()
	return listener, nil
}

func (l *loopback) at(port uint16) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addrs[port]
}

// answer is what a load balancer gets.
type answer struct {
	Status       int
	Weight, Type string
	Body         any
}

func (l *loopback) ask(t *testing.T, port uint16, path string) answer {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + l.at(port) + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{Status: resp.StatusCode, Weight: resp.Header.Get("X-Load-Balancing-Endpoint-Weight"), Type: resp.Header.Get("Content-Type")}
	if err := json.Unmarshal(b, &a.Body); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return a
}

func (l *loopback) refused(port uint16) bool {
	conn, err := net.Dial("tcp", l.at(port))
	if err == nil {
		_ = conn.Close()
	}
	return err != nil
}

// said is an answer about a Service.
func said(status int, weight, name string, local float64, healthy bool) answer {
	return answer{Status: status, Weight: weight, Type: "application/json", Body: map[string]any{
		"service": map[string]any{"namespace": ns, "name": name}, "localEndpoints": local, "serviceProxyHealthy": healthy,
	}}
}

// TestHealthServers follows ports that open and close, over HTTP.
func TestHealthServers(t *testing.T) {
	l := &loopback{}
	healthy := true
	h := newHealthServers(l.open, func() bool { return healthy }, slog.New(slog.DiscardHandler))
	defer h.close()
	check := func(what string, got, want answer) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s -want +got:\n%s", what, diff)
		}
	}
	web, api := loadbalance.HealthPort{Service: ref("web"), Port: 31000, Local: 2}, loadbalance.HealthPort{Service: ref("api"), Port: 31001}
	h.set([]loadbalance.HealthPort{api, web})
	check("two endpoints", l.ask(t, 31000, "/healthz"), said(200, "2", "web", 2, true))
	check("another path", l.ask(t, 31000, "/"), said(200, "2", "web", 2, true))
	check("no endpoint", l.ask(t, 31001, "/healthz"), said(503, "0", "api", 0, true))

	first := l.at(31001)
	api.Local = 1
	h.set([]loadbalance.HealthPort{api, web})
	check("an endpoint comes", l.ask(t, 31001, "/healthz"), said(200, "1", "api", 1, true))
	if l.at(31001) != first {
		t.Error("the port was opened anew")
	}
	healthy = false
	check("a node that does not serve", l.ask(t, 31000, "/healthz"), said(503, "2", "web", 2, false))
	healthy = true

	resp, err := http.Post("http://"+l.at(31000), "text/plain", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" {
		t.Errorf("a POST is answered with %s", resp.Status)
	}

	// The port moves to another Service, and a second one wants it.
	other := loadbalance.HealthPort{Service: ref("zed"), Port: 31000, Local: 3}
	states := h.set([]loadbalance.HealthPort{web, other})
	check("the first keeps it", l.ask(t, 31000, "/healthz"), said(200, "2", "web", 2, true))
	if states[0].err != nil || states[1].err == nil {
		t.Errorf("states %v, %v", states[0].err, states[1].err)
	}
	if !l.refused(31001) {
		t.Error("the port of a Service that is gone still answers")
	}
	h.set([]loadbalance.HealthPort{other})
	check("the second gets it", l.ask(t, 31000, "/healthz"), said(200, "3", "zed", 3, true))
	h.close()
	if !l.refused(31000) {
		t.Error("a port answers after the end")
	}
}

// TestHealthOfService asks the whole Runner over HTTP.
func TestHealthOfService(t *testing.T) {
	l := &loopback{}
	n := newNode(t)
	n.listen = l.open
	n.launch()
	defer func() { n.stop() }()
	close(n.cluster.nodes)
	close(n.cluster.services)
	s := web("web", 1)
	s.ExternalLocal, s.HealthCheckPort = true, 31000
	s.LoadBalancers = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
	n.Must(n.tables.UpsertService(s))
	waitFor(t, "the port to be open", func() bool { return l.at(31000) != "" })
	if got := l.ask(t, 31000, "/healthz"); got.Status != 503 {
		t.Errorf("without endpoints: %+v", got)
	}
	n.Must(n.tables.UpsertSlice(slice("web", "10.0.0.1", "10.0.1.1")))
	waitFor(t, "an endpoint", func() bool { return l.ask(t, 31000, "/healthz").Status == 200 })
	if diff := cmp.Diff(said(200, "1", "web", 1, true), l.ask(t, 31000, "/healthz")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	n.Must(n.tables.DeleteService(s.Ref))
	waitFor(t, "the port to close", func() bool { return l.refused(31000) })
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}
