package socktest

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/testutil"
)

// tries is how often a random choice is made where two backends must both turn up:
// that they do not happens once in 2^63 runs.
const tries = 64

// TestNode is what is tested on one node: loading the programs takes longer than all
// of it.
func TestNode(t *testing.T) {
	w := newWorld(t, rejecting())
	for _, v6 := range []bool{false, true} {
		answer(t, w.ns, backend(v6, 0), backend(v6, 1))
	}
	for _, tc := range []struct {
		name string
		test func(*testing.T, *world)
	}{
		{"Connect", testConnect},
		{"SendTo", testSendTo},
		{"ConnectAgain", testConnectAgain},
		{"Remembered", testRemembered},
		{"NobodyServes", testNobodyServes},
		{"SilentWhereOthersServe", testSilentWhereOthersServe},
		{"OtherAddresses", testOtherAddresses},
		{"Affinity", testAffinity},
		{"AffinityOfNamespaces", testAffinityOfNamespaces},
		{"OwnService", testOwnService},
		{"Audit", testAudit},
		{"AnotherCgroup", testAnotherCgroup},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, w) })
	}
}

// each runs a test for every form of address and protocol, with a service of its
// own that has two backends.
func each(t *testing.T, w *world, flags uint32, test func(t *testing.T, f form, p proto, to netip.AddrPort)) {
	t.Helper()
	for _, f := range forms() {
		for _, p := range protos() {
			to := w.newVIP(f.v6)
			w.serve(t, to, p.number, flags, backend(f.v6, 0), backend(f.v6, 1))
			t.Run(f.name+p.name, func(t *testing.T) { test(t, f, p, to) })
		}
	}
}

func testConnect(t *testing.T, w *world) {
	each(t, w, 0, func(t *testing.T, f form, p proto, to netip.AddrPort) {
		seen := map[netip.AddrPort]int{}
		for range tries {
			s := w.socket(t, f, p)
			seen[s.ask(t, to)]++
			if got := s.peer(t); got != to {
				t.Fatalf("getpeername gives %s, want the service's %s", got, to)
			}
		}
		if len(seen) != 2 || seen[backend(f.v6, 0)]+seen[backend(f.v6, 1)] != tries {
			t.Errorf("who answered: %v", seen)
		}
	})
}

// A UDP socket gets the service's address with what it receives, connected or not.
// The messages of one that is not connected have one backend, different sockets
// have different ones.
func testSendTo(t *testing.T, w *world) {
	udp := protos()[1]
	for _, f := range forms() {
		to := w.newVIP(f.v6)
		w.serve(t, to, udp.number, 0, backend(f.v6, 0), backend(f.v6, 1))
		t.Run(f.name, func(t *testing.T) {
			seen := map[string]int{}
			for range tries {
				seen[sendSome(t, w.socket(t, f, udp), to)]++
			}
			if len(seen) != 2 {
				t.Errorf("who answered: %v", seen)
			}
			s := w.socket(t, f, udp)
			if err := s.connect(to); err != nil {
				t.Fatal(err)
			}
			s.send(t)
			if _, from := s.receive(t); from != to {
				t.Errorf("a connected socket's answer is from %s, want %s", from, to)
			}
		})
	}
}

// sendSome returns who answers all of a socket's messages.
func sendSome(t *testing.T, s socket, to netip.AddrPort) string {
	t.Helper()
	var first string
	for i := range 4 {
		if err := s.sendTo(to); err != nil {
			t.Fatalf("send: %v", err)
		}
		text, from := s.receive(t)
		if from != to {
			t.Fatalf("the answer is from %s, want %s", from, to)
		}
		if i == 0 {
			first = text
		} else if text != first {
			t.Fatalf("message %d went to %s, the first to %s", i, text, first)
		}
	}
	return first
}

// What a socket is told follows its latest connection.
func testConnectAgain(t *testing.T, w *world) {
	udp := protos()[1]
	for _, f := range forms() {
		t.Run(f.name, func(t *testing.T) {
			one, two := w.newVIP(f.v6), w.newVIP(f.v6)
			w.serve(t, one, udp.number, 0, backend(f.v6, 0))
			w.serve(t, two, udp.number, 0, backend(f.v6, 0))
			s := w.socket(t, f, udp)
			for _, to := range []netip.AddrPort{one, two, backend(f.v6, 0), one} {
				if got := s.ask(t, to); got != backend(f.v6, 0) {
					t.Errorf("%s answers for %s", got, to)
				}
				if got := s.peer(t); got != to {
					t.Errorf("getpeername gives %s after connect to %s", got, to)
				}
			}
		})
	}
}

// The table of sockets names service and backend.
func testRemembered(t *testing.T, w *world) {
	each(t, w, 0, func(t *testing.T, f form, p proto, to netip.AddrPort) {
		s := w.socket(t, f, p)
		b := s.ask(t, to)
		cookie, err := unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		if err != nil {
			t.Fatal(err)
		}
		var e abi.CSockEntry
		key := abi.CSockKey{Cookie: cookie, Addr: netorder.Addr(b.Addr()), Port: netorder.Port(b.Port())}
		if err := w.table("sock_map").Lookup(key, &e); err != nil {
			t.Fatalf("look up the socket: %v", err)
		}
		want := abi.CSockEntry{Addr: netorder.Addr(to.Addr()), Port: netorder.Port(to.Port()), Service: w.serviceOf(t, to, p), Backend: idOf(b)}
		if e != want {
			t.Errorf("the socket's entry is %+v, want %+v", e, want)
		}
	})
}

// refusals are addresses and ports where nobody serves.
func refusals(t *testing.T, w *world) []netip.AddrPort {
	t.Helper()
	var out []netip.AddrPort
	for _, v6 := range []bool{false, true} {
		empty, other := w.newVIP(v6), w.newVIP(v6)
		for _, p := range protos() {
			w.serve(t, empty, p.number, 0)
		}
		w.frontend(t, netip.AddrPortFrom(other.Addr(), 0), 0, closed, 0)
		out = append(out, empty, other)
	}
	return out
}

func testNobodyServes(t *testing.T, w *world) {
	for _, to := range refusals(t, w) {
		checkCalls(t, w, to, unix.ECONNREFUSED)
	}
}

// checkCalls checks how every call that names the address ends.
func checkCalls(t *testing.T, w *world, to netip.AddrPort, want error) {
	t.Helper()
	for _, f := range forms() {
		if f.v6 != to.Addr().Is6() {
			continue
		}
		for _, p := range protos() {
			if err := w.socket(t, f, p).connect(to); !errors.Is(err, want) {
				t.Errorf("connect %s %s to %s: %v, want %v", f.name, p.name, to, err, want)
			}
		}
		if err := w.socket(t, f, protos()[1]).sendTo(to); !errors.Is(err, want) {
			t.Errorf("send %s to %s: %v, want %v", f.name, to, err, want)
		}
	}
}

// Where others serve, the client gets no answer here.
func testSilentWhereOthersServe(t *testing.T, w *world) { testNotServed(t, w, unix.ENETUNREACH) }

// Packets of a pod are dropped on their way, what the node itself sends is not: it
// does not get that far.
func TestNodeIsNotServed(t *testing.T) {
	w := newNode(t)
	cfg := rejecting()
	cfg.HostNetns = netnsCookie(t, w.ns)
	w.start(t, cfg)
	testNotServed(t, w, unix.EHOSTUNREACH)
}

func testNotServed(t *testing.T, w *world, want error) {
	t.Helper()
	for _, v6 := range []bool{false, true} {
		to := w.newVIP(v6)
		for _, p := range protos() {
			w.serve(t, to, p.number, silent)
		}
		checkCalls(t, w, to, want)
	}
}

// An address that is no service's, or another protocol, is none of ours.
func testOtherAddresses(t *testing.T, w *world) {
	for _, f := range forms() {
		for _, p := range protos() {
			if got := w.socket(t, f, p).ask(t, backend(f.v6, 0)); got != backend(f.v6, 0) {
				t.Errorf("%s %s: %s answers", f.name, p.name, got)
			}
		}
		to := w.newVIP(f.v6)
		checkCalls(t, w, to, unix.ENETUNREACH)
		w.serve(t, to, unix.IPPROTO_SCTP, 0, backend(f.v6, 0))
		checkCalls(t, w, to, unix.ENETUNREACH)
	}
}

// All sockets of a namespace keep one backend.
func testAffinity(t *testing.T, w *world) {
	each(t, w, sticky, func(t *testing.T, f form, p proto, to netip.AddrPort) {
		kept := w.socket(t, f, p).ask(t, to)
		for range 16 {
			if got := w.socket(t, f, p).ask(t, to); got != kept {
				t.Fatalf("%s answers, before it was %s", got, kept)
			}
		}
	})
}

// Namespaces are clients of their own, and none keeps a backend that serves no more.
func testAffinityOfNamespaces(t *testing.T, w *world) {
	f, p := forms()[0], protos()[0]
	to := w.newVIP(false)
	id := w.serve(t, to, p.number, sticky, backend(false, 0), backend(false, 1))
	seen := map[netip.AddrPort]int{}
	for range tries / 2 {
		ns := newNamespace(t, "client")
		answer(t, ns, backend(false, 0), backend(false, 1))
		kept := w.socketIn(t, ns, f, p).ask(t, to)
		if again := w.socketIn(t, ns, f, p).ask(t, to); again != kept {
			t.Errorf("%s answers, before it was %s", again, kept)
		}
		seen[kept]++
		var e abi.CAffinityEntry
		if err := w.table("affinity_map").Lookup(clientKey(t, ns, id), &e); err != nil || e.Backend != idOf(kept) {
			t.Errorf("the namespace's entry is %+v, %v; %s answered", e, err, kept)
		}
	}
	if len(seen) != 2 {
		t.Errorf("all namespaces have one backend: %v", seen)
	}

	kept := w.socket(t, f, p).ask(t, to)
	other := backend(false, 0)
	if kept == other {
		other = backend(false, 1)
	}
	w.frontend(t, to, p.number, sticky, id, other)
	for range 4 {
		if got := w.socket(t, f, p).ask(t, to); got != other {
			t.Errorf("%s answers; it serves no more, %s does", got, other)
		}
	}
}

// clientKey is the affinity of a namespace.
func clientKey(t testing.TB, ns *testutil.Netns, service uint32) abi.CAffinityKey {
	t.Helper()
	key := abi.CAffinityKey{Service: service, IsNetns: 1}
	putCookie(&key.Client, netnsCookie(t, ns))
	return key
}

// A process that is its service's only backend reaches itself.
func testOwnService(t *testing.T, w *world) {
	for i, f := range forms() {
		p, to, own := protos()[0], w.newVIP(f.v6), backend(f.v6, 2+i/2)
		server := w.socket(t, f, p)
		if err := errors.Join(unix.Bind(server.fd, f.sockaddr(own)), unix.Listen(server.fd, 1)); err != nil {
			t.Fatal(err)
		}
		w.serve(t, to, p.number, 0, own)
		client := w.socket(t, f, p)
		if err := client.connect(to); err != nil {
			t.Fatalf("%s: connect: %v", f.name, err)
		}
		fd, sa, err := unix.Accept(server.fd)
		if err != nil {
			t.Fatal(err)
		}
		if got := fromSockaddr(sa).Addr(); got != own.Addr() {
			t.Errorf("%s: the client is %s, want the backend itself", f.name, got)
		}
		if got := client.peer(t); got != to {
			t.Errorf("%s: getpeername gives %s, want %s", f.name, got, to)
		}
		_ = unix.Close(fd)
	}
}

func TestHostOnly(t *testing.T) {
	w := newNode(t)
	cfg := rejecting()
	cfg.SockHostOnly, cfg.HostNetns = 1, netnsCookie(t, w.ns)
	w.start(t, cfg)
	pod := newNamespace(t, "pod")
	answer(t, w.ns, backend(false, 0), backend(true, 0))
	for _, f := range forms() {
		for _, p := range protos() {
			to := w.newVIP(f.v6)
			w.serve(t, to, p.number, 0, backend(f.v6, 0))
			if err := w.socketIn(t, pod, f, p).connect(to); !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("connect %s %s in a pod: %v, want %v", f.name, p.name, err, unix.ENETUNREACH)
			}
			w.socket(t, f, p).ask(t, to)
		}
	}
}

// Two nodes of one kernel do not see each other's services.
func TestTwoNodes(t *testing.T) {
	a, b := newWorld(t, rejecting()), newWorld(t, rejecting())
	for _, w := range []*world{a, b} {
		answer(t, w.ns, backend(false, 0), backend(true, 0), backend(false, 1), backend(true, 1))
	}
	for _, f := range forms() {
		both, own := a.newVIP(f.v6), a.newVIP(f.v6)
		for _, p := range protos() {
			a.serve(t, both, p.number, 0, backend(f.v6, 0))
			b.serve(t, both, p.number, 0, backend(f.v6, 1))
			b.serve(t, own, p.number, 0, backend(f.v6, 1))
			if got := a.socket(t, f, p).ask(t, both); got != backend(f.v6, 0) {
				t.Errorf("%s %s on a: %s answers", f.name, p.name, got)
			}
			if got := b.socket(t, f, p).ask(t, both); got != backend(f.v6, 1) {
				t.Errorf("%s %s on b: %s answers", f.name, p.name, got)
			}
		}
		checkCalls(t, a, own, unix.ENETUNREACH)
	}
}
