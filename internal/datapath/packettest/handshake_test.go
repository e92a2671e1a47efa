package packettest

import (
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// handshake is a connection to a service with one backend, which changes.
type handshake struct {
	asked, before, after talk // as the client sees it, and with either backend
}

func (n *node) handshake(t *testing.T) handshake {
	n.noServices(t)
	h := handshake{asked: talk{overTCP, at(podA.ip4, 40000), at(vip4, 80)}}
	h.before = talk{overTCP, h.asked.a, at(podB.ip4, 8080)}
	h.after = talk{overTCP, h.asked.a, at(podC.ip4, 8080)}
	h.move(t, n, h.before)
	return h
}

// move makes the backend of one talk that of the service.
func (h handshake) move(t *testing.T, n *node, to talk) {
	t.Helper()
	n.serve(t, h.asked.b, served{proto: overTCP, cluster: []netip.AddrPort{to.b}})
	id := uint32(1)
	if to == h.after {
		id = 2
	}
	value := abi.CBackend{Addr: netorder.Addr(to.b.Addr()), Port: netorder.Port(to.b.Port()), Id: id}
	n.put(t, "backend_map", &abi.CBackendKey{List: 20}, &value)
}

// says and answers send a packet of the connection with one of the backends.
func (h handshake) says(t *testing.T, n *node, what string, with talk, flags string) {
	t.Helper()
	n.becomes(t, what, h.asked.says(t, n, flags), with.onward(t, n, flags, false, true))
}

func (h handshake) answers(t *testing.T, n *node, what string, with talk, flags string) {
	t.Helper()
	n.becomes(t, what, with.answers(t, n, flags), h.asked.onward(t, n, flags, true, true))
}

// stays says that the connection is that of one backend, whoever serves.
func (h handshake) stays(t *testing.T, n *node, with, other talk) {
	t.Helper()
	h.move(t, n, other)
	h.says(t, n, "the second packet", with, "A")
	h.answers(t, n, "the second answer", with, "A")
	h.says(t, n, "the third packet", with, "A")
	for _, k := range []talk{h.asked, with} {
		if r := n.find(t, k); r.table != tcpTable || r.flags()&natted == 0 || r.flags()&assured == 0 {
			t.Errorf("%s is in %s with flags %#x, want an established flow that is translated", k, r.table, r.flags())
		}
	}
}

// An answer that the client did not get does not tie it to a backend that has gone:
// when it asks again, the connection is that of who serves then.
func testHandshakeAgain(t *testing.T, n *node) {
	h := n.handshake(t)
	h.says(t, n, "the first packet", h.before, "S")
	h.answers(t, n, "an answer that is lost", h.before, "SA")
	n.edit(t, h.asked, func(e *abi.CCtEntry) { e.State -= margin << 32 })
	h.move(t, n, h.after)
	h.says(t, n, "the first packet again", h.after, "S")
	h.answers(t, n, "the answer again", h.before, "SA")
	h.answers(t, n, "the answer of who serves", h.after, "SA")
	h.stays(t, n, h.after, h.before)
}

// The late answer of a backend that was asked before does not take over a connection
// that another one accepted.
func testLateAnswer(t *testing.T, n *node) {
	h := n.handshake(t)
	h.says(t, n, "the first packet", h.before, "S")
	h.move(t, n, h.after)
	h.says(t, n, "the first packet again", h.after, "S")
	h.answers(t, n, "the answer of who serves", h.after, "SA")
	h.answers(t, n, "a late answer", h.before, "SA")
	h.answers(t, n, "its reset", h.before, "RA")
	if r := n.find(t, h.asked); r.flags()&abi.CCtFlagsCT_RESET != 0 {
		t.Error("the connection was reset by who does not have it")
	}
	h.stays(t, n, h.after, h.before)
}

// A connection that takes the place of one that ended, of which only the entry that
// answers meet is left, gets the other one from its first answer as any does.
func testOneTwinLeft(t *testing.T, n *node) {
	h := n.handshake(t)
	n.translates(t, h.asked, h.before)
	h.says(t, n, "FIN", h.before, "FA")
	h.answers(t, n, "FIN", h.before, "FA")
	r := n.find(t, h.asked)
	if err := n.loader.Map(tcpTable).Table.Map().Delete(&r.key); err != nil {
		t.Fatal(err)
	}
	h.says(t, n, "the first packet", h.before, "S")
	n.has(t, "before an answer", h.asked, nowhere, 0)
	h.answers(t, n, "the answer", h.before, "SA")
	h.stays(t, n, h.before, h.after)
}

// A connection begins anew in the half-open entry that an ended one left.
func testHandshakeAfterReset(t *testing.T, n *node) {
	h := n.handshake(t)
	h.says(t, n, "the first packet", h.before, "S")
	h.answers(t, n, "the answer", h.before, "SA")
	h.says(t, n, "the client's reset", h.before, "R")
	h.says(t, n, "the first packet of the next", h.before, "S")
	h.answers(t, n, "its answer", h.before, "SA")
	if r := n.find(t, h.asked); r.table != embryonic || r.flags()&abi.CCtFlagsCT_RESET != 0 {
		t.Errorf("the next is in %s with flags %#x, want it half open and not reset", r.table, r.flags())
	}
	h.stays(t, n, h.before, h.after)
}

// A client that needs another source port gets one again after a connection that ended
// half open, though the entry of that one is still there.
func testOtherPortAgain(t *testing.T, n *node) {
	h := n.handshake(t)
	n.establish(t, h.before)
	with := talk{overTCP, seen(n.passes(t, "the first packet", h.asked.says(t, n, "S")).frame), h.before.b}
	h.answers(t, n, "the answer", with, "SA")
	h.says(t, n, "the client's reset", with, "R")
	with.a = seen(n.passes(t, "the first packet of the next", h.asked.says(t, n, "S")).frame)
	if with.a.Addr() != podA.ip4 || with.a.Port() == h.asked.a.Port() {
		t.Fatalf("the next left with the source %s, want another port of the pod", with.a)
	}
	h.answers(t, n, "its answer", with, "SA")
	h.says(t, n, "the second packet", with, "A")
	h.answers(t, n, "the second answer", with, "A")
}
