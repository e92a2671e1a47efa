package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cast are the pods and hosts of the connectivity tests: two pods on the first
// node, one on the second.
type cast struct {
	a, sibling, far pod
	guarded         *troupe // pods that a policy is about; nil before the first policy
}

func (l *lab) startCast(t *testing.T) cast {
	t.Helper()
	first, second := l.nodes[0].name, l.nodes[1].name
	pods := l.startPods(t, serverPod("a", first, nil), serverPod("sibling", first, nil), serverPod("far", second, nil))
	return cast{a: pods[0], sibling: pods[1], far: pods[2]}
}

func url(scheme string, addr netip.Addr, port int, path string) string {
	return scheme + "://" + net.JoinHostPort(addr.String(), strconv.Itoa(port)) + path
}

// curl gives up after some seconds, and fails on answers of 400 and above.
func curl(url string) []string { return []string{"curl", "-sSfk", "-m", "8", url} }

// ping sends three requests and fails unless all are answered.
func ping(addr netip.Addr, options ...string) []string {
	return append(append([]string{"ping", "-n", "-i", "0.2", "-c", "3", "-W", "3"}, options...), addr.String())
}

// lossless fails unless ping says that nothing was lost.
func lossless(t *testing.T, what, out string) {
	t.Helper()
	if !strings.Contains(out, " 0% packet loss") {
		t.Errorf("%s:\n%s", what, out)
	}
}

// testConnectivity shows that pods reach what they should, with their own
// address, and are reached. mtu is what the largest packet between pods holds.
func (l *lab) testConnectivity(t *testing.T, c cast, mtu int) {
	outsideURL := l.serveOutside(t)
	for _, f := range families {
		l.run(t, f.String(), func(t *testing.T) {
			t.Parallel()
			l.testPods(t, c, f)
			l.testNodes(t, c, f)
			l.testBeyond(t, c, f, outsideURL[f])
			l.testLarge(t, c, f, mtu)
		})
	}
}

// talks shows that one pod reaches another: answered by the right one, which
// sees the sender's own address.
func (l *lab) talks(t *testing.T, from, to pod, f family) {
	t.Helper()
	lossless(t, "ping", l.in(t, from, ping(to.addrs[f])...))
	if got := l.in(t, from, curl(url("http", to.addrs[f], httpPort, "/hostname"))...); got != to.name {
		t.Errorf("%s answers as %q, want %q", to.addrs[f], got, to.name)
	}
	got := l.in(t, from, curl(url("http", to.addrs[f], httpPort, "/clientip"))...)
	wantClient(t, got, from.addrs[f])
}

func wantClient(t *testing.T, answer string, want netip.Addr) {
	t.Helper()
	got, err := netip.ParseAddrPort(strings.TrimSpace(answer))
	if err != nil || got.Addr().Unmap() != want {
		t.Errorf("the server saw %q as its client, want %s", answer, want)
	}
}

func (l *lab) testPods(t *testing.T, c cast, f family) {
	l.run(t, "pod to pod on the same node", func(t *testing.T) {
		l.talks(t, c.a, c.sibling, f)
		l.talks(t, c.sibling, c.a, f)
	})
	l.run(t, "pod to pod on another node", func(t *testing.T) {
		l.talks(t, c.a, c.far, f)
		l.talks(t, c.far, c.a, f)
	})
}

const kubeletPort = 10250

func (l *lab) testNodes(t *testing.T, c cast, f family) {
	for _, h := range l.nodes {
		where := map[bool]string{true: "its own", false: "the other"}[h.name == c.a.node.name]
		l.run(t, "pod to "+where+" node", func(t *testing.T) {
			lossless(t, "ping", l.in(t, c.a, ping(h.addrs[f])...))
			if got := l.in(t, c.a, curl(url("https", h.addrs[f], kubeletPort, "/healthz"))...); got != "ok" {
				t.Errorf("the kubelet of %s answers %q", h.name, got)
			}
		})
		l.run(t, "node to pod on "+where+" node", func(t *testing.T) {
			lossless(t, "ping", l.on(t, h, ping(c.a.addrs[f])...))
			wantClient(t, l.on(t, h, curl(url("http", c.a.addrs[f], httpPort, "/clientip"))...), h.addrs[f])
		})
	}
}

const apiPort = 6443

func (l *lab) testBeyond(t *testing.T, c cast, f family, outsideURL string) {
	for _, p := range []pod{c.a, c.far} {
		l.run(t, "pod on "+p.node.name+" to the API server", func(t *testing.T) {
			if got := l.in(t, p, curl(url("https", l.api[f], apiPort, "/livez"))...); got != "ok" {
				t.Errorf("the API server answers %q", got)
			}
		})
		l.run(t, "pod on "+p.node.name+" to a host outside and back", func(t *testing.T) {
			lossless(t, "ping from the pod", l.in(t, p, ping(l.outside.addrs[f])...))
			wantClient(t, l.in(t, p, curl(outsideURL)...), p.node.addrs[f]) // masqueraded
			lossless(t, "ping from outside", l.on(t, l.outside, ping(p.addrs[f])...))
			wantClient(t, l.on(t, l.outside, curl(url("http", p.addrs[f], httpPort, "/clientip"))...), l.outside.addrs[f])
		})
	}
}

// serveOutside serves HTTP on the outside host, which answers with the client's
// address, and returns the URL by family.
func (l *lab) serveOutside(t *testing.T) [2]string {
	t.Helper()
	var urls [2]string
	for _, f := range families {
		listener, err := inNetns(l.outside.place().netns, func() (net.Listener, error) {
			return (&net.ListenConfig{}).Listen(t.Context(), "tcp", netip.AddrPortFrom(l.outside.addrs[f], 0).String())
		})
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, r.RemoteAddr)
		})}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Shutdown(context.WithoutCancel(t.Context())) })
		urls[f] = "http://" + listener.Addr().String()
	}
	return urls
}

func (l *lab) testLarge(t *testing.T, c cast, f family, mtu int) {
	l.run(t, "megabytes arrive unchanged", func(t *testing.T) {
		for _, pair := range [][2]pod{{c.a, c.sibling}, {c.sibling, c.a}, {c.a, c.far}, {c.far, c.a}} {
			from, to := pair[0], pair[1]
			fetch := strings.Join(curl(url("http", to.addrs[f], blobPort, "/blob")), " ") + " | sha256sum"
			want := strings.Fields(l.in(t, to, "sha256sum", "/srv/blob"))[0]
			if got := strings.Fields(l.in(t, from, "bash", "-c", "set -o pipefail; "+fetch))[0]; got != want {
				t.Errorf("%s reads %d bytes from %s with sum %s, want %s", from.name, blobSize, to.name, got, want)
			}
		}
	})
	l.run(t, fmt.Sprintf("a packet of %d bytes passes and one byte more does not", mtu), func(t *testing.T) {
		payload := mtu - icmpHeader - [...]int{20, 40}[f]
		for _, to := range []pod{c.sibling, c.far} {
			lossless(t, "full size to "+to.name, l.in(t, c.a, ping(to.addrs[f], "-M", "do", "-s", strconv.Itoa(payload))...))
			out, err := l.tryIn(t, c.a, ping(to.addrs[f], "-M", "do", "-s", strconv.Itoa(payload+1))...)
			if err == nil || !strings.Contains(err.Error()+out, "100% packet loss") {
				t.Errorf("one byte more to %s: %v\n%s", to.name, err, out)
			}
			if text := strings.ToLower(fmt.Sprint(err)); !strings.Contains(text, "message too long") && !strings.Contains(text, "frag") && !strings.Contains(text, "too big") {
				t.Errorf("one byte more to %s: the sender is not told why: %v", to.name, err)
			}
		}
	})
	l.run(t, "a hop limit that ends on the way is answered", func(t *testing.T) {
		out, err := l.tryIn(t, c.a, ping(c.far.addrs[f], "-t", "1")...)
		text := fmt.Sprint(out, err)
		if !strings.Contains(text, c.a.node.addrs[f].String()) || !strings.Contains(text, [...]string{"Time to live exceeded", "Hop limit"}[f]) {
			t.Errorf("ping with a hop limit of 1: want an answer of %s:\n%s", c.a.node.addrs[f], text)
		}
	})
}
