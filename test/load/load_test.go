package load

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const patience = 10 * time.Second // for what is not meant to take time

// echoHTTP answers with what was asked; when it closes, it ends the connection
// after each answer, and does not say so.
func echoHTTP(t *testing.T, closes bool) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.FormValue("msg"))
	}))
	if closes {
		s.Config.ConnState = func(c net.Conn, state http.ConnState) {
			if state == http.StateIdle {
				_ = c.Close()
			}
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// echoUDP sends what answer makes of each datagram.
func echoUDP(t *testing.T, answer func(question string) []string) netip.AddrPort {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		for b := make([]byte, maxDatagram); ; {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			for _, text := range answer(string(b[:n])) {
				_, _ = conn.WriteTo([]byte(text), from)
			}
		}
	}()
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

func echo(question string) []string { return []string{strings.TrimPrefix(question, "echo ")} }

// nobody is an address where nothing listens.
func nobody(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return netip.MustParseAddrPort(listener.Addr().String())
}

func TestRun(t *testing.T) {
	silent := echoUDP(t, func(string) []string { return nil })
	late := echoUDP(t, func(q string) []string { return append([]string{"stale"}, echo(q)...) })
	for name, test := range map[string]struct {
		target Target
		want   string // answered, reopened and errors
	}{
		"fresh TCP":        {Target{Protocol: TCP, Socket: Fresh, Addr: echoHTTP(t, false), Ask: "/?msg=", Numbered: true}, "5 0 map[]"},
		"kept TCP":         {Target{Protocol: TCP, Socket: Kept, Addr: echoHTTP(t, false), Ask: "/?msg=", Numbered: true}, "5 0 map[]"},
		"closed between":   {Target{Protocol: TCP, Socket: Kept, Addr: echoHTTP(t, true), Ask: "/?msg=", Numbered: true}, "5 4 map[]"},
		"another answer":   {Target{Protocol: TCP, Socket: Kept, Addr: echoHTTP(t, false), Ask: "/?other=", Numbered: true}, "0 0 map[wrong answer:5]"},
		"no TCP server":    {Target{Protocol: TCP, Socket: Kept, Addr: nobody(t), Ask: "/"}, "0 0 map[refused:5]"},
		"fresh UDP":        {Target{Protocol: UDP, Socket: Fresh, Addr: echoUDP(t, echo), Ask: "echo", Numbered: true}, "5 0 map[]"},
		"kept UDP":         {Target{Protocol: UDP, Socket: Kept, Addr: echoUDP(t, echo), Ask: "echo", Numbered: true}, "5 0 map[]"},
		"open UDP":         {Target{Protocol: UDP, Socket: Open, Addr: echoUDP(t, echo), Ask: "echo", Numbered: true}, "5 0 map[]"},
		"stale answers":    {Target{Protocol: UDP, Socket: Kept, Addr: late, Ask: "echo", Numbered: true}, "5 0 map[]"},
		"no UDP server":    {Target{Protocol: UDP, Socket: Fresh, Addr: nobody(t), Ask: "?"}, "0 0 map[refused:5]"},
		"silent":           {Target{Protocol: UDP, Socket: Kept, Addr: silent, Ask: "?", Timeout: time.Millisecond}, "0 0 map[timeout:5]"},
		"silent to anyone": {Target{Protocol: UDP, Socket: Open, Addr: silent, Ask: "?", Timeout: time.Millisecond}, "0 0 map[timeout:5]"},
	} {
		t.Run(name, func(t *testing.T) {
			test.target.Name, test.target.Count = name, 5
			test.target.Timeout = max(test.target.Timeout, map[bool]time.Duration{true: patience}[test.target.Timeout == 0])
			results, err := Run(t.Context(), []Target{test.target})
			if err != nil {
				t.Fatal(err)
			}
			r := results[0]
			if got := fmt.Sprintln(r.Answered, r.Reopened, r.Errors); r.Asked != 5 || r.Name != name || got != test.want+"\n" {
				t.Errorf("%s; failures %v; want %s", got, r.Failures, test.want)
			}
			if len(r.Failures) != 5-r.Answered {
				t.Errorf("failures %v", r.Failures)
			}
		})
	}
}

// TestHeld has a server that answers, and ends the connection when it is told.
func TestHeld(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "hello") }))
	defer s.Close()
	ended := make(chan []Result)
	target := Target{Name: "held", Protocol: TCP, Socket: Held, Addr: netip.MustParseAddrPort(s.Listener.Addr().String()), Ask: "/", Timeout: patience}
	go func() {
		r, _ := Run(t.Context(), []Target{target})
		ended <- r
	}()
	for {
		s.CloseClientConnections()
		select {
		case r := <-ended:
			if r[0].Asked != 1 || r[0].Answered+r[0].Errors[ReasonClosed]+r[0].Errors[ReasonReset] < 1 || len(r[0].Failures) != 1 {
				t.Errorf("%+v", r)
			}
			return
		default:
		}
	}
}

// TestEnd ends questions that have no number, and what is held.
func TestEnd(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	asked := make(chan struct{}, 1)
	at := echoUDP(t, func(q string) []string {
		select {
		case asked <- struct{}{}:
		default:
		}
		return echo(q)
	})
	go func() {
		<-asked
		stop()
	}()
	results, err := Run(ctx, []Target{
		{Name: "held", Protocol: UDP, Socket: Held, Addr: at, Ask: "echo", Numbered: true, Timeout: patience},
		{Name: "asks", Protocol: UDP, Socket: Fresh, Addr: at, Ask: "echo", Numbered: true, Timeout: patience, Interval: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Answered < 1 || len(r.Errors) > 0 || r.Asked != r.Answered {
			t.Errorf("%+v", r)
		}
	}
}

func TestBadTargets(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:1")
	for name, target := range map[string]Target{
		"no timeout":  {Protocol: TCP, Socket: Fresh, Addr: at},
		"no address":  {Protocol: TCP, Socket: Fresh, Timeout: patience},
		"no protocol": {Socket: Fresh, Addr: at, Timeout: patience},
		"no socket":   {Protocol: UDP, Addr: at, Timeout: patience},
		"open TCP":    {Protocol: TCP, Socket: Open, Addr: at, Timeout: patience},
	} {
		target.Name = name
		if r, err := Run(t.Context(), []Target{target}); err == nil || r != nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %v; want an error that names the target", name, r, err)
		}
	}
}
