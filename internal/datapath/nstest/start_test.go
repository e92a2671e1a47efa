package nstest

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/fib"
	"github.com/placid-net/placid/internal/datapath/pair"
)

// controller is a short name.
type controller = agentapi.Controller

// quietSince lets an audit pass and checks that it mended nothing.
func (n *node) quietSince(t testing.TB, before []controller) {
	t.Helper()
	waitFor(t, "an audit", func() bool {
		for _, c := range n.status(t).Controllers {
			if i := slices.IndexFunc(before, func(b controller) bool { return b.Name == c.Name }); !c.LastSuccess.After(before[i].LastSuccess) {
				return false
			}
		}
		return true
	})
	for _, c := range n.status(t).Controllers {
		if c.Repaired != repaired(before, c.Name) || c.Failing != 0 {
			t.Errorf("%s should have found nothing to mend: %+v", c.Name, c)
		}
	}
}

// TestBadStart tries what an operator can get wrong about a node. The error
// says what is wrong and what to do.
func TestBadStart(t *testing.T) {
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for _, tc := range []struct {
		name       string
		credential *syscall.Credential
		change     func(t *testing.T, n *node)
		want       []string
	}{
		{"no BPF file system", nil, func(t *testing.T, n *node) { n.cfg.BPFRoot = t.TempDir() }, []string{"not a BPF file system", "mount -t bpf bpf"}},
		{"no such folder", nil, func(_ *testing.T, n *node) { n.cfg.BPFRoot = "/no/such/folder" }, []string{"/no/such/folder", "mount -t bpf bpf"}},
		{"no permission", nobody, nil, []string{"no permission to use BPF", "privileged"}},
		{"no such device", nil, func(_ *testing.T, n *node) { n.cfg.Devices = []string{"eth7"} }, []string{"key devices", `"eth7"`}},
		{"no default route", nil, func(t *testing.T, n *node) {
			n.MustRun(t, "ip", "route", "del", "default")
			n.MustRun(t, "ip", "-6", "route", "del", "default")
		}, []string{"no native device", "key devices"}},
		{"MTU too large", nil, func(_ *testing.T, n *node) { n.cfg.MTU = 9000 }, []string{"key mtu", "9000", "eth0", "1500"}},
		{"MTU too small for IPv6", nil, func(_ *testing.T, n *node) { n.cfg.MTU = 1000 }, []string{"1000", "1280", "enable-ipv6"}},
		{"VXLAN port in use", nil, func(t *testing.T, n *node) {
			n.cfg.Tunnel = true
			n.MustRun(t, "ip", "link", "add", "other", "type", "vxlan", "id", "1", "dstport", "8472", "local", "192.0.2.1")
			n.MustRun(t, "ip", "link", "set", "other", "up")
		}, []string{datapath.OverlayDevice, "8472"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newCluster(t, options{}).nodes[0]
			if tc.change != nil {
				tc.change(t, n)
			}
			err := n.tryOpen(t, tc.credential, false)
			if err == nil {
				t.Fatal("it started")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
			if pins := n.pins(t, "links"); len(pins) > 0 {
				t.Errorf("links were made: %v", pins)
			}
		})
	}
}

// TestFeatures reads the table of kernel features of a node that runs.
func TestFeatures(t *testing.T) {
	n := newCluster(t, options{}).nodes[0]
	n.start(t)
	s := n.status(t)
	if len(s.Features) == 0 || s.Kernel == "" {
		t.Errorf("features %v of kernel %q", s.Features, s.Kernel)
	}
	for _, f := range s.Features {
		if !f.Available || f.Since == "" || f.Required == (f.Effect != "") && f.Required {
			t.Errorf("feature %+v on a kernel that runs Placid", f)
		}
	}
	if len(s.Programs) != 4 {
		t.Errorf("programs in native mode: %+v, want from_pod, to_pod, from_netdev and to_netdev", s.Programs)
	}
}

// TestCleanup removes everything of Placid from a node that was in use.
func TestCleanup(t *testing.T) {
	for _, tunnel := range []bool{false, true} {
		name := "native"
		if tunnel {
			name = "tunnel"
		}
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, options{tunnel: tunnel})
			c.start(t)
			n := c.nodes[0]
			p := n.addPod(t)
			n.addPod(t)
			n.settle(t)
			n.MustRun(t, "ip", "route", "add", "198.18.0.0/15", "via", underlayAddr(outsideHost, false).String())
			n.kill(t)
			n.spawn(t, nil)
			for range 2 { // again is fine
				n.must(t, "Cleanup", n.cfg.BPFRoot)
				for _, prefix := range []string{pair.HostPrefix, datapath.OverlayDevice} {
					if left := n.devices(t, prefix); len(left) > 0 {
						t.Errorf("devices are left: %v", left)
					}
				}
				for _, family := range []string{"-4", "-6"} {
					for _, protocol := range []int{fib.ProtocolNodes, fib.ProtocolPods} {
						if out := n.MustRun(t, "ip", family, "route", "show", "table", "all", "proto", strconv.Itoa(protocol)); out != "" {
							t.Errorf("routes are left: %s", out)
						}
					}
				}
				entries, err := os.ReadDir(n.cfg.BPFRoot)
				must(t, err)
				for _, e := range entries {
					if !strings.HasSuffix(e.Name(), ".debug") {
						t.Errorf("%s is left in the BPF file system", e.Name())
					}
				}
			}
			if out, err := p.Run(t, "ip", "link", "show", "eth0"); err == nil {
				t.Errorf("the pod still has an interface:\n%s", out)
			}
			n.MustRun(t, "ip", "route", "show", "198.18.0.0/15")
			ping(t, n.Netns, underlayAddr(2, false), 56)

			n.kill(t)
			n.pods = nil
			n.start(t) // as on a new node
			ping(t, n.addPod(t).Netns, underlayAddr(outsideHost, true), 56)
		})
	}
}
