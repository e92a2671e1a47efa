package socktest

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/testutil"
)

// form is how a socket names an address.
type form struct {
	name string
	v6   bool // the service's family
	in6  bool // the socket's
}

func forms() []form {
	return []form{{"IPv4", false, false}, {"IPv6", true, true}, {"IPv4InIPv6", false, true}}
}

func (f form) domain() int {
	if f.in6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// proto is a protocol and how its sockets are used.
type proto struct {
	name   string
	number uint8
	kind   int
}

func protos() []proto {
	return []proto{{"TCP", unix.IPPROTO_TCP, unix.SOCK_STREAM}, {"UDP", unix.IPPROTO_UDP, unix.SOCK_DGRAM}}
}

// socket is a blocking one. It waits at most ten seconds for an answer.
type socket struct {
	fd int
	f  form
}

// socket opens one in the world's cgroup and namespace; it is closed with the test.
func (w *world) socket(t testing.TB, f form, p proto) socket {
	t.Helper()
	return w.socketIn(t, w.ns, f, p)
}

func (w *world) socketIn(t testing.TB, ns *testutil.Netns, f form, p proto) socket {
	t.Helper()
	s := socket{f: f}
	testutil.InCgroup(t, w.cgroup, func() {
		ns.Do(t, func() {
			var err error
			if s.fd, err = unix.Socket(f.domain(), p.kind|unix.SOCK_CLOEXEC, 0); err != nil {
				t.Fatalf("open socket: %v", err)
			}
		})
	})
	t.Cleanup(func() { _ = unix.Close(s.fd) })
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (f form) sockaddr(a netip.AddrPort) unix.Sockaddr {
	if f.in6 {
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func (s socket) connect(to netip.AddrPort) error { return unix.Connect(s.fd, s.f.sockaddr(to)) }

func (s socket) sendTo(to netip.AddrPort) error {
	return unix.Sendto(s.fd, []byte("who"), unix.MSG_NOSIGNAL, s.f.sockaddr(to))
}

func (s socket) peer(t testing.TB) netip.AddrPort {
	t.Helper()
	sa, err := unix.Getpeername(s.fd)
	if err != nil {
		t.Fatalf("getpeername: %v", err)
	}
	return fromSockaddr(sa)
}

// receive gives what the server said, and who the socket says that it is.
func (s socket) receive(t testing.TB) (text string, from netip.AddrPort) {
	t.Helper()
	buf := make([]byte, 256)
	for {
		n, sa, err := unix.Recvfrom(s.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue // by the Go runtime's own signals
		}
		if err != nil {
			t.Fatalf("receive: %v", err)
		}
		return string(buf[:n]), fromSockaddr(sa)
	}
}

// ask connects and returns the address that answers.
func (s socket) ask(t testing.TB, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	if err := s.connect(to); err != nil {
		t.Fatalf("connect to %s: %v", to, err)
	}
	return s.askAgain(t)
}

// askAgain is ask on a connected socket.
func (s socket) askAgain(t testing.TB) netip.AddrPort {
	t.Helper()
	s.send(t)
	text, _ := s.receive(t)
	return netip.MustParseAddrPort(text)
}

// send is for a connected socket.
func (s socket) send(t testing.TB) {
	t.Helper()
	if err := unix.Sendto(s.fd, []byte("who"), unix.MSG_NOSIGNAL, nil); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// answer makes each address answer with itself in TCP and UDP, in the namespace
// and outside of any world's cgroup.
func answer(t testing.TB, ns *testutil.Netns, addrs ...netip.AddrPort) {
	t.Helper()
	for _, a := range addrs {
		ns.Do(t, func() {
			l, err := net.Listen("tcp", a.String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			go acceptAll(l, a)
			c, err := net.ListenPacket("udp", a.String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			go echoAll(c, a)
		})
	}
}

func acceptAll(l net.Listener, a netip.AddrPort) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			buf := make([]byte, 16)
			for {
				if _, err := c.Read(buf); err != nil {
					return
				}
				if _, err := c.Write([]byte(a.String())); err != nil {
					return
				}
			}
		}()
	}
}

func echoAll(c net.PacketConn, a netip.AddrPort) {
	buf := make([]byte, 16)
	for {
		_, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = c.WriteTo([]byte(a.String()), from)
		}
	}
}
