package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/placid-net/placid/internal/state"
)

const (
	isolatedPods  = 8
	openPods      = 2
	hammerPort    = 7999 // nobody listens: the pod's stack counts what arrives
	hammerWidth   = 48   // addresses that pods may get next
	hammerPause   = 20 * time.Millisecond
	startAttempts = 300
)

// startScript sends to the places from its first instruction on.
const startScript = `for i in $(seq %d); do for a in %s; do echo x >/dev/udp/$a/%d; done; sleep 0.01; done; exec sleep 1000000`

// testPodStart starts pods under policies that deny everything, while others
// send to their addresses, and they to others, at once: not a packet arrives.
// Pods of the same kind that no policy isolates show that packets would.
func (l *lab) testPodStart(t *testing.T, c cast) {
	const name = "start"
	l.createNamespaces(t, newNamespace(name, nil))
	l.apply(t, ingressPolicy(name, "in", with(roleLabel, strangerRole)), egressPolicy(name, "out", with(roleLabel, strangerRole)))
	for _, h := range l.nodes {
		l.waitPolicies(t, h, 2)
	}
	inbox := openInbox(t, l.outside.place(), l.podPlace(t, c.sibling))
	var targets []netip.Addr
	for _, h := range l.nodes {
		targets = append(targets, l.nextAddresses(t, h)...)
	}
	hammer(t, l.podPlace(t, c.a), targets)
	var specs []corev1.Pod
	for i := range isolatedPods + openPods {
		p := barePod(fmt.Sprintf("start-%d", i), l.nodes[i%2].name)
		p.Namespace, p.Labels = name, map[string]string{roleLabel: strangerRole}
		if i >= isolatedPods {
			p.Labels[roleLabel] = friendRole
		}
		p.Spec.Containers[0].Image = testImage
		p.Spec.Containers[0].Command = []string{"bash", "-c", fmt.Sprintf(startScript, startAttempts, inbox.addresses(), hammerPort)}
		specs = append(specs, p)
	}
	for i, p := range l.startPods(t, specs...) {
		at := l.podPlace(t, p)
		for _, a := range p.addrs {
			if !slices.Contains(targets, a) {
				t.Errorf("nobody sent to %s of %s: the test expects other addresses", a, p)
			}
		}
		if i < isolatedPods {
			eventually(t, podTimeout, "attempts of "+p.String(), func() error { return snmpAtLeast(at, "OutDatagrams", startAttempts/2) })
			wantSilence(t, at, inbox)
			continue
		}
		eventually(t, podTimeout, "packets to and from the open pod "+p.String(), func() error {
			return errors.Join(snmpAtLeast(at, "NoPorts", 1), inbox.heard(at, len(families)))
		})
	}
}

// wantSilence fails when a datagram went into or came out of the place.
func wantSilence(t *testing.T, at place, inbox *inbox) {
	t.Helper()
	counts, err := snmp(at)
	if err != nil {
		t.Fatal(err)
	}
	if n := counts["NoPorts"] + counts["InDatagrams"]; n > 0 {
		t.Errorf("%d datagrams reached %s, which is isolated", n, at.name)
	}
	for _, a := range at.addrs {
		if n := inbox.from(a); n > 0 {
			t.Errorf("%d datagrams came from %s of %s, which is isolated", n, a, at.name)
		}
	}
}

// nextAddresses are those that the node's next pods can get.
func (l *lab) nextAddresses(t *testing.T, h host) []netip.Addr {
	t.Helper()
	endpoints := placidJSON[[]state.Endpoint](t, l, h, "endpoint", "list")
	last := slices.MaxFunc(endpoints, func(a, b state.Endpoint) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var out []netip.Addr
	for _, pool := range l.status(t, h).IPAM {
		a := last.IPv4
		if pool.CIDR.Addr().Is6() {
			a = last.IPv6
		}
		for range hammerWidth {
			if a = a.Next(); !pool.CIDR.Contains(a) {
				a = pool.CIDR.Addr()
			}
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// hammer sends datagrams to all addresses, again and again, until the test ends.
func hammer(t *testing.T, from place, targets []netip.Addr) {
	t.Helper()
	var socks [2]*net.UDPConn
	for _, f := range families {
		var err error
		socks[f], err = inNetns(from.netns, func() (*net.UDPConn, error) {
			return net.ListenUDP([...]string{"udp4", "udp6"}[f], net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.addrs[f], 0)))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			for _, a := range targets {
				f := ipv4
				if a.Is6() {
					f = ipv6
				}
				_, _ = socks[f].WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(a, hammerPort)) // errors answer for others
			}
			time.Sleep(hammerPause)
		}
	})
	t.Cleanup(func() { stop(); done.Wait(); socks[0].Close(); socks[1].Close() })
}

// inbox counts the datagrams that places get, by sender.
type inbox struct {
	places []place
	mu     sync.Mutex
	counts map[netip.Addr]int
}

func openInbox(t *testing.T, places ...place) *inbox {
	t.Helper()
	in := &inbox{places: places, counts: map[netip.Addr]int{}}
	for _, p := range places {
		for _, a := range p.addrs {
			conn, err := inNetns(p.netns, func() (*net.UDPConn, error) {
				return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, hammerPort)))
			})
			if err != nil {
				t.Fatalf("listen in %s: %v", p.name, err)
			}
			t.Cleanup(func() { conn.Close() })
			go in.read(conn)
		}
	}
	return in
}

func (in *inbox) read(conn *net.UDPConn) {
	for b := make([]byte, 16); ; {
		_, from, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		in.mu.Lock()
		in.counts[from.Addr().Unmap()]++
		in.mu.Unlock()
	}
}

// addresses are those of the inbox, as words.
func (in *inbox) addresses() string {
	var out []string
	for _, p := range in.places {
		for _, a := range p.addrs {
			out = append(out, a.String())
		}
	}
	return strings.Join(out, " ")
}

func (in *inbox) from(a netip.Addr) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.counts[a]
}

// heard is nil when so many of the place's addresses have sent something.
func (in *inbox) heard(p place, want int) error {
	n := 0
	for _, a := range p.addrs {
		n += min(in.from(a), 1)
	}
	if n < want {
		return fmt.Errorf("heard of %d of its addresses, want %d", n, want)
	}
	return nil
}

// snmp are the UDP counters of a network namespace, both families added.
func snmp(p place) (map[string]int, error) {
	return inNetns(p.netns, func() (map[string]int, error) {
		out := map[string]int{}
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return nil, err
		}
		var names []string
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if words[0] != "Udp:" {
				continue
			}
			if names == nil {
				names = words
				continue
			}
			for i := 1; i < len(words); i++ {
				out[names[i]], _ = strconv.Atoi(words[i])
			}
		}
		file, err := os.Open("/proc/thread-self/net/snmp6")
		if err != nil {
			return nil, err
		}
		defer file.Close()
		for s := bufio.NewScanner(file); s.Scan(); {
			if words := strings.Fields(s.Text()); len(words) == 2 && strings.HasPrefix(words[0], "Udp6") {
				n, _ := strconv.Atoi(words[1])
				out[strings.TrimPrefix(words[0], "Udp6")] += n
			}
		}
		return out, nil
	})
}

func snmpAtLeast(p place, name string, want int) error {
	counts, err := snmp(p)
	if err == nil && counts[name] < want {
		err = fmt.Errorf("%s is %d, want at least %d", name, counts[name], want)
	}
	return err
}
