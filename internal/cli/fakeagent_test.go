package cli

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/agentapi/agentapitest"
	"github.com/placid-net/placid/internal/state"
)

// testNow is the time at which every test command runs.
var testNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// fakeAgent answers from its fields; err, when set, is the answer to everything.
type fakeAgent struct {
	agentapitest.Service // for what fakepolicy_test.go and the CNI half answer

	status    agentapi.Status
	endpoints []state.Endpoint
	config    []agentapi.ConfigEntry
	dumps     []agentapi.MapDump
	err       error
	// healthyAfter is how many times Status answers with unhealthy first.
	healthyAfter int32
	asked        atomic.Int32
	// hang makes every request wait for its deadline.
	hang bool
	resizing
}

func (f *fakeAgent) fail(ctx context.Context) error {
	if f.hang {
		<-ctx.Done()
		return &agentapi.Error{Code: agentapi.CodeUnavailable, Message: "placid-agent does not answer: " + ctx.Err().Error()}
	}
	return f.err
}

func (f *fakeAgent) Status(ctx context.Context) (agentapi.Status, error) {
	s := f.status
	if f.asked.Add(1) <= f.healthyAfter {
		s.Ready = false
	}
	return s, f.fail(ctx)
}

func (f *fakeAgent) Endpoints(ctx context.Context) ([]state.Endpoint, error) {
	return f.endpoints, f.fail(ctx)
}

func (f *fakeAgent) Config(ctx context.Context) ([]agentapi.ConfigEntry, error) {
	return f.config, f.fail(ctx)
}

func (f *fakeAgent) Maps(ctx context.Context) ([]agentapi.MapInfo, error) {
	var out []agentapi.MapInfo
	for _, d := range f.dumps {
		out = append(out, d.Info)
	}
	return out, f.fail(ctx)
}

func (f *fakeAgent) MapDump(ctx context.Context, name string) (agentapi.MapDump, error) {
	for _, d := range f.dumps {
		if d.Info.Name == name {
			return d, f.fail(ctx)
		}
	}
	if err := f.fail(ctx); err != nil {
		return agentapi.MapDump{}, err
	}
	return agentapi.MapDump{}, &agentapi.Error{Code: agentapi.CodeNotFound, Message: "no map " + name}
}

// healthyAgent is a node with two pods and one peer, all well.
func healthyAgent() *fakeAgent {
	ago := func(d time.Duration) time.Time { return testNow.Add(-d) }
	addr := netip.MustParseAddr
	dumps := []agentapi.MapDump{
		{
			Info:    agentapi.MapInfo{Name: "endpoint", Type: "Hash", ID: 41, MaxEntries: 65535, Entries: 4, KeySize: 16, ValueSize: 32},
			Columns: []string{"ADDRESS", "ID", "IFINDEX", "MAC"},
			Rows: [][]string{
				{"10.244.0.5", "7", "12", "02:00:00:00:00:07"},
				{"10.244.0.12", "11", "8", "02:00:00:00:00:0b"},
			},
		},
		{
			Info:    agentapi.MapInfo{Name: "ipcache", Type: "LPMTrie", ID: 42, MaxEntries: 512000, Entries: 64000, KeySize: 20, ValueSize: 24},
			Columns: []string{"PREFIX", "NODE", "FLAGS"},
			Rows:    [][]string{{"10.244.1.0/24", "192.0.2.2", ""}},
		},
		{
			Info:    agentapi.MapInfo{Name: "metrics", Type: "PerCPUHash", ID: 43, MaxEntries: 1024, KeySize: 8, ValueSize: 16},
			Columns: []string{"REASON", "DIRECTION", "PACKETS", "BYTES"},
		},
		{
			Info:    agentapi.MapInfo{Name: "config", Type: "Array", ID: 44, MaxEntries: 1, Entries: 1, KeySize: 4, ValueSize: 2048},
			Columns: []string{"NAME", "VALUE"},
			Rows:    [][]string{{"epoch", "3"}},
		},
	}
	f := &fakeAgent{dumps: dumps}
	f.endpoints = []state.Endpoint{
		{
			ID: 7, Attachment: state.AttachmentID{ContainerID: "c0ffee", IfName: "eth0"},
			Netns: "/var/run/netns/cni-1b2c3d4e-aaaa-bbbb", Pod: state.PodRef{Namespace: "default", Name: "web-0", UID: "u-7"},
			IPv4: addr("10.244.0.5"), IPv6: addr("fd00::5"), MAC: state.MAC{2, 0, 0, 0, 0, 7},
			HostIfName: "lxc7", HostIndex: 12, MTU: 1500, CreatedAt: ago(5 * time.Minute),
			Bandwidth: state.Bandwidth{IngressRate: 10_000_000, IngressBurst: 1_000_000},
		},
		{
			ID: 11, Attachment: state.AttachmentID{ContainerID: "decaf", IfName: "eth0"},
			Netns: "/proc/33/ns/net", Pod: state.PodRef{Namespace: "kube-system", Name: "dns-x"},
			IPv4: addr("10.244.0.12"), MAC: state.MAC{2, 0, 0, 0, 0, 11},
			HostIfName: "lxc11", HostIndex: 8, MTU: 1500, CreatedAt: ago(49 * time.Hour),
		},
	}
	f.config = []agentapi.ConfigEntry{
		{Key: "debug", Value: "false", Source: "default", Doc: "log at debug level"},
		{Key: "routing-mode", Value: "tunnel", Source: "/etc/placid/config/routing-mode", Doc: "how packets travel"},
		{Key: "devices", Value: "", Source: "default", Doc: "native devices"},
		{Key: "mtu", Value: "1450", Source: "env PLACID_MTU", Doc: "MTU"},
	}
	f.status = agentapi.Status{
		Version: "v0.1.0", Node: "lab-1", Ready: true, StartedAt: ago(90 * time.Minute), Kernel: "6.18.0",
		RoutingMode: state.RoutingNative, IPAMMode: "cluster-pool", PodMTU: 1500, RouteMTU: 1500,
		CNIConf: "/etc/cni/net.d/05-placid.conflist", Endpoints: 2,
		Conditions: []agentapi.Condition{
			{Name: "kubernetes", OK: true, Message: "v1.37.2 at https://192.0.2.1:6443", Since: ago(89 * time.Minute)},
			{Name: "datapath", OK: true, Since: ago(90 * time.Minute)},
		},
		IPAM: []agentapi.IPAMPool{
			{CIDR: netip.MustParsePrefix("10.244.0.0/24"), Used: 2, Quarantined: 1, Capacity: 254},
			{CIDR: netip.MustParsePrefix("fd00::/120"), Used: 1, Capacity: 254},
		},
		Devices: []agentapi.Device{
			{Name: "eth0", Index: 2, MTU: 1500, Addrs: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}, Role: "native"},
		},
		Programs: []agentapi.Program{
			{Name: "from_pod", ID: 101, Tag: "0123456789abcdef", Links: 2},
			{Name: "from_netdev", ID: 102, Tag: "fedcba9876543210", Links: 1},
		},
		Controllers: []agentapi.Controller{
			{Name: "endpoint-map", Desired: 3, Repaired: 1, LastSuccess: ago(12 * time.Second)},
			{Name: "node-routes", Desired: 2, LastSuccess: ago(3 * time.Minute)},
		},
		Nodes: []agentapi.PeerNode{{
			Node: state.Node{
				Name: "lab-2", Addrs: []netip.Addr{addr("192.0.2.2")},
				PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}, MTU: 1500,
			},
			Route: "direct",
		}},
		Features: []agentapi.Feature{
			{Name: "tcx", Available: true, Required: true, Since: "6.6"},
			{Name: "netkit", Since: "6.7", Effect: "pods use veth"},
		},
	}
	for _, d := range dumps {
		f.status.Maps = append(f.status.Maps, d.Info)
	}
	addPolicy(f)
	addServices(f)
	addTables(f)
	return f
}

// sickAgent is healthyAgent with something wrong in every part.
func sickAgent() *fakeAgent {
	f := healthyAgent()
	s := &f.status
	s.Ready = false
	s.CNIConf = "not written: the agent is not ready"
	s.RoutingMode = state.RoutingTunnel
	s.Conditions[0] = agentapi.Condition{Name: "kubernetes", Message: "watch nodes: connection refused", Since: testNow.Add(-time.Minute)}
	s.IPAM[0].Used = 254
	s.Features[0].Available = false
	s.Controllers[1].Failing, s.Controllers[1].LastError = 1, "add route 10.244.1.0/24: network is unreachable"
	s.Nodes[0].Problem = "MTU 1450 there, 1500 here"
	s.Nodes[0].Route = "add route: network is unreachable"
	s.Policy.Staged = "waiting for identities of nodes lab-2"
	s.Policy.Problems = []string{"default/allow-web: 70000 prefixes, the table takes 65536: make it smaller or raise bpf-policy-map-max"}
	s.Conntrack.TCP.Entries = s.Conntrack.TCP.Size
	s.Conntrack.Problem = "collect: the iterator was refused: operation not permitted"
	s.Services.Refused = []string{"port 53/UDP of default/large is not in force: it needs 5000 entries of table backend, 12 are free"}
	s.Services.Problem = "write services: no such device"
	fillTables(f)
	s.Warnings = []string{"key enable-l7-proxy is ignored: Placid has no proxy"}
	return f
}

// unreachableAgent is an agent that does not run.
func unreachableAgent() *fakeAgent {
	return &fakeAgent{err: &agentapi.Error{
		Code: agentapi.CodeUnavailable, Message: "placid-agent does not answer on /run/placid/agent.sock: no such file or directory",
	}}
}
