package config

import (
	"strings"
	"testing"
)

func keyNamed(t *testing.T, name string) Key {
	t.Helper()
	for _, k := range Keys() {
		if k.Name == name {
			return k
		}
	}
	t.Fatalf("no key %s", name)
	return Key{}
}

func TestParse(t *testing.T) {
	for _, tc := range []struct{ key, text, want, wrong string }{
		{key: "debug", text: "true", want: "true"},
		{key: "debug", text: "0", want: "false"},
		{key: "debug", text: "yes", wrong: "is not a boolean"},
		{key: "debug", text: "", wrong: "is empty"},
		{key: "debug", text: " true", wrong: "is not a boolean"},
		{key: "mtu", text: "0", want: "0"},
		{key: "mtu", text: "576", want: "576"},
		{key: "mtu", text: "65520", want: "65520"},
		{key: "mtu", text: "575", wrong: "is out of range"},
		{key: "mtu", text: "-1", wrong: "is out of range"},
		{key: "mtu", text: "65521", wrong: "is out of range"},
		{key: "mtu", text: "99999999999999999999", wrong: "is out of range"},
		{key: "mtu", text: "1500.0", wrong: "is not a whole number"},
		{key: "mtu", text: "0x5dc", wrong: "is not a whole number"},
		{key: "bpf-ct-global-tcp-max", text: "1023", wrong: "is out of range"},
		{key: "bpf-ct-global-tcp-max", text: "0", want: "0"},
		{key: "bpf-map-dynamic-size-ratio", text: "0.003", want: "0.003"},
		{key: "bpf-map-dynamic-size-ratio", text: "NaN", wrong: "is out of range"},
		{key: "bpf-map-dynamic-size-ratio", text: "+Inf", wrong: "is out of range"},
		{key: "bpf-map-dynamic-size-ratio", text: "1.0001", wrong: "is out of range"},
		{key: "bpf-map-memory-budget", text: "0", want: "0"},
		{key: "bpf-map-memory-budget", text: "268435456", want: "256MiB"},
		{key: "bpf-map-memory-budget", text: "256 MiB", want: "256MiB"},
		{key: "bpf-map-memory-budget", text: "1.5Gi", want: "1536MiB"},
		{key: "bpf-map-memory-budget", text: "1GB", want: "1000000000"},
		{key: "bpf-map-memory-budget", text: "-1", wrong: "is not a size of memory"},
		{key: "bpf-map-memory-budget", text: "99999999999999999999", wrong: "is not a size of memory"},
		{key: "bpf-map-memory-budget", text: "256 parsecs", wrong: "is not a size of memory"},
		{key: "bpf-map-memory-budget", text: "", wrong: "is empty"},
		{key: "bpf-ct-timeout-regular-tcp", text: "1h", want: "1h0m0s"},
		{key: "bpf-ct-timeout-regular-tcp", text: "60", wrong: "needs a unit"},
		{key: "bpf-ct-timeout-regular-tcp", text: "-5s", wrong: "is out of range"},
		{key: "conntrack-gc-interval", text: "0", want: "0s"},
		{key: "conntrack-gc-interval", text: "999ms", wrong: "is out of range"},
		{key: "conntrack-gc-max-interval", text: "24h", want: "24h0m0s"},
		{key: "identity-gc-interval", text: "0s", want: "0s"},
		{key: "identity-gc-interval", text: "-15m", wrong: "is out of range"},
		{key: "enable-policy", text: "always", want: "always"},
		{key: "enable-policy", text: "true", wrong: "is not in the list"},
		{key: "labels", text: `k8s:io\.kubernetes !a{1,2}`, want: `k8s:io\.kubernetes !a{1,2}`},
		{key: "labels", text: "", want: ""},
		{key: "bpf-policy-map-max", text: "16384", want: "16384"},
		{key: "bpf-policy-map-max", text: "255", wrong: "is out of range"},
		{key: "bpf-ct-embryonic-max", text: "0", wrong: "is out of range"},
		{key: "bpf-ct-embryonic-max", text: "1024", want: "1024"},
		{key: "bpf-lb-mode", text: "snat", want: "snat"},
		{key: "bpf-lb-mode", text: "dsr", wrong: "is not part of this version"},
		{key: "bpf-lb-mode", text: "hybrid", wrong: "is not part of this version"},
		{key: "bpf-lb-mode", text: "nat", wrong: "is not in the list"},
		{key: "bpf-lb-acceleration", text: "native", wrong: "is not part of this version"},
		{key: "bpf-lb-maglev-table-size", text: "65521", want: "65521"},
		{key: "bpf-lb-maglev-table-size", text: "16384", wrong: "is not in the list"},
		{key: "bpf-lb-maglev-table-size", text: "x", wrong: "is not a whole number"},
		{key: "bpf-lb-maglev-hash-seed", text: "AAAAAAAAAAAAAAAA", want: "AAAAAAAAAAAAAAAA"},
		{key: "bpf-lb-maglev-hash-seed", text: "AAAAAAAAAAAA", wrong: "has 9 bytes"},
		{key: "bpf-lb-maglev-hash-seed", text: "not base64", wrong: "is not base64"},
		{key: "bpf-lb-maglev-hash-seed", text: "", wrong: "is empty"},
		{key: "bpf-lb-map-max", text: "0", wrong: "is out of range"},
		{key: "bpf-lb-service-map-max", text: "0", want: "0"},
		{key: "bpf-sock-rev-map-max", text: "1023", wrong: "is out of range"},
		{key: "kube-proxy-replacement", text: "strict", wrong: "is not a boolean"},
		{key: "k8s-service-proxy-name", text: "", want: ""},
		{key: "k8s-service-proxy-name", text: "my.Proxy_1", want: "my.Proxy_1"},
		{key: "k8s-service-proxy-name", text: "a b", wrong: "is not the value of a label"},
		{key: "k8s-service-proxy-name", text: "-a", wrong: "is not the value of a label"},
		{key: "k8s-service-proxy-name", text: strings.Repeat("a", 64), wrong: "is not the value of a label"},
		{key: "node-port-range", text: "30000,32767", want: "30000-32767"},
		{key: "node-port-range", text: "30000, 32767", want: "30000-32767"},
		{key: "node-port-range", text: "80-80", want: "80-80"},
		{key: "node-port-range", text: "30000", wrong: "is not a range of ports"},
		{key: "node-port-range", text: "32767-30000", wrong: "first port above its last"},
		{key: "node-port-range", text: "0-32767", wrong: `has the bad port "0"`},
		{key: "node-port-range", text: "30000-65536", wrong: `has the bad port "65536"`},
		{key: "node-port-range", text: "1-2-3", wrong: `has the bad port "2-3"`},
		{key: "node-port-range", text: "", wrong: "is empty"},
		{key: "nodeport-addresses", text: "192.0.2.0/24,fd00::/8", want: "192.0.2.0/24,fd00::/8"},
		{key: "nodeport-addresses", text: "primary", wrong: "is not a CIDR"},
		{key: "service-no-backend-response", text: "icmp", wrong: "is not in the list"},
		{key: "routing-mode", text: "tunnel", want: "tunnel"},
		{key: "routing-mode", text: "Tunnel", wrong: "is not in the list"},
		{key: "routing-mode", text: "", wrong: "is empty"},
		{key: "routing-mode", text: "a\x00b", wrong: "control characters"},
		{key: "node-name", text: "", want: ""},
		{key: "node-name", text: "Node_1", wrong: "is not a node name"},
		{key: "cluster-name", text: "west-1", want: "west-1"},
		{key: "cluster-name", text: "-west", wrong: "is not a cluster name"},
		{key: "cluster-name", text: strings.Repeat("a", 33), wrong: "is not a cluster name"},
		{key: "cluster-name", text: "\xff", wrong: "is not text"},
		{key: "devices", text: "eth0 eth1,ens3\n", want: "eth0,eth1,ens3"},
		{key: "devices", text: "eth0,eth0", wrong: "twice"},
		{key: "devices", text: "eth0/1", wrong: "bad device name"},
		{key: "devices", text: "abcdefghijklmnop", wrong: "bad device name"},
		{key: "devices", text: "", want: ""},
		{key: "ipv4-native-routing-cidr", text: "", want: ""},
		{key: "ipv4-native-routing-cidr", text: "10.0.0.0/8", want: "10.0.0.0/8"},
		{key: "ipv4-native-routing-cidr", text: "fd00::/8", wrong: "wrong address family"},
		{key: "ipv6-native-routing-cidr", text: "10.0.0.0/8", wrong: "wrong address family"},
		{key: "ipv6-native-routing-cidr", text: "::ffff:10.0.0.0/104", wrong: "IPv6 form"},
		{key: "ipv4-native-routing-cidr", text: "10.0.0.1/8", wrong: "should be 10.0.0.0/8"},
		{key: "ipv4-native-routing-cidr", text: "10.0.0.0", wrong: "is not a CIDR"},
		{key: "cluster-pool-ipv4-cidr", text: "10.0.0.0/9, 10.128.0.0/9", want: "10.0.0.0/9,10.128.0.0/9"},
		{key: "cluster-pool-ipv4-cidr", text: "10.0.0.0/9 fd00::/64", wrong: "wrong address family"},
		{key: "bpf-root", text: "sys/fs/bpf", wrong: "is not an absolute path"},
		{key: "bpf-root", text: "", wrong: "is empty"},
		{key: "write-cni-conf-when-ready", text: "", want: ""},
		{key: "write-cni-conf-when-ready", text: "/etc/cni/net.d/05-placid.conf", wrong: ".conflist"},
		{key: "write-cni-conf-when-ready", text: "a.conflist", wrong: "is not an absolute path"},
		{key: "socket-path", text: "/" + strings.Repeat("a", 107), wrong: "too long"},
		{key: "prometheus-serve-addr", text: "", want: ""},
		{key: "prometheus-serve-addr", text: "[::1]:9962", want: "[::1]:9962"},
		{key: "prometheus-serve-addr", text: "9962", wrong: "is not host:port"},
		{key: "prometheus-serve-addr", text: ":0", wrong: "bad port"},
		{key: "prometheus-serve-addr", text: ":65536", wrong: "bad port"},
		{key: "prometheus-serve-addr", text: ":http", wrong: "bad port"},
		{key: "operator-api-serve-addr", text: "", wrong: "is empty"},
		{key: "k8s-api-server", text: "https://192.0.2.1:6443", want: "https://192.0.2.1:6443"},
		{key: "k8s-api-server", text: "192.0.2.1:6443", wrong: "is not an http or https URL"},
		{key: "k8s-kubeconfig-path", text: "~/.kube/config", wrong: "is not an absolute path"},
	} {
		v, err := keyNamed(t, tc.key).parse(tc.text)
		switch {
		case tc.wrong == "" && err != nil:
			t.Errorf("%s=%q: %v", tc.key, tc.text, err)
		case tc.wrong == "" && formatValue(v) != tc.want:
			t.Errorf("%s=%q: got %q, want %q", tc.key, tc.text, formatValue(v), tc.want)
		case tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)):
			t.Errorf("%s=%q: error %v, want %q", tc.key, tc.text, err, tc.wrong)
		}
	}
}

func TestAllowedTexts(t *testing.T) {
	for key, want := range map[string]string{
		"debug":                    "true or false",
		"mtu":                      "0, or a whole number from 576 to 65520",
		"routing-mode":             "native or tunnel",
		"ipv4-native-routing-cidr": "an IPv4 CIDR such as 10.0.0.0/8, or empty",
		"prometheus-serve-addr":    "host:port or :port, the port from 1 to 65535, or empty",
		"endpoint-gc-interval":     "a duration such as 90s or 1h30m from 10s to 24h",
		"k8s-client-qps":           "a number from 0.1 to 10000",
		"node-port-range":          "two ports from 1 to 65535 such as 30000-32767, the first not above the last",
		"bpf-lb-maglev-table-size": "251 or 509 or 1021 or 2039 or 4093 or 8191 or 16381 or 32749 or 65521 or 131071",
		"devices":                  "a list separated by commas or spaces, each a device name of at most 15 characters, or empty",
	} {
		if got := keyNamed(t, key).Allowed(); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

// What parse accepts, the canonical form of it means the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "true", "1500", "0.5", "1h", "10.0.0.0/8,fd00::/8", "a,b c", "/a.conflist", ":80", "30000,32767", "JLfvgnHc2kaSUFaI"} {
		f.Add(s)
	}
	keys := Keys()
	f.Fuzz(func(t *testing.T, text string) {
		for _, k := range keys {
			v, err := k.parse(text)
			if err != nil {
				continue
			}
			canonical := formatValue(v)
			again, err := k.parse(canonical)
			if err != nil || formatValue(again) != canonical {
				t.Errorf("%s=%q: canonical form %q parses to %v, %v", k.Name, text, canonical, again, err)
			}
		}
	})
}

func TestSuggest(t *testing.T) {
	names := allNames()
	for text, want := range map[string]string{
		"routing-mod": "routing-mode", "ruoting-mode": "routing-mode", "ROUTING_MODE": "routing-mode",
		"mut": "mtu", "tunnel-prot": "tunnel-port", "completely-different-thing": "",
	} {
		if got := suggest(text, names); got != want {
			t.Errorf("suggest(%q) = %q, want %q", text, got, want)
		}
	}
}

// slowDistance is the definition of the edit distance, without a table.
func slowDistance(a, b string) int {
	if a == "" || b == "" {
		return len(a) + len(b)
	}
	cost := 1
	if a[0] == b[0] {
		cost = 0
	}
	d := min(slowDistance(a[1:], b)+1, slowDistance(a, b[1:])+1, slowDistance(a[1:], b[1:])+cost)
	if len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] {
		d = min(d, slowDistance(a[2:], b[2:])+1)
	}
	return d
}

func TestEditDistanceOracle(t *testing.T) {
	var words []string
	for n := range 5 {
		for i := range 1 << n {
			w := make([]byte, n)
			for j := range w {
				w[j] = "ab"[i>>j&1]
			}
			words = append(words, string(w))
		}
	}
	words = append(words, "cab", "bca", "abcab")
	for _, a := range words {
		for _, b := range words {
			if got, want := editDistance(a, b), slowDistance(a, b); got != want {
				t.Fatalf("editDistance(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}
