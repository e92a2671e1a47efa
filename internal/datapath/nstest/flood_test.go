package nstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/testutil"
)

const (
	smallTable  = 1024
	floodBurst  = 64 // packets between two pauses
	floodPause  = 4 * time.Millisecond
	quietPairs  = 20 // connections of each family that are idle during a flood
	crowdedConn = smallTable + smallTable/4
)

// duplex is a connection of which the test holds both ends.
type duplex struct{ client, server net.Conn }

// open connects and lets data pass in both directions, so that the flow is an
// established one.
func open(t testing.TB, from, to *testutil.Netns, addr netip.Addr) duplex {
	t.Helper()
	var l net.Listener
	to.Do(t, func() {
		var err error
		l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		must(t, err)
	})
	defer l.Close()
	d := duplex{client: dialTCP(t, from, l.Addr().(*net.TCPAddr).AddrPort())}
	var err error
	d.server, err = l.Accept()
	must(t, err)
	t.Cleanup(func() { _ = d.server.Close() })
	for range 2 {
		must(t, pass(d.client, d.server))
		must(t, pass(d.server, d.client))
	}
	return d
}

// pass sends a word from one end to the other.
func pass(from, to net.Conn) error {
	var b [16]byte
	if _, err := rand.NewChaCha8([32]byte{1}).Read(b[:]); err != nil {
		return err
	}
	if _, err := from.Write(b[:]); err != nil {
		return err
	}
	if err := to.SetReadDeadline(time.Now().Add(ioTimeout)); err != nil {
		return err
	}
	_, err := io.ReadFull(to, b[:])
	return err
}

// packet4 is an IPv4 packet without options; the kernel makes the header's checksum.
func packet4(proto byte, src, dst netip.Addr, l4 []byte) []byte {
	b := make([]byte, 20, 20+len(l4))
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(l4)))
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	return append(b, l4...)
}

func packet6(proto byte, src, dst netip.Addr, l4 []byte) []byte {
	b := make([]byte, 40, 40+len(l4))
	b[0], b[6], b[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(l4)))
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	return append(b, l4...)
}

// l4Header is a TCP segment that asks for a connection, or an empty datagram.
func l4Header(proto byte, src, dst netip.Addr, sport, dport uint16) []byte {
	size, at := 20, 16
	if proto == unix.IPPROTO_UDP {
		size, at = 8, 6
	}
	b := make([]byte, size)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	if proto == unix.IPPROTO_UDP {
		binary.BigEndian.PutUint16(b[4:], uint16(size))
	} else {
		b[12], b[13] = 5<<4, 0x02 // SYN
		binary.BigEndian.PutUint16(b[14:], 0xffff)
	}
	pseudo := binary.BigEndian.AppendUint32(nil, uint32(size))
	binary.BigEndian.PutUint16(b[at:], testutil.Checksum(src.AsSlice(), dst.AsSlice(), append(pseudo, 0, 0, 0, proto), b))
	return b
}

// flood sends count first packets of flows that nobody goes on with, from random
// addresses: TCP over IPv4 and UDP over IPv6 take turns.
func flood(t testing.TB, from *testutil.Netns, to *pod, port uint16, count int) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(count)))
	var raw [2]int
	from.Do(t, func() {
		var err error
		raw[0], err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		must(t, err)
		raw[1], err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_RAW)
		must(t, err)
	})
	defer unix.Close(raw[0])
	defer unix.Close(raw[1])
	for i := range count {
		if i%floodBurst == 0 {
			time.Sleep(floodPause)
		}
		sport := uint16(1024 + random.IntN(60000))
		var err error
		if i%2 == 0 {
			src := netip.AddrFrom4([4]byte{198, 18, byte(random.Uint32()), byte(random.Uint32())})
			b := packet4(unix.IPPROTO_TCP, src, to.ep.IPv4, l4Header(unix.IPPROTO_TCP, src, to.ep.IPv4, sport, port))
			err = unix.Sendto(raw[0], b, 0, &unix.SockaddrInet4{Addr: to.ep.IPv4.As4()})
		} else {
			src := nth(netip.MustParsePrefix("2001:db8:ffff::/64"), 1+random.IntN(1<<30))
			b := packet6(unix.IPPROTO_UDP, src, to.ep.IPv6, l4Header(unix.IPPROTO_UDP, src, to.ep.IPv6, sport, port))
			err = unix.Sendto(raw[1], b, 0, &unix.SockaddrInet6{Addr: to.ep.IPv6.As16()})
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("send packet %d of the flood: %v", i, err)
			return
		}
	}
}

// TestFlood sends far more half-open and one-way flows to a pod than the table
// of embryonic flows takes. What is established goes on, also what is silent
// meanwhile and whose pod nobody may reach anew, and new connections open.
func TestFlood(t *testing.T) {
	c := newCluster(t, options{change: func(cfg *datapath.Config) { cfg.Tables.Embryonic = smallTable }})
	c.start(t)
	n := c.nodes[0]
	server, client, far := n.addPod(t), n.addPod(t), c.nodes[1].addPod(t)
	client.be(t, identityA)
	client.isolate(t) // so that only answers reach it
	if err := reaches(t, server.Netns, serveTCP(t, client.Netns, client.ep.IPv4), false); err != nil {
		t.Fatal(err)
	}
	var quiet []duplex
	for _, is6 := range []bool{false, true} {
		for range quietPairs {
			quiet = append(quiet, open(t, client.Netns, server.Netns, server.addr(is6)), open(t, client.Netns, far.Netns, far.addr(is6)))
		}
	}
	loads := c.everyPath(t, server, far, far)
	listening := serveTCP(t, server.Netns, server.addr(false))
	const count = 20 * smallTable
	done := make(chan struct{})
	go func() {
		defer close(done)
		flood(t, c.outside, server, listening.Port(), count)
	}()
	opened := 0
	for flooding := true; flooding; opened++ {
		select {
		case <-done:
			flooding = false
		default:
		}
		exchangeTCP(t, client.Netns, server.Netns, server.addr(opened%2 == 0), 1000)
		exchangeUDP(t, client.Netns, server.Netns, server.addr(opened%2 == 0), 1000)
		exchangeTCP(t, far.Netns, server.Netns, server.addr(opened%2 == 0), 1000)
	}
	left := n.embryonic(t)
	t.Logf("%d packets of %d sources; honest clients connected %d times meanwhile; %d embryonic flows are left", count, count, 3*opened, left)
	if left > smallTable || left < smallTable/2 {
		t.Errorf("the flood did not fill the embryonic table of %d: %d entries", smallTable, left)
	}
	for i, d := range quiet {
		// The server's end first: it may reach the client only in a flow that is known.
		if err := pass(d.server, d.client); err != nil {
			t.Errorf("silent connection %d: %v", i, err)
		}
		if err := pass(d.client, d.server); err != nil {
			t.Errorf("silent connection %d: %v", i, err)
		}
	}
	for _, l := range loads {
		l.stop(t, 0)
	}
}

// embryonic counts the embryonic flows of the node.
func (n *node) embryonic(t testing.TB) int {
	t.Helper()
	count := 0
	var key abi.CCtKey
	var value abi.CCtEntry
	for it := n.table(t, datapath.CTNewMap).Iterate(); it.Next(&key, &value); {
		count++
	}
	return count
}

// TestFullTable opens more connections than the established table takes. All of
// them work, and so do further ones; that the table is full is counted.
func TestFullTable(t *testing.T) {
	c := newCluster(t, options{change: func(cfg *datapath.Config) { cfg.Tables.TCP = smallTable }})
	c.start(t)
	n := c.nodes[0]
	server, client := n.addPod(t), n.addPod(t)
	client.be(t, identityA)
	client.isolate(t)
	var all []duplex
	for i := range crowdedConn {
		all = append(all, open(t, client.Netns, server.Netns, server.addr(i%2 == 0)))
	}
	full := uint64(0)
	for key, packets := range n.counts(t) {
		if strings.Contains(key, "Table full") || strings.Contains(key, "table full") {
			full += packets
		}
	}
	if full == 0 {
		t.Errorf("%d connections in a table of %d entries, and that it is full was not counted: %v", crowdedConn, smallTable, n.counts(t))
	}
	exchangeTCP(t, client.Netns, server.Netns, server.addr(false), 1<<20)
	n.must(t, "Revoke", None{})
	for i, d := range all {
		for _, err := range []error{pass(d.server, d.client), pass(d.client, d.server)} {
			if err != nil {
				t.Fatal(fmt.Errorf("connection %d of %d: %w", i, crowdedConn, err))
			}
		}
	}
}
