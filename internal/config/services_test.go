package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMaglevSeed(t *testing.T) {
	l := mustLoad(t, Sources{Flags: flagsWith(t, "--bpf-lb-maglev-hash-seed=AAECAwQFBgcICQoL")})
	if got := l.Config.MaglevSeed(); got != [12]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11} {
		t.Errorf("%v", got)
	}
	if mustLoad(t, Sources{}).Config.MaglevSeed() == [12]byte{} {
		t.Error("the default seed is empty")
	}
}

func TestNativeCIDRs(t *testing.T) {
	for _, tc := range []struct{ flags, want string }{
		{"", "10.0.0.0/8 fd00::/104"},
		{"--enable-ipv6=false", "10.0.0.0/8"},
		{"--enable-ipv4=false", "fd00::/104"},
		{"--cluster-pool-ipv4-cidr=10.1.0.0/16,10.3.0.0/16", "10.1.0.0/16 10.3.0.0/16 fd00::/104"},
		{"--ipv4-native-routing-cidr=10.0.0.0/9", "10.0.0.0/9 fd00::/104"},
		{"--ipv6-native-routing-cidr=fd00::/8 --routing-mode=tunnel", "10.0.0.0/8 fd00::/8"},
		{"--ipam=kubernetes --routing-mode=tunnel", ""},
		{"--ipam=kubernetes --ipv4-native-routing-cidr=10.1.0.0/16 --ipv6-native-routing-cidr=fd01::/64", "10.1.0.0/16 fd01::/64"},
	} {
		var got []string
		for _, p := range mustLoad(t, Sources{Flags: flagsWith(t, strings.Fields(tc.flags)...)}).Config.NativeCIDRs() {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %q, want %q", tc.flags, got, tc.want)
		}
	}
}

func TestMasqueradeExclusions(t *testing.T) {
	linkLocal := "169.254.0.0/16 fe80::/10"
	for _, tc := range []struct{ name, text, want, wrong string }{
		{name: "empty", text: " \n", want: "10.0.0.0/8 100.64.0.0/10 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 " +
			"192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 fe80::/10"},
		{name: "YAML", text: "nonMasqueradeCIDRs:\n- 10.1.0.0/16\n- fd01::/64\n", want: "10.1.0.0/16 169.254.0.0/16 fd01::/64 fe80::/10"},
		{name: "JSON", text: `{"nonMasqueradeCIDRs":["10.1.0.0/16"],"masqLinkLocal":true,"masqLinkLocalIPv6":true}`, want: "10.1.0.0/16"},
		{name: "no range", text: "nonMasqueradeCIDRs: []\nresyncInterval: 60s\n", want: linkLocal},
		{name: "not masked, twice", text: "nonMasqueradeCIDRs: [10.1.2.3/16, 10.1.0.0/16]", want: "10.1.0.0/16 " + linkLocal},
		{name: "not a range", text: "nonMasqueradeCIDRs: [10.1.0.0/16, 10.1.0.0]", wrong: `nonMasqueradeCIDRs[1] is "10.1.0.0": allowed are CIDRs`},
		{name: "IPv6 form", text: "nonMasqueradeCIDRs: ['::ffff:10.0.0.0/104']", wrong: "nonMasqueradeCIDRs[0] is"},
		{name: "unknown field", text: "nonMasqueradeCIDR: []", wrong: `unknown field "nonMasqueradeCIDR"`},
		{name: "no mapping", text: "- 10.0.0.0/8", wrong: "cannot unmarshal array"},
		{name: "junk", text: "\x00\xff", wrong: "control characters are not allowed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ip-masq-agent")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := MasqueradeExclusions(path)
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want %q", err, tc.wrong)
				}
				return
			}
			want := make([]netip.Prefix, 0, len(got))
			for text := range strings.FieldsSeq(tc.want) {
				want = append(want, netip.MustParsePrefix(text))
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		})
	}
	absent, err := MasqueradeExclusions(filepath.Join(t.TempDir(), "absent"))
	if err != nil || len(absent) != 13 {
		t.Errorf("without the file: %v, %v", absent, err)
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, maxMasqFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := MasqueradeExclusions(big); err == nil || !strings.Contains(err.Error(), "at most 1048576") {
		t.Errorf("a large file: %v", err)
	}
	if _, err := MasqueradeExclusions(t.TempDir()); err == nil {
		t.Error("a folder is read")
	}
}

// What is accepted has only masked ranges, sorted, each once.
func FuzzMasqFile(f *testing.F) {
	f.Add("nonMasqueradeCIDRs: [10.1.2.3/16]\nmasqLinkLocal: true")
	f.Add(`{"nonMasqueradeCIDRs":["fd00::/8"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseMasqFile([]byte(text))
		if err != nil {
			return
		}
		for i, p := range got {
			if p != p.Masked() || p.Addr().Is4In6() || i > 0 && got[i-1].Compare(p) >= 0 {
				t.Errorf("%q gives %v", text, got)
			}
		}
	})
}
