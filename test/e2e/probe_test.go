package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

const (
	probeTimeout = time.Second // what is not answered by then counts as dropped
	probesAtOnce = 300
)

// probePorts are those that every server listens on, over TCP and UDP.
var probePorts = []int{7080, 7081}

// probe is one attempt to be answered.
type probe struct {
	from, to place
	family   family
	protocol corev1.Protocol
	port     int
	pace     pace
}

// pace is how long a probe waits for its answer.
type pace int

const (
	steady  pace = iota // long enough for a busy machine
	patient             // as long as can be; a TCP segment that was sent twice is a loss
	hasty               // for many attempts, when the server counts who came
)

func (p probe) timeout() time.Duration {
	return [...]time.Duration{steady: probeTimeout, patient: dataTimeout, hasty: probeTimeout / 10}[p.pace]
}

func (p probe) String() string {
	return fmt.Sprintf("%s to %s, %s/%s:%d", p.from.name, p.to.name, p.protocol, p.family, p.port)
}

// answered tells whether the server that is meant answers in time. The error is
// about the probe itself, or names a server that was not meant.
func (p probe) answered() (bool, error) {
	conn, err := inNetns(p.from.netns, func() (net.Conn, error) {
		to := netip.AddrPortFrom(p.to.addrs[p.family], uint16(p.port)).String()
		return (&net.Dialer{Timeout: p.timeout()}).DialContext(background(), network(p.protocol), to)
	})
	name := ""
	if err == nil {
		defer conn.Close()
		name, err = ask(conn, p.timeout())
	}
	netErr, ok := errors.AsType[net.Error](err)
	switch {
	case ok && netErr.Timeout():
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", p, err)
	case name != p.to.name+"\n":
		return false, fmt.Errorf("%s: %q answers", p, name)
	}
	if tcp, ok := conn.(*net.TCPConn); ok && p.pace == patient {
		return true, neverRepeated(tcp)
	}
	return true, nil
}

// ask returns the line that the server answers with.
func ask(conn net.Conn, timeout time.Duration) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("?\n")); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// neverRepeated fails when the kernel had to send something again.
func neverRepeated(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var info *unix.TCPInfo
	controlErr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if controlErr != nil || err != nil {
		return fmt.Errorf("read TCP_INFO: %w", errors.Join(controlErr, err))
	}
	if info.Total_retrans > 0 {
		return fmt.Errorf("%d segments were sent again", info.Total_retrans)
	}
	return nil
}

func network(protocol corev1.Protocol) string {
	if protocol == corev1.ProtocolUDP {
		return "udp"
	}
	return "tcp"
}

// probeAll carries out probes side by side and returns for each whether it was
// answered.
func probeAll(t *testing.T, probes []probe) []bool {
	t.Helper()
	answers, errs := make([]bool, len(probes)), make([]error, len(probes))
	slots := make(chan struct{}, probesAtOnce)
	var all sync.WaitGroup
	for i, p := range probes {
		slots <- struct{}{}
		all.Go(func() {
			answers[i], errs[i] = p.answered()
			<-slots
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return answers
}

// servers answer probes with the name of their place, and count who came.
type servers struct {
	mu     sync.Mutex
	counts map[netip.Addr]int // connections and datagrams, by client
}

func (s *servers) count(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[a.Unmap()]++
}

// visits is how often somebody at the place came.
func (s *servers) visits(p place) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[p.addrs[ipv4]] + s.counts[p.addrs[ipv6]]
}

// serveProbes listens in every place on both families, until the test ends.
func serveProbes(t *testing.T, ports []int, places ...place) *servers {
	t.Helper()
	s := &servers{counts: map[netip.Addr]int{}}
	for _, p := range places {
		for _, f := range families {
			for _, port := range ports {
				s.serve(t, p, netip.AddrPortFrom(p.addrs[f], uint16(port)).String())
			}
		}
	}
	return s
}

func (s *servers) serve(t *testing.T, p place, at string) {
	t.Helper()
	listener, packets := p.listen(t, at)
	answer := []byte(p.name + "\n")
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.count(conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
			go func() {
				defer conn.Close()
				_, _ = conn.Write(answer)
				_, _ = conn.Read(make([]byte, 16)) // else the question would be answered with a reset
			}()
		}
	}()
	go func() {
		for b := make([]byte, 16); ; {
			_, from, err := packets.ReadFrom(b)
			if err != nil {
				return
			}
			s.count(from.(*net.UDPAddr).AddrPort().Addr())
			_, _ = packets.WriteTo(answer, from)
		}
	}()
}

// attempts are probes that go on until they are ended.
type attempts struct {
	want  bool
	stop  context.CancelFunc
	done  sync.WaitGroup
	made  atomic.Int64
	mu    sync.Mutex
	wrong []string
	last  time.Time // of the last wrong one
}

// keepTrying repeats each probe, one after the other is done with; every one
// should be answered, or none.
func keepTrying(t *testing.T, want bool, probes ...probe) *attempts {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	a := &attempts{want: want, stop: stop}
	for _, p := range probes {
		p.pace = hasty
		if want {
			p.pace = patient
		}
		a.done.Go(func() {
			for ctx.Err() == nil {
				ok, err := p.answered()
				a.made.Add(1)
				if ok != want || err != nil {
					a.mu.Lock()
					a.wrong = append(a.wrong, fmt.Sprintf("%s: answered %t, error %v", p, ok, err))
					a.last = time.Now()
					a.mu.Unlock()
				}
				time.Sleep(dataInterval)
			}
		})
	}
	t.Cleanup(func() { stop(); a.done.Wait() })
	return a
}

// lastWrong is when the last attempt was not as it should be; zero if all were.
func (a *attempts) lastWrong() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// end stops the attempts and fails the test unless there were as many, and all
// went as they should.
func (a *attempts) end(t *testing.T, minimum int64) {
	t.Helper()
	a.stop()
	a.done.Wait()
	for _, text := range a.wrong[:min(len(a.wrong), 20)] {
		t.Errorf("want answered %t: %s", a.want, text)
	}
	n := a.made.Load()
	t.Logf("%d attempts that should be answered: %t; %d went wrong", n, a.want, len(a.wrong))
	if n < minimum {
		t.Errorf("only %d attempts, want at least %d", n, minimum)
	}
}

// waysBetween are probes of both protocols and families from one to another.
func waysBetween(from, to place) []probe {
	var out []probe
	for _, f := range families {
		for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
			out = append(out, probe{from: from, to: to, family: f, protocol: protocol, port: probePorts[0]})
		}
	}
	return out
}

// wantAnswers is nil when each of the probes is answered, or none.
func wantAnswers(t *testing.T, probes []probe, want bool) error {
	t.Helper()
	var errs []error
	for i, ok := range probeAll(t, probes) {
		if ok != want {
			errs = append(errs, fmt.Errorf("%s: answered %t", probes[i], ok))
		}
	}
	return errors.Join(errs...)
}
