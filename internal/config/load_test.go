package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/placid-net/placid/internal/agentapi"
)

// dirWith makes a config directory with one file for each key.
func dirWith(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// entry is one line of `placid config`.
type entry = agentapi.ConfigEntry

func flagsWith(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	BindFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

// wantLines checks that an error has exactly these lines, each given by parts.
func wantLines(t *testing.T, err error, want ...[]string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d problems, want %d:\n%v", len(lines), len(want), err)
	}
	if !slices.IsSorted(lines) {
		t.Errorf("problems are not sorted:\n%v", err)
	}
	for _, parts := range want {
		if !slices.ContainsFunc(lines, func(line string) bool {
			return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) })
		}) {
			t.Errorf("no line with %q in:\n%v", parts, err)
		}
	}
}

// The oracle: of the sources that set a key, the highest wins, whatever the others
// say. Every subset of sources is tried.
func TestPrecedenceOracle(t *testing.T) {
	values := []string{"1401", "1402", "1403", "1404"} // one a source, lowest first
	for subset := range 1 << len(values) {
		has := func(i int) bool { return subset>>i&1 == 1 }
		var src Sources
		wantValue, wantSource := "0", "default"
		if has(0) {
			src.Dir = dirWith(t, map[string]string{"mtu": values[0] + "\n"})
			wantValue, wantSource = values[0], filepath.Join(src.Dir, "mtu")
		}
		if has(2) { // listed before the other prefix: the order must not matter
			src.Env = append(src.Env, "PLACID_MTU="+values[2])
		}
		if has(1) {
			src.Env = append(src.Env, "CILIUM_MTU="+values[1])
			wantValue, wantSource = values[1], "env CILIUM_MTU"
		}
		if has(2) {
			wantValue, wantSource = values[2], "env PLACID_MTU"
		}
		if has(3) {
			src.Flags = flagsWith(t, "--mtu="+values[3])
			wantValue, wantSource = values[3], "flag"
		} else {
			src.Flags = flagsWith(t)
		}
		l, err := Load(src)
		if err != nil {
			t.Fatalf("subset %04b: %v", subset, err)
		}
		i := slices.IndexFunc(l.Entries(), func(e entry) bool { return e.Key == "mtu" })
		if e := l.Entries()[i]; e.Value != wantValue || e.Source != wantSource || fmt.Sprint(l.Config.MTU) != wantValue {
			t.Errorf("subset %04b: %+v and %d, want %s from %s", subset, e, l.Config.MTU, wantValue, wantSource)
		}
	}
}

func TestEntries(t *testing.T) {
	l, err := Load(Sources{Flags: flagsWith(t, "--debug", "--devices=eth0 eth1", "--devices", "ens3", "--endpoint-gc-interval=90s")})
	if err != nil {
		t.Fatal(err)
	}
	entries := l.Entries()
	if len(entries) != len(Keys()) || !slices.IsSortedFunc(entries, func(a, b entry) int { return strings.Compare(a.Key, b.Key) }) {
		t.Fatalf("%d entries for %d keys, or not sorted", len(entries), len(Keys()))
	}
	for _, e := range entries {
		want := map[string]string{"debug": "true", "devices": "eth0,eth1,ens3", "endpoint-gc-interval": "1m30s"}[e.Key]
		if want == "" {
			if e.Source != "default" {
				t.Errorf("%+v", e)
			}
			continue
		}
		if e.Value != want || e.Source != "flag" || e.Doc == "" {
			t.Errorf("%+v, want %s", e, want)
		}
	}
	if !l.Config.Debug || !reflect.DeepEqual(l.Config.Devices, []string{"eth0", "eth1", "ens3"}) {
		t.Errorf("%+v", l.Config)
	}
	entries[0].Value = "changed"
	if l.Entries()[0].Value == "changed" {
		t.Error("Entries gives its own slice away")
	}
	// The effective values, given as flags, make the same configuration.
	var args []string
	for _, e := range l.Entries() {
		args = append(args, "--"+e.Key+"="+e.Value)
	}
	again, err := Load(Sources{Flags: flagsWith(t, args...)})
	if err != nil || !reflect.DeepEqual(again.Config, l.Config) {
		t.Errorf("round trip: %v\n%+v\n%+v", err, again, l.Config)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	dir := dirWith(t, map[string]string{
		"routing-mod": "native", "mtu": "big\n", "k8s-client-burst": "1", "enable-host-firewall": "true", "config-dir": "/x",
	})
	_, err := Load(Sources{
		Dir: dir,
		Env: []string{"PLACID_TUNEL_PORT=8472", "CILIUM_ROUTING_MODE=bogus", "PLACID_ROUTING_MODE=native", "PLACID_DEBUG="},
		Flags: flagsWith(t, "--agent-health-port=70000", "--enable-ipv4=false", "--enable-ipv6=false",
			"--cluster-pool-ipv4-cidr=,", "--mtu=1500"),
	})
	wantLines(
		t, err,
		[]string{`routing-mod="native" (file ` + dir + `/routing-mod): unknown key; did you mean routing-mode?`},
		[]string{`mtu="big" (file ` + dir + `/mtu): is not a whole number; allowed: 0, or a whole number from 576 to 65520`},
		[]string{`k8s-client-burst="1" (file `, `k8s-client-qps="10" (default)`, "burst"},
		[]string{`enable-host-firewall="true" (file `, `accepted only as "false"`},
		[]string{`config-dir="/x" (file `, "only a flag or the environment"},
		[]string{`PLACID_TUNEL_PORT="8472" (env PLACID_TUNEL_PORT): unknown key; did you mean PLACID_TUNNEL_PORT?`},
		[]string{`routing-mode="bogus" (env CILIUM_ROUTING_MODE): is not in the list; allowed: native or tunnel`},
		[]string{`debug="" (env PLACID_DEBUG): is empty; allowed: true or false`},
		[]string{`agent-health-port="70000" (flag --agent-health-port): is out of range; allowed: a whole number from 1 to 65535`},
		[]string{`enable-ipv4="false" (flag --enable-ipv4), enable-ipv6="false" (flag --enable-ipv6): pods would get no address`},
	)
}

func TestWarnings(t *testing.T) {
	l, err := Load(Sources{
		Dir: dirWith(t, map[string]string{"bpf-lb-sock": "true", "enable-l7-proxy": "false", "enable-policy": "always", "tunnel-protocol": "vxlan"}),
		Env: []string{"CILIUM_K8S_NAMESPACE=kube-system", "CILIUM_PREALLOCATE_BPF_MAPS=true", "HOME=/root", "PLACIDX=1"},
		Flags: flagsWith(t, "--enable-hubble", "--enable-tcx=false", "--bpf-ct-timeout-regular-tcp=1h", "--bpf-neigh-global-max=4096",
			"--bpf-map-dynamic-size-ratio=0.003", "--ipv4-native-routing-cidr=10.0.0.0/8", "--bpf-lb-sock=false"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(l.Warnings) || len(l.Warnings) != 7 {
		t.Fatalf("%d warnings:\n%s", len(l.Warnings), strings.Join(l.Warnings, "\n"))
	}
	all := strings.Join(l.Warnings, "\n")
	for _, want := range []string{
		`bpf-lb-sock="false" (flag --bpf-lb-sock): has no effect with kube-proxy-replacement=true`,
		`enable-l7-proxy="false" (file `,
		`CILIUM_K8S_NAMESPACE="kube-system" (env CILIUM_K8S_NAMESPACE): unknown key`,
		`preallocate-bpf-maps="true" (env CILIUM_PREALLOCATE_BPF_MAPS): accepted but not used`,
		`enable-hubble="true" (flag --enable-hubble)`,
		`enable-tcx="false"`,
		`bpf-neigh-global-max="4096" (flag --bpf-neigh-global-max): accepted but not used: translations are part of conntrack entries`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q in:\n%s", want, all)
		}
	}
}

func TestServiceEnvironmentIsIgnored(t *testing.T) {
	// What kubelet injects for Services called placid-agent and placid-tunnel.
	l, err := Load(Sources{Env: []string{
		"PLACID_AGENT_SERVICE_HOST=10.96.0.7",
		"PLACID_AGENT_SERVICE_PORT=9962",
		"PLACID_AGENT_SERVICE_PORT_METRICS=9962",
		"PLACID_AGENT_PORT=tcp://10.96.0.7:9962",
		"PLACID_AGENT_PORT_9962_TCP=tcp://10.96.0.7:9962",
		"PLACID_AGENT_PORT_9962_TCP_PROTO=tcp",
		"PLACID_AGENT_PORT_9962_TCP_PORT=9962",
		"PLACID_AGENT_PORT_9962_TCP_ADDR=10.96.0.7",
		"PLACID_TUNNEL_PORT=udp://[fd00::7]:8472",
		"CILIUM_AGENT_PORT=tcp://10.96.0.8:80",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Warnings) > 0 || l.Config.TunnelPort != 8472 {
		t.Errorf("%q, tunnel port %d", l.Warnings, l.Config.TunnelPort)
	}
	l, err = Load(Sources{Env: []string{"PLACID_TUNNEL_PORT=4789", "PLACID_AGENT_HEALTH_PORT=9000"}})
	if err != nil || l.Config.TunnelPort != 4789 || l.Config.HealthPort != 9000 {
		t.Errorf("keys that end in port: %v", err)
	}
	for _, name := range []string{"PLACID_AGENT_PORT", "PLACID_", "PLACID_mtu", "PLACID_X_PORT_HIGH"} {
		if _, err := Load(Sources{Env: []string{name + "=1"}}); err == nil {
			t.Errorf("%s=1 is ignored", name)
		}
	}
}

func TestConfigDirChoice(t *testing.T) {
	a := dirWith(t, map[string]string{"mtu": "1401"})
	b := dirWith(t, map[string]string{"mtu": "1402"})
	c := dirWith(t, map[string]string{"mtu": "1403"})
	for _, tc := range []struct {
		src  Sources
		want int
	}{
		{Sources{Dir: a}, 1401},
		{Sources{Dir: a, Env: []string{"PLACID_CONFIG_DIR=" + b, "CILIUM_CONFIG_DIR=" + c}}, 1402},
		{Sources{Dir: a, Env: []string{"PLACID_CONFIG_DIR=" + b}, Flags: flagsWith(t, "--config-dir", c)}, 1403},
		{Sources{Dir: a, Flags: flagsWith(t, "--config-dir=")}, 0},
		{Sources{}, 0},
	} {
		l, err := Load(tc.src)
		if err != nil || l.Config.MTU != tc.want {
			t.Errorf("%+v: %v, %+v", tc.src, err, l)
		}
	}
	_, err := Load(Sources{Flags: flagsWith(t, "--config-dir=/does/not/exist")})
	wantLines(t, err, []string{`config-dir="/does/not/exist" (flag --config-dir)`, "no such file"})
}

func TestFlags(t *testing.T) {
	fs := flagsWith(t)
	usage := fs.FlagUsages()
	for _, want := range []string{"--routing-mode", "(native or tunnel)", `(default "native")`, "--config-dir"} {
		if !strings.Contains(usage, want) {
			t.Errorf("no %q in the help", want)
		}
	}
	if strings.Contains(usage, "enable-hubble") {
		t.Error("the help shows keys that Placid does without")
	}
	err := FlagError(fs.Parse([]string{"--routing-mod=x"}))
	if err == nil || err.Error() != "unknown flag --routing-mod: did you mean routing-mode?" {
		t.Errorf("%v", err)
	}
	if err := FlagError(pflag.ErrHelp); err != pflag.ErrHelp { //nolint:errorlint // must be untouched
		t.Errorf("%v", err)
	}
	// Flags of the program itself are left alone.
	fs = pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.String("output", "", "")
	BindFlags(fs)
	if err := fs.Parse([]string{"--output=json"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Sources{Flags: fs}); err != nil {
		t.Error(err)
	}
}
