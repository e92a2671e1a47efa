package socktest

import (
	"errors"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/testutil"
)

// BenchmarkConnect measures a call to a backend's own address with no program
// attached ("bare"), the same with the programs ("plain"), and to a service
// ("service"; "sticky" has session affinity). connect is the call on a UDP socket,
// which sends nothing: the difference is what the programs cost. open is a TCP
// connection from socket() to close(), and sendto a message to a full queue. cpu-ns
// is the time that the caller ran, which a busy machine lengthens less.
func BenchmarkConnect(b *testing.B) {
	w := newNode(b)
	bare := *w
	f, tcp, udp := forms()[0], protos()[0], protos()[1]
	answer(b, w.ns, backend(false, 0))
	deaf := netip.AddrPortFrom(backend(false, 1).Addr(), servicePort)
	if err := unix.Bind(w.socket(b, f, udp).fd, f.sockaddr(deaf)); err != nil {
		b.Fatal(err)
	}
	measure := func(name string, w *world, to, messages netip.AddrPort) {
		b.Run("connect/"+name, func(b *testing.B) { benchmarkCall(b, w.socket(b, f, udp).connect, to) })
		b.Run("sendto/"+name, func(b *testing.B) { benchmarkCall(b, w.socket(b, f, udp).sendTo, messages) })
		b.Run("open/"+name, func(b *testing.B) { benchmarkOpen(b, w, f, tcp, to) })
	}
	measure("bare", &bare, backend(false, 0), deaf)
	w.start(b, rejecting())
	plain, sticking := w.newVIP(false), w.newVIP(false)
	w.serve(b, plain, tcp.number, 0, backend(false, 0))
	w.serve(b, sticking, tcp.number, sticky, backend(false, 0))
	w.serve(b, plain, udp.number, 0, deaf)
	w.serve(b, sticking, udp.number, sticky, deaf)
	measure("plain", w, backend(false, 0), deaf)
	measure("service", w, plain, plain)
	measure("sticky", w, sticking, sticking)
}

func benchmarkCall(b *testing.B, call func(netip.AddrPort) error, to netip.AddrPort) {
	measureCPU(b, func() {
		for b.Loop() {
			if err := call(to); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// measureCPU reports what f, which loops, takes of this thread.
func measureCPU(b *testing.B, f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime(b)
	f()
	b.ReportMetric(float64(threadTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func threadTime(b *testing.B) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return ts.Nano()
}

func benchmarkOpen(b *testing.B, w *world, f form, p proto, to netip.AddrPort) {
	testutil.InCgroup(b, w.cgroup, func() {
		w.ns.Do(b, func() {
			measureCPU(b, func() {
				for b.Loop() {
					if err := openAndReset(f, p, to); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	})
}

// openAndReset leaves no port in TIME_WAIT.
func openAndReset(f form, p proto, to netip.AddrPort) error {
	fd, err := unix.Socket(f.domain(), p.kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(
		unix.Connect(fd, f.sockaddr(to)),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.Close(fd))
}
