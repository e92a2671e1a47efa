package capacity

import (
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/planner/capacity/capacitytest"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

func mustPlan(t *testing.T, s *snapshot.Snapshot, opts Options) Result {
	t.Helper()
	r, err := Plan(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tableOf finds a table of a plan.
func tableOf(t *testing.T, r Result, name string) Table {
	t.Helper()
	i := slices.IndexFunc(r.Tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		t.Fatalf("the plan has no %q", name)
	}
	return r.Tables[i]
}

func mustRates(t *testing.T, text string) []Rate {
	t.Helper()
	rates, err := ParseRates(text)
	if err != nil {
		t.Fatal(err)
	}
	return rates
}

func mustGrowth(t *testing.T, text string) Growth {
	t.Helper()
	g, err := ParseGrowth(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestFlows pins rate times lifetime, on a node with three pods.
func TestFlows(t *testing.T) {
	for _, tc := range []struct {
		rate  string
		want  map[string]int // Placid
		wantC map[string]int // Cilium
	}{
		{"tcp=100/s:30s", map[string]int{"ct_tcp": 4000, "ct_new": 100, "sock": 3000}, map[string]int{"ct4_global": 4000}},
		{"tcp-out=1/s/pod:20s", map[string]int{"ct_tcp": 180, "ct_new": 6}, map[string]int{"ct4_global": 90, "snat_v4_external": 180}},
		{"udp=10/s:0s", map[string]int{"ct_any": 600}, map[string]int{"ct_any4_global": 600}},
		{"udp-out=10/s:0s", map[string]int{"ct_any": 1200}, map[string]int{"ct_any4_global": 600, "snat_v4_external": 1200}},
		{"dns=2/s/pod", map[string]int{"ct_new": 360, "ct_any": 0}, map[string]int{"ct_any4_global": 360}},
		{"syn=5/s", map[string]int{"ct_new": 300, "ct_tcp": 0}, map[string]int{"ct4_global": 300}},
	} {
		for platform, want := range map[snapshot.Platform]map[string]int{snapshot.Placid: tc.want, snapshot.Cilium: tc.wantC} {
			r := mustPlan(t, example(), Options{For: platform, Rates: mustRates(t, tc.rate)})
			for name, n := range want {
				if got := tableOf(t, r, name); got.Now != n || got.Exact {
					t.Errorf("%s: %s of %s has %d entries, want %d, estimated", tc.rate, name, platform, got.Now, n)
				}
			}
		}
	}
}

// TestFirstLimit grows the example until its Services do not fit: each takes four
// masters and three slots for each of them.
func TestFirstLimit(t *testing.T) {
	r := mustPlan(t, example(), Options{For: snapshot.Cilium, Growth: mustGrowth(t, "services=+100000")})
	if r.First == nil || r.First.Name != "lb4_services_v2" || r.First.Node != "a" || r.First.At != "services +4095" {
		t.Errorf("the first limit is %+v, want 4096 Services of 16 entries", r.First)
	}
	if got := tableOf(t, r, "IPv4 frontend numbers"); got.After != 400_004 || got.Limit != 65535 || got.FullAt != "services +16382" {
		t.Errorf("the numbers of frontends: %+v", got)
	}
	if tableOf(t, r, "lb4_backends_v3").After != 3 {
		t.Error("copies of a Service have backends of their own")
	}
	want := Configuration{
		Settings: []Setting{
			{"bpf-lb-service-map-max", "2000896", "65536", "lb4_services_v2 of node a: 1600016 of 65536"},
		},
		Text:  "bpf-lb-service-map-max: \"2000896\"\n",
		Where: "ConfigMap kube-system/cilium-config, data; agents take it when they start, and lose what is in a table that gets another size",
		Advice: []string{
			"IPv4 frontend numbers of node a: 400004 of 65535: no key moves this limit; merge Services, or leave out node ports (allocateLoadBalancerNodePorts: false).",
			"bpf-lb-rev-nat-map-max: lb4_reverse_nat of node a: 400004 of 65536, and its largest size is 65536.",
		},
	}
	if !reflect.DeepEqual(r.Configuration, want) {
		t.Errorf("configuration:\n%+v\nwant\n%+v", r.Configuration, want)
	}
	r = mustPlan(t, example(), Options{For: snapshot.Terway, Growth: mustGrowth(t, "services=+100000")})
	if got := r.Configuration.Text; got != "\"cilium_args\": \"--bpf-lb-service-map-max=2000896\"\n" {
		t.Errorf("for Terway: %s", got)
	}
	// In Placid a Service of one port takes five frontends, and tables grow by themselves.
	r = mustPlan(t, example(), Options{Growth: mustGrowth(t, "services=+100000")})
	if got := tableOf(t, r, "frontend"); got.After != 500_005 || got.Limit != 1<<24 {
		t.Errorf("Placid's frontends: %+v", got)
	}
}

// TestLimitsHold: at the factor of a limit there is still room, and a little further
// there is none.
func TestLimitsHold(t *testing.T) {
	for seed := range uint64(20) {
		s := capacitytest.Cluster(seed)
		for _, platform := range []snapshot.Platform{snapshot.Placid, snapshot.Cilium} {
			p, err := newPlanner(s, Options{For: platform})
			if err != nil {
				t.Fatal(err)
			}
			d, err := (Growth{Pods: Amount{Factor: 2}, Services: Amount{Factor: 3}, Namespaces: Amount{Factor: 2}}).resolve(p.census)
			if err != nil {
				continue
			}
			gauges, _, err := p.gauges(Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range limits(tightest(gauges, d), d) {
				i := slices.IndexFunc(gauges, func(g *gauge) bool { return g.name == l.Name && g.node == l.Node })
				if at := gauges[i].need(d.at(l.Times)); at > float64(l.Limit) && l.Times > 0 {
					t.Errorf("seed %d: %s needs %g of %d at its limit", seed, l.Name, at, l.Limit)
				}
				if beyond := gauges[i].need(d.at(l.Times*1.0001 + 1e-6)); beyond <= float64(l.Limit) {
					t.Errorf("seed %d: %s needs %g of %d beyond its limit", seed, l.Name, beyond, l.Limit)
				}
			}
		}
	}
}

// TestNeedsNeverFall while a cluster grows.
func TestNeedsNeverFall(t *testing.T) {
	for seed := range uint64(20) {
		s := capacitytest.Cluster(seed)
		for _, platform := range []snapshot.Platform{snapshot.Placid, snapshot.Cilium, snapshot.Terway} {
			p, err := newPlanner(s, Options{For: platform})
			if err != nil {
				t.Fatal(err)
			}
			gauges, _, err := p.gauges(Options{})
			if err != nil {
				t.Fatal(err)
			}
			d := direction{pods: 3, nodes: 2, services: 4, policies: 2, namespaces: 3}
			for _, g := range gauges {
				last := 0.0
				for step := range 60 {
					if now := g.need(d.at(float64(step) / 7)); now < last {
						t.Fatalf("seed %d, %s: %s falls from %g to %g", seed, platform, g.name, last, now)
					} else {
						last = now
					}
				}
			}
		}
	}
}

// TestSame: the same arguments give the same plan.
func TestSame(t *testing.T) {
	for seed := range uint64(20) {
		opts := Options{For: snapshot.Cilium, Growth: mustGrowth(t, "nodes=2x")}
		a, b := mustPlan(t, capacitytest.Cluster(seed), opts), mustPlan(t, capacitytest.Cluster(seed), opts)
		for _, r := range []*Result{&a, &b} {
			for i := range r.Tables {
				r.Tables[i].gauge = nil
			}
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("seed %d gives two plans", seed)
		}
	}
}

// onCloud is the example with a type of machine and settings.
func onCloud(typ string, settings map[string]string) *snapshot.Snapshot {
	s := example()
	s.Nodes[0].InstanceType, s.Nodes[0].MaxPods = typ, 110
	s.Nodes[0].PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/26")}
	s.Platform, s.Settings = snapshot.Cilium, settings
	return s
}

func TestAddresses(t *testing.T) {
	eni := map[string]string{"ipam": "eni"}
	prefixes := maps.Clone(eni)
	prefixes["aws-enable-prefix-delegation"] = "true"
	for _, tc := range []struct {
		name  string
		s     *snapshot.Snapshot
		opts  Options
		table string
		limit int
	}{
		{"max-pods", onCloud("", nil), Options{}, "max-pods", 110},
		{"a /26", onCloud("", nil), Options{}, "pod CIDR addresses", 62},
		{"pools", onCloud("", nil), Options{}, "ipv4 pool ranges", 65536},
		{"a smaller pool", onCloud("", map[string]string{"cluster-pool-ipv4-cidr": "10.1.0.0/20"}), Options{}, "ipv4 pool ranges", 16},
		{"interfaces", onCloud("m5.large", eni), Options{}, "interface addresses", 3 * 9},
		{"prefixes", onCloud("m5.large", prefixes), Options{}, "interface addresses", 3 * 9 * 16},
		{"no label", onCloud("", eni), Options{DefaultInstance: "c5.18xlarge"}, "interface addresses", 15 * 49},
		{"told", onCloud("ecs.g7.2xlarge", map[string]string{"ipam": "alibabacloud"}), Options{Instances: map[string]Instance{"ecs.g7.2xlarge": {4, 15}}}, "interface addresses", 4 * 14},
		{"Terway keeps one", onCloud("ecs.g7.2xlarge", nil), Options{For: snapshot.Terway, Instances: map[string]Instance{"ecs.g7.2xlarge": {4, 15}}}, "interface addresses", 3 * 14},
	} {
		if got := tableOf(t, mustPlan(t, tc.s, tc.opts), tc.table); got.Limit != tc.limit {
			t.Errorf("%s: the limit is %d, want %d", tc.name, got.Limit, tc.limit)
		}
	}
	r := mustPlan(t, onCloud("ecs.unheard-of", eni), Options{})
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "--instance-types ecs.unheard-of=4x15") }) {
		t.Errorf("nobody asks for the type: %q", r.Notes)
	}
}

// TestKnownInstances checks the table against the number of pods that AWS publishes
// for some types: interfaces × (addresses - 1) + 2.
func TestKnownInstances(t *testing.T) {
	for name, pods := range map[string]int{
		"m5.large": 29, "m5.xlarge": 58, "m5.4xlarge": 234, "m5.16xlarge": 737, "c5.large": 29, "c5.9xlarge": 234, "c5.18xlarge": 737,
		"c5.24xlarge": 737, "r5.8xlarge": 234, "m6g.12xlarge": 234, "m6i.24xlarge": 737, "c7g.2xlarge": 58, "r6id.large": 29,
	} {
		i, ok := knownInstance(name)
		if got := i.Interfaces*(i.Addresses-1) + 2; !ok || got != pods {
			t.Errorf("%s: %d pods, want %d", name, got, pods)
		}
	}
	for _, name := range []string{"", "m5", "m5.huge", "x9.large", "m6g.24xlarge"} {
		if i, ok := knownInstance(name); ok {
			t.Errorf("%q is known: %+v", name, i)
		}
	}
}

func TestIdentityLimit(t *testing.T) {
	for _, tc := range []struct {
		platform snapshot.Platform
		settings map[string]string
		limit    int
	}{
		{snapshot.Cilium, nil, 65280},
		{snapshot.Cilium, map[string]string{"max-connected-clusters": "511"}, 32767},
		{snapshot.Terway, nil, 65280},
		{snapshot.Placid, nil, 16776960},
	} {
		s := example()
		s.Platform, s.Settings = tc.platform, tc.settings
		if got := tableOf(t, mustPlan(t, s, Options{}), "identities"); got.Limit != tc.limit || got.Now != 1 {
			t.Errorf("%s: %d of %d identities, want 1 of %d", tc.platform, got.Now, got.Limit, tc.limit)
		}
	}
}

// TestProxy: without kube-proxy replacement Cilium serves cluster addresses alone.
func TestProxy(t *testing.T) {
	s := example()
	s.Platform, s.Settings = snapshot.Cilium, map[string]string{"kube-proxy-replacement": "false"}
	got, err := Explain(s, Options{}, state.ServiceRef{Namespace: "shop", Name: "web"}, "")
	if err != nil || got.Exact != 4 {
		t.Errorf("%d entries, %v, want 4", got.Exact, err)
	}
}

func TestErrors(t *testing.T) {
	badLabels := example()
	badLabels.Settings = map[string]string{"labels": "k8s:(("}
	badKey := example()
	badKey.Platform, badKey.Settings = snapshot.Placid, map[string]string{"bpf-ct-global-tcp-max": "12"}
	badSize := example()
	badSize.Platform, badSize.Settings = snapshot.Cilium, map[string]string{"bpf-ct-global-tcp-max": "12"}
	for _, tc := range []struct {
		name string
		s    *snapshot.Snapshot
		opts Options
		want error
		text string
	}{
		{"no nodes", &snapshot.Snapshot{}, Options{}, ErrNoNodes, "give objects of kind Node"},
		{"a filter", badLabels, Options{}, ErrSettings, "labels"},
		{"a key", badKey, Options{}, ErrSettings, "bpf-ct-global-tcp-max"},
		{"a size", badSize, Options{}, ErrSettings, "bpf-ct-global-tcp-max = 12: want 1024"},
		{"nothing to grow from", example(), Options{Growth: mustGrowth(t, "policies=2x")}, ErrArgument, "policies=2x: the cluster has none"},
	} {
		if _, err := Plan(tc.s, tc.opts); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: the error is %v, want %q", tc.name, err, tc.text)
		}
	}
	for _, tc := range []struct{ ref, node string }{{"nobody", ""}, {"web", "nowhere"}} {
		if _, err := Explain(example(), Options{}, state.ServiceRef{Namespace: "shop", Name: tc.ref}, tc.node); !errors.Is(err, ErrNotFound) {
			t.Errorf("Service %s on node %q: the error is %v", tc.ref, tc.node, err)
		}
	}
}
