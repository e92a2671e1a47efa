package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/placid-net/placid/internal/agent/security"
	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/state"
)

func TestAdd(t *testing.T) {
	n := newFakeNode(t, t.TempDir())
	req := request(1)
	req.MTU, req.Bandwidth = 1400, state.Bandwidth{IngressRate: 1e6}
	res, err := n.add(t.Context(), req)
	must(t, err)
	ep := res.Endpoint
	if !testCIDR4.Contains(ep.IPv4) || !testCIDR6.Contains(ep.IPv6) || ep.ID == 0 {
		t.Errorf("endpoint %+v", ep)
	}
	if ep.Attachment != req.Attachment || ep.Netns != req.Netns || ep.Pod != req.Pod || ep.MTU != 1400 || ep.Bandwidth != req.Bandwidth {
		t.Errorf("endpoint %+v of request %+v", ep, req)
	}
	if res.HostMAC != pair.RouterMAC() || res.Gateway4 != pair.Gateway4() || res.Gateway6 != pair.Gateway6() {
		t.Errorf("result %+v", res)
	}
	n.consistent(t)

	t.Run("again", func(t *testing.T) {
		again, err := n.add(t.Context(), req)
		must(t, err)
		if !reflect.DeepEqual(again.Endpoint, ep) {
			t.Errorf("the same request gives %+v, first %+v", again.Endpoint, ep)
		}
		n.consistent(t)
	})
	t.Run("again, but the kernel differs", func(t *testing.T) {
		n.kernel.failing(stepCheck)
		defer n.kernel.failing()
		again, err := n.add(t.Context(), req)
		must(t, err)
		if again.Endpoint.HostIfName == ep.HostIfName || again.Endpoint.IPv4 == ep.IPv4 {
			t.Errorf("the broken interface is kept: %+v", again.Endpoint)
		}
		ep = again.Endpoint
		n.consistent(t)
	})
	t.Run("again, in another sandbox", func(t *testing.T) {
		req.Netns = "/run/netns/other"
		again, err := n.add(t.Context(), req)
		must(t, err)
		if again.Endpoint.Netns != req.Netns || again.Endpoint.HostIfName == ep.HostIfName {
			t.Errorf("endpoint %+v", again.Endpoint)
		}
		n.consistent(t)
	})
	t.Run("second interface of the same container", func(t *testing.T) {
		req.Attachment.IfName = "net1"
		_, err := n.add(t.Context(), req)
		must(t, err)
		if len(n.list(t)) != 2 {
			t.Errorf("endpoints %v", n.list(t))
		}
		n.consistent(t)
	})
}

func TestHostPorts(t *testing.T) {
	dir := t.TempDir()
	n := newFakeNode(t, dir)
	req := request(1)
	req.HostPorts = []state.HostPort{
		{Protocol: state.ProtocolUDP, HostPort: 53, ContainerPort: 5353},
		{HostIP: netip.MustParseAddr("192.0.2.1"), Protocol: state.ProtocolSCTP, HostPort: 9, ContainerPort: 99},
	}
	res, err := n.add(t.Context(), req)
	must(t, err)
	if !slices.Equal(res.Endpoint.HostPorts, req.HostPorts) {
		t.Errorf("the endpoint has the host ports %v", res.Endpoint.HostPorts)
	}
	again, err := n.add(t.Context(), req)
	must(t, err)
	if !reflect.DeepEqual(again, res) {
		t.Errorf("the same request gives %+v, first %+v", again, res)
	}
	n.consistent(t)

	// They outlive the agent.
	n = startNode(t, n.kernel, dir, n.clock)
	if eps := n.list(t); len(eps) != 1 || !slices.Equal(eps[0].HostPorts, req.HostPorts) {
		t.Errorf("after a restart: %+v", eps)
	}
	n.consistent(t)

	// Other host ports are another endpoint.
	req.HostPorts = req.HostPorts[:1]
	other, err := n.add(t.Context(), req)
	must(t, err)
	if other.Endpoint.ID == res.Endpoint.ID || !slices.Equal(other.Endpoint.HostPorts, req.HostPorts) || len(n.list(t)) != 1 {
		t.Errorf("with other host ports: %+v of %d", other.Endpoint, len(n.list(t)))
	}
	n.consistent(t)
}

func TestAddBeforePoliciesAreKnown(t *testing.T) {
	n := newFakeNode(t, t.TempDir())
	n.admits.err = fmt.Errorf("%w: pod default/pod-1 is not known", security.ErrNotReady)
	_, err := n.add(t.Context(), request(1))
	checkCode(t, err, agentapi.CodeNotReady)
	if err == nil || !strings.Contains(err.Error(), "default/pod-1") || n.kernel.made != 0 {
		t.Errorf("%d devices were made; %v", n.kernel.made, err)
	}
	n.consistent(t)
	n.admits.err = errFake
	if _, err = n.add(t.Context(), request(1)); !errors.Is(err, errFake) {
		t.Errorf("error %v", err)
	}
	n.consistent(t)
	n.admits.err = nil
	n.mustAdd(t, 1)
	n.consistent(t)
}

func TestDel(t *testing.T) {
	n := newFakeNode(t, t.TempDir())
	ep := n.mustAdd(t, 1)
	must(t, n.del(t.Context(), ep.Attachment))
	must(t, n.del(t.Context(), ep.Attachment))
	must(t, n.del(t.Context(), request(7).Attachment))
	n.consistent(t)
	released, err := n.store.loadReleased()
	must(t, err)
	if len(released) != 2 || !released[ep.IPv4].Equal(*n.clock) {
		t.Errorf("released %v, want the endpoint's two addresses", released)
	}
}

func TestCheck(t *testing.T) {
	n := newFakeNode(t, t.TempDir())
	ep := n.mustAdd(t, 1)
	for _, tc := range []struct {
		name   string
		change func(*agentapi.CNIRequest)
		fail   []string
		code   string // "" is success
	}{
		{"as it is", func(*agentapi.CNIRequest) {}, nil, ""},
		{"its addresses", func(r *agentapi.CNIRequest) { r.Expect = ep.Addrs() }, nil, ""},
		{"another address", func(r *agentapi.CNIRequest) { r.Expect = []netip.Addr{netip.MustParseAddr("10.9.9.9")} }, nil, agentapi.CodeConflict},
		{"unknown", func(r *agentapi.CNIRequest) { r.Attachment.IfName = "eth1" }, nil, agentapi.CodeNotFound},
		{"the kernel differs", func(*agentapi.CNIRequest) {}, []string{stepCheck}, agentapi.CodeConflict},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n.kernel.failing(tc.fail...)
			req := request(1)
			tc.change(&req)
			checkCode(t, n.check(t.Context(), req), tc.code)
		})
	}
}

func checkCode(t testing.TB, err error, code string) {
	t.Helper()
	var apiErr *agentapi.Error
	switch {
	case code == "" && err != nil:
		t.Errorf("error %v", err)
	case code != "" && (!errors.As(err, &apiErr) || apiErr.Code != code):
		t.Errorf("error %v, want code %s", err, code)
	}
}

func TestGC(t *testing.T) {
	n := newFakeNode(t, t.TempDir())
	for i := range 4 {
		n.mustAdd(t, i)
	}
	must(t, n.gc(t.Context(), []state.AttachmentID{request(1).Attachment, request(3).Attachment, request(9).Attachment}))
	if eps := n.list(t); len(eps) != 2 || eps[0].Attachment != request(1).Attachment || eps[1].Attachment != request(3).Attachment {
		t.Errorf("left are %v", eps)
	}
	n.consistent(t)
	must(t, n.gc(t.Context(), nil))
	n.consistent(t)
}

// TestFailures makes each step of ADD and DEL fail. An ADD that fails leaves
// nothing; a DEL that fails can be asked for again.
func TestFailures(t *testing.T) {
	for _, step := range []string{stepConnect, stepMade, stepRecorded} {
		t.Run("ADD, "+step, func(t *testing.T) {
			n := newFakeNode(t, t.TempDir())
			n.mustAdd(t, 0)
			n.kernel.failing(step)
			if _, err := n.add(t.Context(), request(1)); !errors.Is(err, errFake) {
				t.Errorf("ADD says %v", err)
			}
			n.consistent(t)
			n.kernel.failing()
			n.mustAdd(t, 1)
			n.consistent(t)
		})
	}
	for _, step := range []string{stepDisconnect, stepGone} {
		t.Run("DEL, "+step, func(t *testing.T) {
			n := newFakeNode(t, t.TempDir())
			ep := n.mustAdd(t, 1)
			n.kernel.failing(step)
			if err := n.del(t.Context(), ep.Attachment); !errors.Is(err, errFake) {
				t.Errorf("DEL says %v", err)
			}
			if _, ok := n.addresses.alloc.Owner(ep.IPv4); !ok {
				t.Error("the address is free although the interface may be there")
			}
			n.kernel.failing()
			must(t, n.del(t.Context(), ep.Attachment))
			n.consistent(t)
		})
	}
	t.Run("ADD, the record cannot be written", func(t *testing.T) {
		n := newFakeNode(t, t.TempDir())
		must(t, os.RemoveAll(n.store.endpoints))
		if _, err := n.add(t.Context(), request(1)); err == nil {
			t.Error("ADD succeeded without a record")
		}
		must(t, os.Mkdir(n.store.endpoints, 0o700))
		n.consistent(t)
	})
	t.Run("DEL, the release cannot be written", func(t *testing.T) {
		n := newFakeNode(t, t.TempDir())
		ep := n.mustAdd(t, 1)
		must(t, os.RemoveAll(n.store.released))
		if err := n.del(t.Context(), ep.Attachment); err == nil {
			t.Error("DEL succeeded without the mark of the release")
		}
		must(t, os.Mkdir(n.store.released, 0o700))
		must(t, n.del(t.Context(), ep.Attachment))
		n.consistent(t)
	})
	t.Run("ADD, the caller has given up", func(t *testing.T) {
		n := newFakeNode(t, t.TempDir())
		ctx, cancel := context.WithCancel(t.Context())
		n.kernel.at = func(step string) {
			if step == stepMade {
				cancel()
			}
		}
		n.kernel.failing(stepRecorded)
		if _, err := n.add(ctx, request(1)); err == nil {
			t.Error("ADD succeeded")
		}
		n.consistent(t)
	})
}

// TestParallel adds and removes the same and different attachments at once.
func TestParallel(t *testing.T) {
	n := newFakeNode(t, t.TempDir())
	const pods, rounds, workers = 4, 25, 8
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for r := range rounds {
				i := (w + r) % pods
				if (w*r)%3 == 0 {
					if err := n.del(t.Context(), request(i).Attachment); err != nil {
						t.Errorf("DEL %d: %v", i, err)
					}
					continue
				}
				_, err := n.add(t.Context(), request(i))
				var apiErr *agentapi.Error
				if err != nil && (!errors.As(err, &apiErr) || apiErr.Code != agentapi.CodeExhausted) { // the clock stands still
					t.Errorf("ADD %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	n.consistent(t)
}

func TestFullPool(t *testing.T) {
	n := newFakeNode(t, t.TempDir())
	const capacity = 14
	for i := range capacity {
		n.mustAdd(t, i)
	}
	_, err := n.add(t.Context(), request(99))
	checkCode(t, err, agentapi.CodeExhausted)
	for _, want := range []string{testCIDR4.String(), "14 addresses"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if len(*n.events) != 1 || !strings.HasPrefix((*n.events)[0], "default/pod-99 FailedAddressAllocation: ") ||
		!strings.Contains((*n.events)[0], "no free IPv4 address") {
		t.Errorf("events %q", *n.events)
	}
	n.consistent(t)

	// An address that was just given back rests first.
	must(t, n.del(t.Context(), request(3).Attachment))
	_, err = n.add(t.Context(), request(99))
	checkCode(t, err, agentapi.CodeExhausted)
	*n.clock = n.clock.Add(reuseDelay)
	n.mustAdd(t, 99)
	n.consistent(t)
}

func TestNoCIDR(t *testing.T) {
	n := newFakeNode(t, t.TempDir())
	must(t, n.addresses.alloc.SetCIDRs(nil, *n.clock))
	_, err := n.add(t.Context(), request(1))
	checkCode(t, err, agentapi.CodeNotReady)
	n.consistent(t)

	must(t, n.addresses.alloc.SetCIDRs([]netip.Prefix{testCIDR6}, *n.clock))
	if ep := n.mustAdd(t, 1); ep.IPv4.IsValid() || !ep.IPv6.IsValid() {
		t.Errorf("with an IPv6 CIDR alone: %+v", ep)
	}
	n.addresses.families = 1 // IPv4
	_, err = n.add(t.Context(), request(2))
	checkCode(t, err, agentapi.CodeNotReady)
}

// crash is a moment at which an agent may be killed: the folder and the kernel.
type crash struct {
	name   string
	dir    string
	kernel *fakeKernel
}

// TestCrash kills the agent at every step of an ADD and of a DEL. The next one
// finds the endpoints whose interface exists, and no address is lost or given
// out twice.
func TestCrash(t *testing.T) {
	n := newFakeNode(t, t.TempDir())
	var moments []crash
	note := func(name string) {
		moments = append(moments, crash{name, copyDir(t, n.dir), n.kernel.clone()})
	}
	// mix is a folder between two moments, of which one file changed first.
	mix := func(name string, endpoints, released crash, kernel crash) {
		dir := copyDir(t, endpoints.dir)
		must(t, os.RemoveAll(filepath.Join(dir, "released")))
		must(t, os.Rename(filepath.Join(copyDir(t, released.dir), "released"), filepath.Join(dir, "released")))
		moments = append(moments, crash{name, dir, kernel.kernel.clone()})
	}
	n.mustAdd(t, 1)
	must(t, n.del(t.Context(), request(1).Attachment))
	*n.clock = n.clock.Add(2 * reuseDelay)
	for i := range 13 { // the next address is the one that has rested
		n.mustAdd(t, 10+i)
	}
	n.kernel.at = func(step string) { note(step) }
	n.mustAdd(t, 2)
	note("added")
	made, recorded := moments[len(moments)-3], moments[len(moments)-2]
	mix("recorded, released file still there", recorded, made, recorded)

	before := moments[len(moments)-2]
	must(t, n.del(t.Context(), request(2).Attachment))
	n.kernel.at = nil
	note("deleted")
	gone, deleted := moments[len(moments)-2], moments[len(moments)-1]
	mix("released, endpoint's file still there", before, deleted, gone)
	if len(moments) < 8 {
		t.Fatalf("only %d moments", len(moments))
	}

	for _, m := range moments {
		t.Run(m.name, func(t *testing.T) {
			clock := *n.clock
			next := startNode(t, m.kernel, m.dir, &clock)
			next.consistent(t)
			if eps := next.list(t); len(eps) != 13 && len(eps) != 14 {
				t.Errorf("%d endpoints, want the 13 others and perhaps the one", len(eps))
			}
			ids := map[uint32]bool{}
			for _, ep := range next.list(t) {
				if ids[ep.ID] {
					t.Errorf("id %d twice", ep.ID)
				}
				ids[ep.ID] = true
			}
			// What the runtime does after its ADD failed, or its DEL: DEL.
			must(t, next.del(t.Context(), request(2).Attachment))
			next.consistent(t)
			clock = clock.Add(2 * reuseDelay)
			next.mustAdd(t, 3) // the fake kernel knows whether its address is free
			next.consistent(t)
			_, err := next.add(t.Context(), request(4))
			checkCode(t, err, agentapi.CodeExhausted)
		})
	}
}

func TestRestoreJunk(t *testing.T) {
	n := newFakeNode(t, t.TempDir())
	n.mustAdd(t, 1)
	junk := map[string]string{
		"7.json": "{", "8.json": "{}", "9.json": `{"id":9}`, "10.json": "", "11.json": "[1]",
		"12.json": `{"id":12,"hostIfName":"plc1","attachment":{"containerID":"x"},"ipv4":"10.0.0.999"}`,
	}
	for name, data := range junk {
		must(t, os.WriteFile(filepath.Join(n.store.endpoints, name), []byte(data), 0o600))
	}
	for name, data := range map[string]string{"5.json.next": "{half", "README": "hello"} {
		must(t, os.WriteFile(filepath.Join(n.store.endpoints, name), []byte(data), 0o600))
	}
	for name, data := range map[string]string{"10.1.0.9": "yesterday", "not-an-address": "", "10.1.0.10.next": ""} {
		must(t, os.WriteFile(filepath.Join(n.store.released, name), []byte(data), 0o600))
	}
	next := startNode(t, n.kernel.clone(), n.dir, n.clock)
	next.consistent(t)
	entries, err := os.ReadDir(n.store.endpoints)
	must(t, err)
	bad := slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !strings.HasSuffix(e.Name(), ".bad") })
	if len(bad) != len(junk) {
		t.Errorf("set aside: %v, want %d files", bad, len(junk))
	}
	released, err := next.store.loadReleased()
	must(t, err)
	if len(released) != 0 {
		t.Errorf("released: %v", released)
	}
	// The id of a file that was set aside may come again; its file is not overwritten.
	for i := range 10 {
		next.mustAdd(t, 20+i)
	}
	next.consistent(t)
}
