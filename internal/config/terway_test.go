package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func keyValues(t *testing.T, r ImportResult) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteKeyValue(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The example of Alibaba's document, with each of the datapath's names.
func TestImportAlibabaExample(t *testing.T) {
	for _, virtualType := range []string{"IPvlan", "datapathv2"} {
		r, err := ImportTerway(strings.NewReader(`{
  "cniVersion": "0.4.0",
  "name": "terway",
  "capabilities": {"bandwidth": true},
  "cilium_args": "--bpf-map-dynamic-size-ratio=0.003 --bpf-ct-timeout-regular-tcp=1h",
  "eniip_virtual_type": "` + virtualType + `",
  "type": "terway"
}`))
		if err != nil {
			t.Fatal(err)
		}
		want := "bpf-ct-timeout-regular-tcp=1h0m0s\nbpf-map-dynamic-size-ratio=0.003\n"
		if got := keyValues(t, r); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if len(r.NotUnderstood) > 0 || r.Settings[0].From != "field cilium_args, line 5" {
			t.Errorf("%+v", r)
		}
		all := strings.Join(r.Warnings, "\n")
		if strings.Contains(all, "IPvlan") != (virtualType == "IPvlan") || strings.Contains(all, "no effect") {
			t.Errorf("warnings:\n%s", all)
		}
	}
}

// What is written as a ConfigMap and mounted is the configuration that was meant.
func TestImportRoundTrip(t *testing.T) {
	r, err := ImportTerway(strings.NewReader(`{"type": "terway", "mtu": 8500, "ip_stack": "dual",
		"cilium_args": "--debug --mtu 8400 --devices=eth0 eth1 --prometheus-serve-addr= --bpf-ct-global-tcp-max=2000000"}`))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if all := strings.Join(r.Warnings, "\n"); !strings.Contains(all, `mtu="8400" (field cilium_args, line 2) is used, not mtu="8500" (field mtu, line 1)`) {
		t.Errorf("warnings:\n%s", all)
	}
	if err = r.WriteConfigMap(&b, "kube-system", "placid-config"); err != nil {
		t.Fatal(err)
	}
	var cm struct {
		APIVersion, Kind string
		Metadata         struct{ Name, Namespace string }
		Data             map[string]string
	}
	if err = yaml.UnmarshalStrict(b.Bytes(), &cm); err != nil {
		t.Fatalf("%v in:\n%s", err, b.String())
	}
	if cm.Kind != "ConfigMap" || cm.APIVersion != "v1" || cm.Metadata.Name != "placid-config" || cm.Metadata.Namespace != "kube-system" {
		t.Errorf("%s", b.String())
	}
	l, err := Load(Sources{Dir: dirWith(t, cm.Data)})
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	if c.MTU != 8400 || !c.Debug || !slices.Equal(c.Devices, []string{"eth0", "eth1"}) || c.PrometheusAddr != "" ||
		c.CTGlobalTCPMax != 2000000 || !c.EnableIPv4 || !c.EnableIPv6 {
		t.Errorf("%+v", c)
	}
}

func TestImportShapes(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"plugin", `{"type":"terway","cilium_args":"--mtu=1400"}`, "mtu=1400\n"},
		{"list", `{"cniVersion":"0.4.0","name":"terway-chainer","plugins":[
			{"type":"terway","cilium_args":"--mtu=1400"},{"type":"cilium-cni","data-path":"datapathv2"}]}`, "mtu=1400\n"},
		{"eni_conf, IPv6", `{"version":"1","max_pool_size":5,"ip_stack":"ipv6","vswitches":{"a":["b"]}}`, "enable-ipv4=false\nenable-ipv6=true\n"},
		{"eni_conf, IPv4", `{"ip_stack":"ipv4"}`, "enable-ipv4=true\nenable-ipv6=false\n"},
		{"later flags win", `{"cilium_args":"--mtu=1300 --debug=true --mtu=1400 --debug=false"}`, "debug=false\nmtu=1400\n"},
		{"a wrong flag that does not count", `{"cilium_args":"--mtu=1 --mtu=1400"}`, "mtu=1400\n"},
		{"flags win over fields", `{"cilium_args":"--mtu=1400","mtu":"1500"}`, "mtu=1400\n"},
		{"escapes of JSON", `{"cilium_args":"--mtu\u003d1400 \"--log-format=json\""}`, "log-format=json\nmtu=1400\n"},
		{"policy", `{"network_policy_provider":"ebpf","cilium_args":"--enable-policy=default --labels=k8s:app k8s:!run--id"}`, "enable-policy=default\nlabels=k8s:app k8s:!run--id\n"},
		{"nothing", `{}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := ImportTerway(strings.NewReader(tc.text))
			if err != nil || keyValues(t, r) != tc.want || len(r.NotUnderstood) > 0 {
				t.Errorf("%v\n%+v", err, r)
			}
		})
	}
}

func TestImportNotUnderstood(t *testing.T) {
	r, err := ImportTerway(strings.NewReader(`{
  "cniVersion": "0.4.0",
  "disableCheck": true,
  "plugins": [
    {
      "type": "terway",
      "capabilities": {"bandwidth": false,
                       "portMappings": true, "dns": true},
      "eniip_virtual_type": "macvlan",
      "symmetric_routing_config": {"interface": "eth0", "mark": 16},
      "access_key": "AKIA", "my_token": "hush",
      "network_policy_provider": "ebpf",
      "cilium_enable_hubble": "true", "cilium_hubble_metrics": "drop",
      "cilium_args": "junk --mut=1400 --enable-wireguard --devices --enable-session-affinity=true --enable-envoy-config=true --api-token=hush"
    },
    {"type": "portmap", "snat": true},
    {"type": "tuning", "mtu": 1400}
  ]
}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []NotUnderstood{
		{"disableCheck", "true", 3, "no such field"},
		{"plugins[0].capabilities.dns", "true", 8, "not a capability"},
		{"plugins[0].eniip_virtual_type", "macvlan", 9, "allowed: veth, ipvlan or datapathv2"},
		{"plugins[0].symmetric_routing_config", `{"interface":"eth0","mark":16}`, 10, "not a field"},
		{"plugins[0].my_token", "(hidden)", 11, "not a field"},
		{"plugins[0].cilium_args", "junk", 14, "not a flag"},
		{"plugins[0].cilium_args --mut", "1400", 14, "did you mean mtu?"},
		{"plugins[0].cilium_args --enable-wireguard", "true", 14, "does not encrypt"},
		{"plugins[0].cilium_args --devices", "", 14, "needs a value"},
		{"plugins[0].cilium_args --enable-envoy-config", "true", 14, "NetworkPolicies are the only policies"},
		{"plugins[0].cilium_args --api-token", "(hidden)", 14, "unknown key"},
		{"plugins[2]", "tuning", 17, "chained plugin"},
	}
	if len(r.NotUnderstood) != len(want) {
		t.Fatalf("%d, want %d: %+v", len(r.NotUnderstood), len(want), r.NotUnderstood)
	}
	for i, got := range r.NotUnderstood {
		if !strings.Contains(got.Why, want[i].Why) {
			t.Errorf("%+v, want %q", got, want[i].Why)
		}
		got.Why = want[i].Why
		if got != want[i] {
			t.Errorf("%+v, want %+v", got, want[i])
		}
	}
	all := strings.Join(r.Warnings, "\n")
	for _, part := range []string{
		"bandwidth=false (field plugins[0].capabilities.bandwidth, line 7)", "network_policy_provider", "cilium_enable_hubble",
		"cilium_hubble_metrics", `enable-session-affinity="true"`, "portmap is replaced", "access_key (field plugins[0].access_key, line 11)",
	} {
		if !strings.Contains(all, part) {
			t.Errorf("no warning with %q:\n%s", part, all)
		}
	}
	if strings.Contains(all, "AKIA") || strings.Contains(all, "hush") {
		t.Errorf("a secret is shown:\n%s", all)
	}
	if !slices.IsSorted(r.Warnings) || len(r.Settings) > 0 {
		t.Errorf("%+v", r)
	}
}

func TestImportErrors(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"line 1, column 1", "unexpected end"}},
		{"trailing comma", "{\n  \"type\": \"terway\",\n}", []string{"line 3, column 1", "invalid character '}'"}},
		{"comma missing", "{\n  \"mtu\": 1\n  \"x\": 2}", []string{"line 3, column 3"}},
		{"cut off", "{\n \"mtu\": ", []string{"line 2", "unexpected end"}},
		{"more after it", "{}\n{}", []string{"line 2, column 1", "after top-level value"}},
		{"comment", "{ // x\n}", []string{"line 1, column 3"}},
		{"array", " [1]", []string{"line 1, column 1", "is not a JSON object"}},
		{"null", "null", []string{"is not a JSON object"}},
		{"field twice", "{\"mtu\": 1,\n\"mtu\": 2}", []string{"field mtu stands twice, on lines 1 and 2"}},
		{"plugins no array", `{"plugins": {}}`, []string{"field plugins, line 1", "is not a JSON array"}},
		{"plugin no object", "{\"plugins\": [\n 7]}", []string{"line 2, column 2: \"7\" is not a JSON object"}},
		{"capabilities no object", `{"capabilities": ["bandwidth"]}`, []string{"is not a JSON object"}},
		{"open quote", `{"cilium_args": "--a='b"}`, []string{"field cilium_args, line 1: the quote ' is not closed"}},
		{"too large", `{"x": "` + strings.Repeat("a", maxTerwayFile) + `"}`, []string{"more than 1048576 bytes"}},
		{
			"out of range", "{\n\"cilium_args\": \"--bpf-map-dynamic-size-ratio=3\"}",
			[]string{`bpf-map-dynamic-size-ratio="3" (field cilium_args, line 2): is out of range; allowed: a number from 0 to 1`},
		},
		{"wrong mtu", `{"mtu": 1500.5}`, []string{`mtu="1500.5" (field mtu, line 1): is not a whole number`}},
		{
			"contradiction", `{"cilium_args": "--mtu=1200"}`,
			[]string{`mtu="1200" (field cilium_args, line 1)`, `enable-ipv6="true" (default)`, "at least 1280"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ImportTerway(strings.NewReader(tc.text))
			for _, part := range tc.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Fatalf("error %v, want %q", err, part)
				}
			}
		})
	}
	// All wrong values are reported at once, and the right ones beside them.
	r, err := ImportTerway(strings.NewReader(`{"mtu": 1, "cilium_args": "--ipam=delegated-plugin --cluster-id=x --debug"}`))
	wantLines(t, err, []string{`mtu="1"`}, []string{`ipam="delegated-plugin"`, "kubernetes or cluster-pool"}, []string{`cluster-id="x"`})
	if keyValues(t, r) != "debug=true\n" {
		t.Errorf("%+v", r.Settings)
	}
}

type brokenPipe struct{}

func (brokenPipe) Read([]byte) (int, error)  { return 0, errors.New("broken") }
func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestImportIOErrors(t *testing.T) {
	if _, err := ImportTerway(brokenPipe{}); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("%v", err)
	}
	r := ImportResult{Settings: []Setting{{Key: "mtu", Value: "1400"}}}
	if r.WriteKeyValue(brokenPipe{}) == nil || r.WriteConfigMap(brokenPipe{}, "a", "b") == nil {
		t.Error("a failed write is not reported")
	}
}

func TestTerwayFieldsAreNamedOnce(t *testing.T) {
	fields := strings.Fields(terwayCloudFields())
	for i, name := range fields {
		if slices.Index(fields, name) != i {
			t.Errorf("%s stands twice", name)
		}
	}
}

// Any file is refused or translated to settings that load.
func FuzzImportTerway(f *testing.F) {
	f.Add(`{"type":"terway","cilium_args":"--mtu=1400 --debug","ip_stack":"dual"}`)
	f.Add(`{"plugins":[{"type":"terway","mtu":1400},{"type":"x"}],"name":null}`)
	f.Add(`{"capabilities":{"bandwidth":1},"mtu":{},"eniip_virtual_type":[]}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ImportTerway(strings.NewReader(text))
		if err != nil {
			return
		}
		dir := t.TempDir()
		for _, s := range r.Settings {
			if err := os.WriteFile(filepath.Join(dir, s.Key), []byte(s.Value), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Load(Sources{Dir: dir}); err != nil {
			t.Errorf("%s gave settings that do not load: %v", text, err)
		}
	})
}
