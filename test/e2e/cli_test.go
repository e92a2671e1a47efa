package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// testCommandLine compares what placid says with Kubernetes and the kernel.
func (l *lab) testCommandLine(t *testing.T, c cast, mode state.RoutingMode) {
	h := c.a.node
	l.run(t, "status is healthy and true", func(t *testing.T) { l.testStatus(t, h, mode) })
	l.run(t, "status --verbose and --brief", func(t *testing.T) {
		if got := l.placid(t, h, "status", "--brief"); got != "OK\n" {
			t.Errorf("status --brief: %q, want OK", got)
		}
		text := l.placid(t, h, "status", "--verbose")
		for _, want := range []string{
			`Kubernetes: +Ok`, `Placid: +Ok .* node ` + h.name, `CNI Config file: +/etc/cni/net.d/05-placid.conflist`,
			`Attach Mode: +TCX`, `from_pod +\d+`, `eth0 +\d+ +native`,
			regexp.QuoteMeta(fmt.Sprintf("%s (%s/%s)", c.a.addrs[ipv4], namespace, c.a.name)),
		} {
			if !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("status --verbose has no %q:\n%s", want, text)
			}
		}
	})
	l.run(t, "endpoint list and get agree with pods and devices", func(t *testing.T) { l.testEndpoints(t, h) })
	l.run(t, "bpf endpoint list holds pods and node", func(t *testing.T) {
		var got, want []string
		for _, row := range placidJSON[agentapi.MapDump](t, l, h, "bpf", "endpoint", "list").Rows {
			if a := netip.MustParseAddr(row[0]); !a.IsLinkLocalUnicast() {
				got = append(got, fmt.Sprintf("%s host=%t", a, strings.Contains(row[4], "host")))
			}
		}
		for _, p := range l.localPods(t, h) {
			want = append(want, fmt.Sprintf("%s host=false", p.addrs[ipv4]), fmt.Sprintf("%s host=false", p.addrs[ipv6]))
		}
		want = append(want, fmt.Sprintf("%s host=true", h.addrs[ipv4]), fmt.Sprintf("%s host=true", h.addrs[ipv6]))
		sameSet(t, got, want)
	})
	l.run(t, "bpf ipcache list holds the other nodes", func(t *testing.T) {
		var got, want []string
		for _, row := range placidJSON[agentapi.MapDump](t, l, h, "bpf", "ipcache", "list").Rows {
			got = append(got, row[0]+" "+row[1])
		}
		for _, n := range get[v1alpha1.PlacidNodeList](t, l, "placidnodes").Items {
			if n.Name == h.name {
				continue
			}
			prefixes := slices.Clone(n.Spec.PodCIDRs)
			for _, a := range n.Spec.Addresses {
				addr := netip.MustParseAddr(a)
				prefixes = append(prefixes, netip.PrefixFrom(addr, addr.BitLen()).String())
			}
			for _, p := range prefixes {
				want = append(want, p+" "+l.node(t, n.Name).addrs[ipv4].String())
			}
		}
		sameSet(t, got, want)
	})
	l.run(t, "bpf metrics list counts dropped packets exactly", func(t *testing.T) { l.testDropCount(t, c) })
	l.run(t, "config tells values and where they come from", func(t *testing.T) {
		entries := placidJSON[[]agentapi.ConfigEntry](t, l, h, "config")
		for key, value := range get[corev1.ConfigMap](t, l, "-n", systemNamespace, "configmap", "placid-config").Data {
			i := slices.IndexFunc(entries, func(e agentapi.ConfigEntry) bool { return e.Key == key })
			if i < 0 || entries[i].Value != value || entries[i].Source != "/etc/placid/config/"+key {
				t.Errorf("key %s is %q in the ConfigMap; config shows %+v", key, value, entries[max(i, 0)])
			}
		}
	})
}

func sameSet(t *testing.T, got, want []string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

// localPods are the pods of the node that Placid has to connect.
func (l *lab) localPods(t *testing.T, h host) []pod {
	t.Helper()
	var out []pod
	for _, p := range get[corev1.PodList](t, l, "-A", "pods", "--field-selector=spec.nodeName="+h.name).Items {
		if !p.Spec.HostNetwork {
			out = append(out, l.toPod(t, p))
		}
	}
	return out
}

func (l *lab) testStatus(t *testing.T, h host, mode state.RoutingMode) {
	st := l.status(t, h)
	pods := l.localPods(t, h)
	if !st.Ready || st.Node != h.name || st.RoutingMode != mode || st.Endpoints != len(pods) {
		t.Errorf("ready %t, node %s, routing mode %s, %d endpoints; want true, %s, %s, %d",
			st.Ready, st.Node, st.RoutingMode, st.Endpoints, h.name, mode, len(pods))
	}
	if kernel := strings.TrimSpace(l.on(t, h, "uname", "-r")); st.Kernel != kernel {
		t.Errorf("kernel %s, want %s", st.Kernel, kernel)
	}
	var pools []string
	for _, p := range st.IPAM {
		pools = append(pools, p.CIDR.String())
		if p.Used != len(pods) {
			t.Errorf("%d of %s are used, want %d", p.Used, p.CIDR, len(pods))
		}
	}
	sameSet(t, pools, get[v1alpha1.PlacidNode](t, l, "placidnode", h.name).Spec.PodCIDRs)
	if len(st.Nodes) != len(l.nodes)-1 || st.Nodes[0].Problem != "" {
		t.Errorf("other nodes: %+v, want %d without a problem", st.Nodes, len(l.nodes)-1)
	}
	i := slices.IndexFunc(st.Devices, func(d agentapi.Device) bool { return d.Name == "eth0" })
	if i < 0 {
		t.Fatalf("devices %+v, want eth0", st.Devices)
	}
	device := l.device(t, h, "eth0")
	if got := st.Devices[i]; got.MTU != device.MTU || got.Index != device.Index {
		t.Errorf("eth0 has MTU %d and index %d, want %d and %d", got.MTU, got.Index, device.MTU, device.Index)
	}
	wantProgram(t, st, "from_netdev", attached(t, h, device.Index, ebpf.AttachTCXIngress))
	wantProgram(t, st, "to_netdev", attached(t, h, device.Index, ebpf.AttachTCXEgress))
	for _, p := range pods {
		ep := placidJSON[state.Endpoint](t, l, h, "endpoint", "get", namespace+"/"+p.name)
		wantProgram(t, st, "from_pod", attached(t, h, ep.HostIndex, ebpf.AttachTCXIngress))
	}
}

// kernelDevice is what `ip -j link` tells.
type kernelDevice struct {
	Index int    `json:"ifindex"`
	Name  string `json:"ifname"`
	MTU   int    `json:"mtu"`
	State string `json:"operstate"`
}

func (l *lab) device(t *testing.T, h host, name string) kernelDevice {
	t.Helper()
	var out []kernelDevice
	decode(t, l.on(t, h, "ip", "-j", "link", "show", "dev", name), &out)
	return out[0]
}

// attached returns the ids of the programs that the kernel runs on a device.
func attached(t *testing.T, h host, index int, where ebpf.AttachType) []ebpf.ProgramID {
	t.Helper()
	ids, err := inNetns(h.place().netns, func() ([]ebpf.ProgramID, error) {
		r, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: where})
		if err != nil {
			return nil, err
		}
		var ids []ebpf.ProgramID
		for _, p := range r.Programs {
			ids = append(ids, p.ID)
		}
		return ids, nil
	})
	if err != nil {
		t.Fatalf("query programs of device %d on %s: %v", index, h.name, err)
	}
	return ids
}

func wantProgram(t *testing.T, st agentapi.Status, name string, got []ebpf.ProgramID) {
	t.Helper()
	i := slices.IndexFunc(st.Programs, func(p agentapi.Program) bool { return p.Name == name })
	if i < 0 {
		t.Errorf("status has no program %s", name)
		return
	}
	if !slices.Equal(got, []ebpf.ProgramID{ebpf.ProgramID(st.Programs[i].ID)}) {
		t.Errorf("the kernel runs %v where status says %s has id %d", got, name, st.Programs[i].ID)
	}
}

func (l *lab) testEndpoints(t *testing.T, h host) {
	endpoints := placidJSON[[]state.Endpoint](t, l, h, "endpoint", "list")
	var got, want []string
	for _, ep := range endpoints {
		got = append(got, fmt.Sprintf("%s %s %s", ep.Pod, ep.IPv4, ep.IPv6))
		if d := l.device(t, h, ep.HostIfName); d.Index != ep.HostIndex || d.State != "UP" {
			t.Errorf("device of %s: %+v, want index %d and up", ep.Pod, d, ep.HostIndex)
		}
	}
	for _, p := range l.localPods(t, h) {
		want = append(want, fmt.Sprintf("%s/%s %s %s", namespace, p.name, p.addrs[ipv4], p.addrs[ipv6]))
	}
	sameSet(t, got, want)
	first := endpoints[0]
	for _, name := range []string{strconv.Itoa(int(first.ID)), first.Pod.String(), first.IPv4.String(), first.IPv6.String()} {
		if diff := cmp.Diff(first, placidJSON[state.Endpoint](t, l, h, "endpoint", "get", name), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("endpoint get %s: list (-), get (+):\n%s", name, diff)
		}
	}
}

// testDropCount sends packets with an address that is not the pod's.
func (l *lab) testDropCount(t *testing.T, c cast) {
	const sent = 7
	h := c.a.node
	before := l.drops(t, h, "from_pod", "Invalid source ip")
	script := `ip addr add 198.51.100.7/32 dev lo
ping -n -q -I 198.51.100.7 -i 0.02 -W 1 -c ` + strconv.Itoa(sent) + ` ` + c.far.addrs[ipv4].String() + ` || true
ip addr del 198.51.100.7/32 dev lo`
	l.on(t, h, "nsenter", "--net="+l.netnsFile(t, c.a), "bash", "-ec", script)
	if got := l.drops(t, h, "from_pod", "Invalid source ip") - before; got != sent {
		t.Errorf("%d packets were counted as dropped, want %d", got, sent)
	}
	metrics := l.on(t, h, "curl", "-sSf", "http://127.0.0.1:9962/metrics")
	line := regexp.MustCompile(`(?m)^cilium_drop_count_total\{direction="EGRESS",reason="Invalid source ip"\} (\d+)$`).FindStringSubmatch(metrics)
	if line == nil || line[1] != strconv.Itoa(before+sent) {
		t.Errorf("cilium_drop_count_total is %v, want %d", line, before+sent)
	}
}

func (l *lab) drops(t *testing.T, h host, program, reason string) int {
	t.Helper()
	dump := placidJSON[agentapi.MapDump](t, l, h, "bpf", "metrics", "list")
	for _, row := range dump.Rows {
		if row[0] == program && row[2] == reason {
			n, err := strconv.Atoi(row[3])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// testMTUMismatch shows that a node with another MTU is named in status.
func (l *lab) testMTUMismatch(t *testing.T) {
	const smaller = "1400"
	here, there := l.nodes[0], l.nodes[1]
	l.setConfig(t, map[string]any{"mtu": smaller})
	l.replaceAgent(t, there)
	eventually(t, podTimeout, "the agent of "+here.name+" sees the other's MTU", func() error {
		if st := l.status(t, here); len(st.Nodes) == 0 || !strings.Contains(st.Nodes[0].Problem, smaller) {
			return fmt.Errorf("nodes: %+v", st.Nodes)
		}
		return nil
	})
	out, err := l.tryPlacid(t, here, "status", "--brief")
	if exitCode(err) != 1 || !strings.Contains(out, "node "+there.name) || !strings.Contains(out, smaller) {
		t.Errorf("status --brief: %q (%v), want exit code 1 and the name of %s with its MTU", out, err, there.name)
	}
	l.setConfig(t, map[string]any{"mtu": nil})
	l.replaceAgent(t, there)
	for _, h := range l.nodes {
		l.waitAgent(t, h)
	}
}
