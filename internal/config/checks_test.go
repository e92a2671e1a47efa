package config

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func TestContradictions(t *testing.T) {
	for _, tc := range []struct {
		name  string
		flags string
		wrong string // empty: no error
	}{
		{"both families off", "--enable-ipv4=false --enable-ipv6=false", "no address at all"},
		{"IPv6 with a small mtu", "--mtu=1279", "at least 1280"},
		{"IPv6 with its least mtu", "--mtu=1280", ""},
		{"IPv4 with a small mtu", "--mtu=600 --enable-ipv6=false", ""},
		{"tunnel with a small mtu", "--mtu=1329 --routing-mode=tunnel", "at least 1330"},
		{"tunnel with its least mtu", "--mtu=1330 --routing-mode=tunnel", ""},
		{"IPv4 tunnel with a small mtu", "--mtu=625 --routing-mode=tunnel --enable-ipv6=false", "at least 626"},
		{"numbered cluster without a name", "--cluster-id=3", "a name of its own"},
		{"numbered cluster with a name", "--cluster-id=3 --cluster-name=west", ""},
		{"burst below rate", "--k8s-client-qps=21", "at least the sustained rate"},
		{"burst of the rate", "--k8s-client-qps=20", ""},
		{"tunnel port without a tunnel", "--tunnel-port=4789", ""},
		{"agent ports clash", "--agent-health-port=9962", "same port"},
		{"agent ports clash on loopback", "--agent-health-port=9962 --prometheus-serve-addr=[::1]:9962", "same port"},
		{"agent ports on other addresses", "--agent-health-port=9962 --prometheus-serve-addr=192.0.2.1:9962", ""},
		{"agent metrics off", "--agent-health-port=9962 --prometheus-serve-addr=", ""},
		{"operator ports clash", "--operator-api-serve-addr=127.0.0.1:9963", "same port"},
		{"operator ports clash written with zeros", "--operator-api-serve-addr=127.0.0.1:09963", "same port"},
		{"sockets without Services", "--kube-proxy-replacement=false --bpf-lb-sock", "nothing is translated at sockets"},
		{"no sockets, no Services", "--kube-proxy-replacement=false --bpf-lb-sock=false", ""},
		{"no Services", "--kube-proxy-replacement=false", ""},
		{
			"more NAT than conntrack", "--bpf-nat-global-max=20000 --bpf-ct-global-tcp-max=10000 --bpf-ct-global-any-max=5000",
			"bpf-nat-global-max = 20000: want at most 15000, which is bpf-ct-global-tcp-max + bpf-ct-global-any-max; leave it unset for 10000",
		},
		{"more NAT than the default conntrack", "--bpf-nat-global-max=1000000 --bpf-map-dynamic-size-ratio=0", "want at most 786432"},
		{"as much NAT as conntrack", "--bpf-nat-global-max=15000 --bpf-ct-global-tcp-max=10000 --bpf-ct-global-any-max=5000", ""},
		{"Cilium's default NAT", "--bpf-nat-global-max=524288 --bpf-ct-global-tcp-max=10000 --bpf-ct-global-any-max=5000", ""},
		{"NAT on a machine that is not known", "--bpf-nat-global-max=16777216 --bpf-ct-global-tcp-max=10000", ""},
		{"unbounded IPv4 masquerading", "--ipam=kubernetes --enable-ipv6-masquerade=false", "set ipv4-native-routing-cidr to a range"},
		{"unbounded IPv6 masquerading", "--ipam=kubernetes --enable-ipv4-masquerade=false", "set ipv6-native-routing-cidr to a range"},
		{"unbounded masquerading of a family that is off", "--ipam=kubernetes --enable-ipv4-masquerade=false --enable-ipv6=false", ""},
		{"bounded masquerading", "--ipam=kubernetes --ipv4-native-routing-cidr=10.1.0.0/16 --ipv6-native-routing-cidr=fd01::/64", ""},
		{"unbounded masquerading in tunnel mode", "--ipam=kubernetes --routing-mode=tunnel", ""},
		{"masquerading bounded by a file", "--ipam=kubernetes --enable-ip-masq-agent", ""},
		{"exclusions from nothing", "--enable-ip-masq-agent --enable-ipv4-masquerade=false --enable-ipv6=false", "nothing is masqueraded"},
		{"exclusions from one family", "--enable-ip-masq-agent --enable-ipv4-masquerade=false", ""},
		{"IPv6 pool with IPv6 off", "--enable-ipv6=false --cluster-pool-ipv6-cidr=fd01::/104", "family that is off"},
		{"IPv4 pool with IPv4 off", "--enable-ipv4=false --cluster-pool-ipv4-cidr=10.1.0.0/16", "family that is off"},
		{"default IPv6 pool with IPv6 off", "--enable-ipv6=false", ""},
		{"empty IPv6 pool with IPv6 off", "--enable-ipv6=false --cluster-pool-ipv6-cidr=", ""},
		{"no IPv4 pool", "--cluster-pool-ipv4-cidr=", "has no pool"},
		{"no IPv4 pool needed", "--cluster-pool-ipv4-cidr= --ipam=kubernetes --routing-mode=tunnel", ""},
		{"pool smaller than a node's part", "--cluster-pool-ipv4-cidr=10.1.0.0/25", "smaller than the /24"},
		{"one pool of many too small", "--cluster-pool-ipv6-cidr=fd01::/104,fd02::/121", "fd02::/121"},
		{"pool for one node", "--cluster-pool-ipv4-cidr=10.1.0.0/24", ""},
		{"mask not used", "--ipam=kubernetes --routing-mode=tunnel --cluster-pool-ipv4-mask-size=8 --cluster-pool-ipv4-cidr=10.1.0.0/16", ""},
		{"overlapping pools", "--cluster-pool-ipv4-cidr=10.2.0.0/16,10.0.0.0/8", "10.0.0.0/8 and 10.2.0.0/16 overlap"},
		{"neighbouring pools", "--cluster-pool-ipv4-cidr=10.2.0.0/16,10.3.0.0/16", ""},
		{"a wrong value hides what follows from it", "--mtu=1 --enable-ipv4=false --enable-ipv6=false", "no address at all"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load(Sources{Flags: flagsWith(t, strings.Fields(tc.flags)...)})
			if tc.wrong == "" {
				if err != nil {
					t.Errorf("%v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("error %v, want %q", err, tc.wrong)
			}
		})
	}
}

// overlap looks at neighbours only; comparing every pair must give the same.
func TestOverlapOracle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 2000 {
		pools := make([]netip.Prefix, 1+rnd.IntN(6))
		for i := range pools {
			addr := netip.AddrFrom4([4]byte{10, byte(rnd.IntN(8)) << 5, byte(rnd.IntN(4)) << 6, 0})
			pools[i] = netip.PrefixFrom(addr, 8+rnd.IntN(12)).Masked()
		}
		want := false
		for i, a := range pools {
			for _, b := range pools[:i] {
				want = want || a.Overlaps(b)
			}
		}
		if got := overlap(pools) != ""; got != want {
			t.Fatalf("overlap(%v) = %v, want %v", pools, got, want)
		}
		if want {
			found++
		}
	}
	if found == 0 || found == 2000 {
		t.Errorf("the pools overlapped %d times of 2000: not a test", found)
	}
}

// Every check is skipped when one of its keys is wrong, so its keys must exist.
func TestChecksNameKeys(t *testing.T) {
	r := newResolver()
	for _, c := range checks() {
		for _, key := range c.keys {
			if _, ok := r.keys[key]; !ok {
				t.Errorf("a check names the unknown key %s", key)
			}
		}
	}
}
