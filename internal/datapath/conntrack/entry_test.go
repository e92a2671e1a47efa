package conntrack

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
)

// Records are read as the types of abi.
func TestRecordsAreOfTheSharedTypes(t *testing.T) {
	var r bpf.TablesCtRecord
	if unsafe.Sizeof(r.Key) != unsafe.Sizeof(abi.CCtKey{}) || unsafe.Sizeof(r.Entry) != unsafe.Sizeof(abi.CCtEntry{}) {
		t.Errorf("a record has %d and %d bytes for key and entry, abi has %d and %d",
			unsafe.Sizeof(r.Key), unsafe.Sizeof(r.Entry), unsafe.Sizeof(abi.CCtKey{}), unsafe.Sizeof(abi.CCtEntry{}))
	}
}

func TestHZ(t *testing.T) {
	hz, err := HZ()
	if err != nil || hz < 24 || hz > 10000 {
		t.Fatalf("%d, %v", hz, err)
	}
	zipped, err := os.ReadFile("/proc/config.gz")
	if err != nil {
		return // not every kernel tells
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	config, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("\nCONFIG_HZ=%d\n", hz); !strings.Contains(string(config), want) {
		t.Errorf("HZ is %d, and the kernel's configuration says otherwise", hz)
	}
}

func TestClock(t *testing.T) {
	c := clock{now: 5, hz: 100}
	for then, want := range map[uint32]uint32{5: 0, 4: 1, 0: 5, 1<<32 - 1: 6, 6: 0, 104: 0, 105: 1<<32 - 100} {
		if got := c.since(then); got != want {
			t.Errorf("since %d: %d, want %d", then, got, want)
		}
	}
	if got := c.duration(12345); got != 123450*time.Millisecond {
		t.Errorf("12345 jiffies are %v", got)
	}
	if got := (clock{hz: 300}).duration(1 << 32); got != 14316557*time.Second+653333333 {
		t.Errorf("the whole round is %v", got)
	}
}

func TestEntry(t *testing.T) {
	settings := abi.CSettings{Hz: 100, Timeout: [6]uint32{800000, 6000, 1000, 12000, 800000, 12000}}
	c := clock{now: 10000, hz: 100}
	state := func(born uint32, flags abi.CCtFlags) uint64 { return uint64(born)<<32 | uint64(flags) }
	for _, tc := range []struct {
		name string
		key  abi.CCtKey
		e    abi.CCtEntry
		want agentapi.CTEntry
	}{
		{
			"begun by side 0", flowKey(tcp, "10.0.0.1:4000", "10.0.0.2:80"),
			abi.CCtEntry{State: state(4000, established), Last: 9900, Epoch: 7, Identity: [2]uint32{11, 12}},
			agentapi.CTEntry{
				Proto: tcp, Source: netip.MustParseAddrPort("10.0.0.1:4000"), Destination: netip.MustParseAddrPort("10.0.0.2:80"),
				State: agentapi.CTStateEstablished, Flags: []string{"replied", "assured", "non-syn"}, Table: tableTCP,
				Age: time.Minute, Idle: time.Second, Expires: 7999 * time.Second,
				SourceIdentity: 11, DestinationIdentity: 12, Epoch: 7,
			},
		},
		{
			"begun by side 1, born before the clock's round", flowKey(udp, "[fd00::1]:53", "[fd00::2]:4000"),
			abi.CCtEntry{
				State: state(1<<32-100, abi.CCtFlagsCT_ORIGIN|abi.CCtFlagsCT_FROM_HOST|abi.CCtFlagsCT_AUDITED),
				Last:  10000, Identity: [2]uint32{11, 12},
			},
			agentapi.CTEntry{
				Proto: udp, Source: netip.MustParseAddrPort("[fd00::2]:4000"), Destination: netip.MustParseAddrPort("[fd00::1]:53"),
				State: agentapi.CTStateNew, Flags: []string{"audited", "from-host"}, Table: tableTCP,
				Age: 101 * time.Second, Expires: 2 * time.Minute, SourceIdentity: 12, DestinationIdentity: 11,
			},
		},
		{
			"an echo, answered", flowKey(icmp, "10.0.0.1:4711", "10.0.0.2:0"),
			abi.CCtEntry{State: state(4000, abi.CCtFlagsCT_REPLIED), Last: 4000},
			agentapi.CTEntry{
				Proto: icmp, Source: netip.MustParseAddrPort("10.0.0.1:4711"), Destination: netip.MustParseAddrPort("10.0.0.2:0"),
				State: agentapi.CTStateReplied, Flags: []string{"replied"}, Table: tableTCP,
				Age: time.Minute, Idle: time.Minute, Expires: time.Minute,
			},
		},
		{
			"closed and long over", flowKey(tcp, "10.0.0.1:1", "10.0.0.2:2"),
			abi.CCtEntry{State: state(4000, established|abi.CCtFlagsCT_RESET), Last: 5000},
			agentapi.CTEntry{
				Proto: tcp, Source: netip.MustParseAddrPort("10.0.0.1:1"), Destination: netip.MustParseAddrPort("10.0.0.2:2"),
				State: agentapi.CTStateClosing, Flags: []string{"replied", "assured", "non-syn", "reset"}, Table: tableTCP,
				Age: time.Minute, Idle: 50 * time.Second,
			},
		},
	} {
		got := entry(tableTCP, c, &settings, &tc.key, &tc.e)
		if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

func TestFilterProblems(t *testing.T) {
	for _, tc := range []struct {
		filter agentapi.CTFilter
		err    error
		says   string
	}{
		{agentapi.CTFilter{State: "gone"}, ErrBadFilter, "established"},
		{agentapi.CTFilter{Pod: "default/nobody"}, ErrUnknownPod, "default/nobody"},
		{agentapi.CTFilter{Addr: netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 33)}, ErrBadFilter, "prefix"},
	} {
		if _, err := compile(tc.filter, testPods{}); !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v", tc.filter, err)
		}
	}
	if _, err := compile(agentapi.CTFilter{Pod: "default/a"}, noPods{}); !errors.Is(err, ErrUnknownPod) {
		t.Errorf("no pods: %v", err)
	}
}

// The kernel's comparison of masked bytes is netip's idea of a prefix.
func FuzzPrefix(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/65", "10.0.0.1/32", "::ffff:10.0.0.0/104", "fd00::1/128"} {
		p := netip.MustParsePrefix(s)
		f.Add(p.Addr().AsSlice(), p.Bits(), p.Addr().AsSlice())
		f.Add(p.Addr().AsSlice(), p.Bits(), netip.MustParseAddr("10.1.2.3").AsSlice())
	}
	f.Fuzz(func(t *testing.T, prefix []byte, bits int, addr []byte) {
		pa, ok1 := netip.AddrFromSlice(prefix)
		a, ok2 := netip.AddrFromSlice(addr)
		p := netip.PrefixFrom(pa, bits)
		if !ok1 || !ok2 || !p.IsValid() {
			return
		}
		net, mask := prefixBytes(p)
		got := true
		for i, b := range a.As16() {
			got = got && (b^net[i])&mask[i] == 0
		}
		// In 16 bytes an IPv4 prefix is one of IPv6, so both are compared as such.
		wide := netip.PrefixFrom(netip.AddrFrom16(pa.As16()), bits)
		if pa.Is4() {
			wide = netip.PrefixFrom(netip.AddrFrom16(pa.As16()), bits+mappedBits)
		}
		if want := containsSlow(wide, a.As16()); got != want {
			t.Errorf("%s in %s: %t, want %t", a, p, got, want)
		}
	})
}

// containsSlow compares bit by bit.
func containsSlow(p netip.Prefix, addr [16]byte) bool {
	net := p.Addr().As16()
	for i := range p.Bits() {
		if (net[i/8]^addr[i/8])>>(7-i%8)&1 != 0 {
			return false
		}
	}
	return true
}

func TestTop(t *testing.T) {
	entries := map[string]int{"b": 3, "a": 3, "c": 5, "d": 1}
	got := top(entries, 3)
	want := []agentapi.CTTalker{{Name: "c", Entries: 5}, {Name: "a", Entries: 3}, {Name: "b", Entries: 3}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if len(top(entries, 0)) != 4 {
		t.Error("no limit is a limit")
	}
}
