package sockets

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/testutil"
)

func newTable(t *testing.T) *ebpf.Map {
	t.Helper()
	testutil.RequireRoot(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.LRUHash, MaxEntries: 1024,
		KeySize: uint32(binary.Size(abi.CSockKey{})), ValueSize: uint32(binary.Size(abi.CSockEntry{})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// client is one connected socket of a process.
type client struct {
	name  string
	conn  net.Conn
	peer  netip.AddrPort
	noted uint32 // backend that the table has it with; 0: no entry
	ends  bool
}

func (c client) cookie(t *testing.T) uint64 {
	t.Helper()
	raw, err := c.conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cookie uint64
	var optErr error
	err = raw.Control(func(fd uintptr) { cookie, optErr = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE) })
	if err = errors.Join(err, optErr); err != nil {
		t.Fatal(err)
	}
	return cookie
}

func (c client) key(t *testing.T) abi.CSockKey {
	t.Helper()
	addr, port := netorder.AddrPort(c.peer)
	return abi.CSockKey{Cookie: c.cookie(t), Addr: addr, Port: port}
}

func (c client) note(t *testing.T, table *ebpf.Map) {
	t.Helper()
	key, entry := c.key(t), abi.CSockEntry{Service: 1, Backend: c.noted}
	if err := table.Put(&key, &entry); err != nil {
		t.Fatal(err)
	}
}

// ended tells whether the process sees that its connection was aborted.
func (c client) ended(t *testing.T) bool {
	t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := c.conn.Read(make([]byte, 1))
	switch {
	case errors.Is(err, unix.ECONNABORTED):
		return true
	case errors.Is(err, unix.ETIMEDOUT) || err != nil && err.(net.Error).Timeout(): //nolint:errorlint // of this very call
		return false
	}
	t.Errorf("%s: read says %v", c.name, err)
	return false
}

// servers listens in the namespace for TCP and UDP at a port of its own.
func servers(t *testing.T, ns *testutil.Netns) (port uint16) {
	t.Helper()
	ns.Do(t, func() {
		l, err := net.Listen("tcp", "[::]:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, acceptErr := l.Accept()
				if acceptErr != nil {
					return
				}
				defer func() { _ = c.Close() }()
			}
		}()
		port = uint16(l.Addr().(*net.TCPAddr).Port)
		u, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(port)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = u.Close() })
	})
	return port
}

func dial(t *testing.T, ns *testutil.Netns, network, addr string, port uint16) (net.Conn, netip.AddrPort) {
	t.Helper()
	to := netip.AddrPortFrom(netip.MustParseAddr(addr), port)
	var conn net.Conn
	ns.Do(t, func() {
		var err error
		if conn, err = net.Dial(network, to.String()); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn, to
}

// mapped connects an IPv6 socket to an IPv4 address.
func mapped(t *testing.T, ns *testutil.Netns, port uint16) (net.Conn, netip.AddrPort) {
	t.Helper()
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	var conn net.Conn
	ns.Do(t, func() {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err = unix.Connect(fd, &unix.SockaddrInet6{Port: int(port), Addr: to.Addr().As16()}); err != nil {
			t.Fatal(err)
		}
		conn = fileConn(t, fd)
	})
	return conn, to
}

// fileConn makes a descriptor one of Go's connections.
func fileConn(t *testing.T, fd int) net.Conn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socket")
	defer func() { _ = f.Close() }()
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestEnd(t *testing.T) {
	table := newTable(t)
	node, pod := testutil.NewNetns(t, "node"), testutil.NewNetns(t, "pod")
	ports := map[*testutil.Netns]uint16{node: servers(t, node), pod: servers(t, pod)}
	const gone, other = 7, 8
	var clients []client
	add := func(name string, conn net.Conn, peer netip.AddrPort, noted uint32) {
		c := client{name, conn, peer, noted, noted == gone}
		if noted != 0 {
			c.note(t, table)
		}
		clients = append(clients, c)
	}
	for where, ns := range map[string]*testutil.Netns{"node": node, "pod": pod} {
		for _, network := range []string{"tcp4", "udp4", "tcp6", "udp6"} {
			addr := "127.0.0.1"
			if network[3] == '6' {
				addr = "::1"
			}
			for of, backend := range map[string]uint32{"gone": gone, "living": other, "its own": 0} {
				conn, peer := dial(t, ns, network, addr, ports[ns])
				add(where+": "+network+" to "+of+" backend", conn, peer, backend)
			}
		}
		conn, peer := mapped(t, ns, ports[ns])
		add(where+": IPv4 in an IPv6 socket", conn, peer, gone)
		// The socket was led to the backend once, and has another peer now.
		conn, peer = dial(t, ns, "udp4", "127.0.0.1", ports[ns])
		c := client{where + ": another peer", conn, netip.AddrPortFrom(peer.Addr(), peer.Port()^1), gone, false}
		c.note(t, table)
		clients = append(clients, c)
	}
	r, err := End(t.Context(), table, []string{node.Path, pod.Path, "/run/no/such/namespace"}, []uint32{gone, 99})
	if err != nil {
		t.Fatal(err)
	}
	wantSockets, wantEntries := 0, 0
	for _, c := range clients {
		if c.ends {
			wantSockets++
		}
		if c.noted == gone {
			wantEntries++
		}
		if got := c.ended(t); got != c.ends {
			t.Errorf("%s: ended is %t, want %t", c.name, got, c.ends)
		}
		key, entry := c.key(t), abi.CSockEntry{}
		err := table.Lookup(&key, &entry)
		if (err == nil) != (c.noted == other) {
			t.Errorf("%s: entry of the table: %v", c.name, err)
		}
	}
	if r != (Ended{Sockets: wantSockets, Entries: wantEntries}) {
		t.Errorf("End = %+v, want %d sockets and %d entries", r, wantSockets, wantEntries)
	}
	// Once more: there is nothing left to do.
	if r, err := End(t.Context(), table, []string{node.Path}, []uint32{gone}); err != nil || r != (Ended{}) {
		t.Errorf("End again = %+v, %v", r, err)
	}
}

// TestEndOfGoneSocket: a process closed its socket, only the entry is left.
func TestEndOfGoneSocket(t *testing.T) {
	table := newTable(t)
	ns := testutil.NewNetns(t, "node")
	conn, peer := dial(t, ns, "tcp4", "127.0.0.1", servers(t, ns))
	client{"closed", conn, peer, 3, false}.note(t, table)
	_ = conn.Close()
	r, err := End(t.Context(), table, []string{ns.Path}, []uint32{3})
	if err != nil || r.Sockets > 1 || r.Entries != 1 {
		t.Errorf("End = %+v, %v, want one entry removed", r, err)
	}
}

func TestParseShortMessage(t *testing.T) {
	for n := range messageSize {
		if _, err := parse(make([]byte, n), unix.IPPROTO_TCP); err == nil {
			t.Fatalf("a message of %d bytes is taken for a socket", n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(make([]byte, messageSize), uint8(unix.IPPROTO_TCP))
	f.Fuzz(func(t *testing.T, msg []byte, proto uint8) {
		s, err := parse(msg, proto)
		if err != nil {
			return
		}
		if !s.peer.Addr().IsValid() || s.proto != proto {
			t.Errorf("parse = %+v", s)
		}
		r := request{family: s.family, proto: s.proto, id: s.id}
		if b := r.Serialize(); len(b) != r.Len() {
			t.Errorf("a request has %d bytes, want %d", len(b), r.Len())
		}
	})
}
