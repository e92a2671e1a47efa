package nstest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/testutil"
)

// ioTimeout bounds every exchange of a test. It is long, because the machine may
// be busy with something else; how much is lost is counted in packets.
const ioTimeout = 30 * time.Second

// ping sends count echo requests with size bytes of payload, which may not be
// fragmented, and fails unless all come back.
func ping(t testing.TB, from *testutil.Netns, to netip.Addr, size int) {
	t.Helper()
	if out, err := tryPing(t, from, to, size); err != nil {
		t.Errorf("ping from %s to %s with %d bytes: %v\n%s", from.Name, to, size, err, out)
	}
}

func tryPing(t testing.TB, from *testutil.Netns, to netip.Addr, size int) (string, error) {
	t.Helper()
	return from.Run(t, "ping", "-n", "-c", "3", "-i", "0.05", "-W", "1", "-M", "do", "-s", strconv.Itoa(size), to.String())
}

// serveTCP answers every connection with what it sends, until the test ends.
func serveTCP(t testing.TB, ns *testutil.Netns, addr netip.Addr) netip.AddrPort {
	t.Helper()
	var l net.Listener
	ns.Do(t, func() {
		var err error
		l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		must(t, err)
	})
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				// Not as *TCPConn, which would splice through a pipe that Go keeps.
				_, _ = io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func dialTCP(t testing.TB, ns *testutil.Netns, to netip.AddrPort) net.Conn {
	t.Helper()
	var conn net.Conn
	ns.Do(t, func() {
		var err error
		conn, err = net.DialTimeout("tcp", to.String(), ioTimeout)
		if err != nil {
			t.Fatalf("dial from %s: %v", ns.Name, err)
		}
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// exchangeTCP sends size random bytes through an echo server and compares what
// comes back.
func exchangeTCP(t testing.TB, from, to *testutil.Netns, addr netip.Addr, size int) {
	t.Helper()
	conn := dialTCP(t, from, serveTCP(t, to, addr))
	if err := echo(conn, size); err != nil {
		t.Errorf("TCP from %s to %s, %d bytes: %v", from.Name, addr, size, err)
	}
}

func echo(conn net.Conn, size int) error {
	if err := conn.SetDeadline(time.Now().Add(ioTimeout)); err != nil {
		return err
	}
	want := make([]byte, size)
	fill(want, uint64(size))
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(want)
		sent <- err
	}()
	got := make([]byte, size)
	if _, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := <-sent; err != nil {
		return fmt.Errorf("write: %w", err)
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d is %#x, want %#x", i, got[i], want[i])
		}
	}
	return nil
}

func fill(b []byte, seed uint64) {
	r := rand.NewPCG(seed, 1)
	for i := range b {
		b[i] = byte(r.Uint64())
	}
}

// exchangeUDP sends one datagram of size bytes and waits for its echo.
func exchangeUDP(t testing.TB, from, to *testutil.Netns, addr netip.Addr, size int) {
	t.Helper()
	var client net.Conn
	var packets net.PacketConn
	to.Do(t, func() {
		var err error
		packets, err = net.ListenPacket("udp", netip.AddrPortFrom(addr, 0).String())
		must(t, err)
	})
	defer packets.Close()
	go func() {
		buf := make([]byte, size+1)
		if n, peer, err := packets.ReadFrom(buf); err == nil {
			_, _ = packets.WriteTo(buf[:n], peer)
		}
	}()
	from.Do(t, func() {
		var err error
		client, err = net.Dial("udp", packets.LocalAddr().String())
		must(t, err)
	})
	defer client.Close()
	if err := echo(client, size); err != nil {
		t.Errorf("UDP from %s to %s, %d bytes: %v", from.Name, addr, size, err)
	}
}
