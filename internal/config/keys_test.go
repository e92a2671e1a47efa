package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	kebab  = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	known  = []string{"key", "default", "oneof", "notyet", "min", "max", "unset", "format", "family", "later", "live", "empty", "doc"}
	tagKey = regexp.MustCompile(`([a-z]+):"`)
)

func TestTagsAreSane(t *testing.T) {
	typ := reflect.TypeFor[Config]()
	seen := map[string]bool{}
	keys := Keys()
	if len(keys) != typ.NumField() {
		t.Fatalf("%d keys for %d fields", len(keys), typ.NumField())
	}
	for _, k := range keys {
		f := typ.Field(k.field)
		t.Run(k.Name, func(t *testing.T) {
			for _, m := range tagKey.FindAllStringSubmatch(string(f.Tag), -1) {
				if !slices.Contains(known, m[1]) {
					t.Errorf("field %s has the unknown tag %s", f.Name, m[1])
				}
			}
			if !kebab.MatchString(k.Name) || seen[k.Name] {
				t.Errorf("name %q is not kebab-case or not unique", k.Name)
			}
			seen[k.Name] = true
			if _, ok := f.Tag.Lookup("default"); !ok {
				t.Error("no default")
			}
			if k.Type == "" {
				t.Errorf("field %s has a type without a parser: %s", f.Name, f.Type)
			}
			if k.Doc == "" || strings.HasSuffix(k.Doc, ".") || strings.Contains(k.Doc, "`") {
				t.Errorf("doc %q is empty, ends in a full stop or has a back quote", k.Doc)
			}
			if k.Format != "" && formatOf(k.Format).allowed == formatOf("").allowed {
				t.Errorf("unknown format %q", k.Format)
			}
			if k.Family != "" && k.Family != familyIPv4 && k.Family != familyIPv6 {
				t.Errorf("unknown family %q", k.Family)
			}
			if k.Format != "" && k.Type != typeString && k.Type != typeStrings {
				t.Errorf("format on a %s", k.Type)
			}
			if len(k.OneOf) > 0 && k.Type != typeString && k.Type != typeInt {
				t.Errorf("oneof on a %s", k.Type)
			}
			for _, v := range k.NotYet {
				if len(k.OneOf) == 0 || slices.Contains(k.OneOf, v) {
					t.Errorf("%s is refused by name without a list, or stands in it", v)
				}
			}
			if live, ok := f.Tag.Lookup("live"); ok && (live != "true" || k.Later != "") {
				t.Errorf("live is %q, or the key has no effect yet", live)
			}
			checkNumberTags(t, k)
		})
	}
}

func checkNumberTags(t *testing.T, k Key) {
	t.Helper()
	numeric := k.Type == typeInt || k.Type == typeFloat || k.Type == typeDuration
	if !numeric {
		if k.Min != "" || k.Max != "" || k.Unset != "" {
			t.Errorf("a range on a %s", k.Type)
		}
		return
	}
	if len(k.OneOf) > 0 {
		if k.Min != "" || k.Max != "" || k.Unset != "" {
			t.Error("a list of numbers and a range")
		}
		for _, v := range k.OneOf {
			if n, _, err := k.number(v); err != nil || formatValue(n) != v {
				t.Errorf("oneof has %q: %v", v, err)
			}
		}
		return
	}
	_, low, err := k.number(k.Min)
	if err != nil {
		t.Errorf("min %q: %v", k.Min, err)
	}
	_, high, err := k.number(k.Max)
	if err != nil {
		t.Errorf("max %q: %v", k.Max, err)
	}
	if low > high {
		t.Errorf("min %s is above max %s", k.Min, k.Max)
	}
	if k.Unset != "" {
		if _, size, err := k.number(k.Unset); err != nil || (size >= low && size <= high) {
			t.Errorf("unset %q is no number or inside the range (%v)", k.Unset, err)
		}
	}
}

func TestDefaultsPassTheirOwnChecks(t *testing.T) {
	for _, k := range Keys() {
		if _, err := k.parse(k.Default); err != nil {
			t.Errorf("%s=%q: %v; allowed: %s", k.Name, k.Default, err, k.Allowed())
		}
	}
	l, err := Load(Sources{})
	if err != nil {
		t.Fatalf("the defaults contradict each other: %v", err)
	}
	if len(l.Warnings) > 0 {
		t.Errorf("the defaults warn: %q", l.Warnings)
	}
}

func TestKeysAreSortedAndNamedOnce(t *testing.T) {
	names := allNames()
	for i, name := range names {
		if slices.Index(names, name) != i {
			t.Errorf("%s is declared twice", name)
		}
	}
	if !slices.IsSortedFunc(Keys(), func(a, b Key) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("Keys are not sorted")
	}
	env := map[string]string{}
	for _, name := range names {
		e := envName(envPrefix, name)
		if env[e] != "" {
			t.Errorf("%s and %s have the same variable %s", name, env[e], e)
		}
		env[e] = name
		if isServiceEnv(e, "1") {
			t.Errorf("%s cannot be set by its variable %s: it looks like Kubernetes'", name, e)
		}
	}
}

func TestForeignKeysSayWhatHappens(t *testing.T) {
	for _, f := range ForeignKeys() {
		if !kebab.MatchString(f.Name) {
			t.Errorf("%q is no key", f.Name)
		}
		if len(f.Instead) < 15 || strings.HasSuffix(f.Instead, ".") || strings.Contains(f.Instead, "`") {
			t.Errorf("%s: %q is no usable sentence", f.Name, f.Instead)
		}
	}
}

// What must never be ignored with a warning alone.
func TestGuardedForeignKeys(t *testing.T) {
	foreign := map[string]ForeignKey{}
	for _, f := range ForeignKeys() {
		foreign[f.Name] = f
	}
	for _, tc := range []struct{ key, harmless, harmful string }{
		{"policy-deny-response", "none", "icmp"},
		{"policy-cidr-match-mode", "", "nodes"},
		{"enable-host-firewall", "false", "true"},
		{"enable-k8s-cluster-network-policy", "false", "true"},
		{"enable-envoy-config", "False", "true"},
		{"enable-wireguard", "0", "1"},
		{"enable-ipsec", "false", "true"},
		{"encrypt-node", "false", "yes"},
		{"ipsec-key-file", "", "/etc/ipsec/keys"},
		{"mesh-auth-enabled", "false", "true"},
		{"enable-endpoint-lockdown-on-policy-overflow", "false", "true"},
		{"enable-source-ip-verification", "true", "false"},
		{"kube-proxy-replacement-healthz-bind-address", "", "0.0.0.0:10256"},
		{"enable-health-check-loadbalancer-ip", "false", "true"},
		{"enable-local-redirect-policy", "false", "true"},
		{"bpf-lb-only", "false", "true"},
		{"bpf-lb-mode-annotation", "false", "true"},
		{"enable-masquerade-to-route-source", "false", "true"},
		{"enable-remote-node-masquerade", "false", "true"},
		{"cni-chaining-mode", "none", "aws-cni"},
		{"allow-localhost", "auto", "policy"},
	} {
		f, ok := foreign[tc.key]
		if !ok {
			t.Errorf("%s is not in the list", tc.key)
			continue
		}
		if err := f.check(tc.harmless); err != nil {
			t.Errorf("%s=%s is refused: %v", tc.key, tc.harmless, err)
		}
		if err := f.check(tc.harmful); err == nil {
			t.Errorf("%s=%s is accepted", tc.key, tc.harmful)
		}
	}
}

// The flags that Terway always passes are all known, with the values it passes
// where nothing is lost by it.
func TestTerwayFlagsAreKnown(t *testing.T) {
	names := allNames()
	for name := range strings.FieldsSeq(`routing-mode cni-chaining-mode enable-ipv4-masquerade enable-ipv6-masquerade
		disable-envoy-version-check local-router-ipv4 local-router-ipv6 enable-local-node-route
		enable-endpoint-health-checking enable-health-checking enable-service-topology k8s-heartbeat-timeout
		enable-session-affinity install-iptables-rules enable-l7-proxy ipam enable-bandwidth-manager
		agent-health-port enable-tcx enable-l2-announcements enable-dynamic-config enable-bgp-control-plane
		enable-policy labels datapath-mode kube-proxy-replacement bpf-lb-sock bpf-lb-sock-hostns-only
		enable-node-port enable-host-port enable-external-ips enable-health-check-nodeport enable-endpoint-routes
		enable-l2-neigh-discovery enable-in-cluster-loadbalance terway-host-stack-cidr disable-per-package-lb`) {
		if !slices.Contains(names, name) {
			t.Errorf("--%s is unknown", name)
		}
	}
}
