package e2e

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/placid-net/placid/internal/state"
)

// background is for what must be done although a test ended.
func background() context.Context { return context.Background() }

// inNetns runs f in a network namespace. Sockets that f makes stay in it.
func inNetns[T any](path string, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	c := make(chan answer, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		var a answer
		defer func() { c <- a }()
		ns, err := netns.GetFromPath(path)
		if err != nil {
			a.err = fmt.Errorf("open network namespace %s: %w", path, err)
			return
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			a.err = fmt.Errorf("enter network namespace %s: %w", path, err)
			return
		}
		a.value, a.err = f()
	}()
	a := <-c
	return a.value, a.err
}

// place is where a socket can be made: a pod or a host.
type place struct {
	name  string
	netns string
	addrs addresses
}

// listen takes connections and datagrams at an address and port of the place,
// until the test ends.
func (p place) listen(t *testing.T, at string) (net.Listener, net.PacketConn) {
	t.Helper()
	listener, err := inNetns(p.netns, func() (net.Listener, error) {
		return (&net.ListenConfig{}).Listen(background(), "tcp", at)
	})
	if err != nil {
		t.Fatalf("listen in %s: %v", p.name, err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	packets, err := inNetns(p.netns, func() (net.PacketConn, error) {
		return (&net.ListenConfig{}).ListenPacket(background(), "udp", at)
	})
	if err != nil {
		t.Fatalf("listen in %s: %v", p.name, err)
	}
	t.Cleanup(func() { _ = packets.Close() })
	return listener, packets
}

func (h host) place() place {
	return place{h.name, filepath.Join("/proc", strconv.Itoa(h.pid), "ns/net"), h.addrs}
}

// netnsFile finds the pod's network namespace in the node's file system, by what
// the agent says.
func (l *lab) netnsFile(t *testing.T, p pod) string {
	t.Helper()
	ep := placidJSON[state.Endpoint](t, l, p.node, "endpoint", "get", p.String())
	// /var/run is a link that would lead out of the node's file system.
	return strings.Replace(ep.Netns, "/var/run/", "/run/", 1)
}

func (l *lab) podPlace(t *testing.T, p pod) place {
	t.Helper()
	return place{p.name, filepath.Join("/proc", strconv.Itoa(p.node.pid), "root", l.netnsFile(t, p)), p.addrs}
}
