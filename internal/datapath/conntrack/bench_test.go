package conntrack

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// benchEntries fill the table of the benchmarks.
const benchEntries = 1 << 20

// BenchmarkCollect reports the CPU time of a pass over a million entries, by the
// share of them that has expired.
func BenchmarkCollect(b *testing.B) {
	for _, percent := range []int{0, 10, 50} {
		b.Run(fmt.Sprintf("expired=%d%%", percent), func(b *testing.B) {
			f := newFixture(b, benchEntries)
			old, every := f.ago(secondsTCP+10), 0
			if percent > 0 {
				every = 100 / percent
			}
			f.fill(tableTCP, 0, benchEntries, every, old)
			var cpu time.Duration
			for b.Loop() {
				b.StopTimer()
				f.fill(tableTCP, 0, benchEntries, every, old)
				b.StartTimer()
				r := f.collect()
				cpu += r.CPU
			}
			b.ReportMetric(float64(cpu.Milliseconds())/float64(b.N)*1e6/benchEntries, "cpu-ms/Mentries")
		})
	}
}

// BenchmarkFullest reports the CPU time of a pass over a million entries that have
// not expired, and for how much of that source ports are counted, by the share of
// entries that take one.
func BenchmarkFullest(b *testing.B) {
	for _, percent := range []int{0, 10, 50} {
		b.Run(fmt.Sprintf("masqueraded=%d%%", percent), func(b *testing.B) {
			f := newFixture(b, benchEntries)
			f.fill(tableTCP, 0, benchEntries/100*(100-percent), 0, 0)
			f.fillMasqueraded(benchEntries / 100 * percent)
			plain := f.collect().CPU
			f.cfg.Sources = Sources{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Ports: 29000}
			var cpu time.Duration
			for b.Loop() {
				cpu += f.collect().CPU
			}
			cpu /= time.Duration(b.N)
			b.ReportMetric(float64(cpu.Milliseconds()), "cpu-ms")
			b.ReportMetric(float64((cpu - plain).Milliseconds()), "ports-ms")
		})
	}
}

// fillMasqueraded puts n entries into the table of TCP that take source ports
// towards some thousands of destinations.
func (f *fixture) fillMasqueraded(n int) {
	f.t.Helper()
	keys, entries := make([]abi.CCtKey, n), make([]abi.CCtEntry, n)
	now := f.jiffies()
	for i := range n {
		keys[i] = flowKey(unix.IPPROTO_TCP, "192.0.2.1:0", fmt.Sprintf("198.51.%d.%d:443", i>>8&0xf, i&0xff))
		keys[i].Port[0] = netorder.Port(uint16(1024 + i>>12))
		entries[i] = f.seen(now, established|abi.CCtFlagsCT_NAT|abi.CCtFlagsCT_NAT_SIDE)
	}
	if _, err := f.inner[tableTCP].BatchUpdate(keys, entries, nil); n > 0 && err != nil {
		f.t.Fatal(err)
	}
}

// BenchmarkStep reports how long single steps of a pass take: for as long nothing
// of lower priority than the kernel runs on that CPU.
func BenchmarkStep(b *testing.B) {
	f := newFixture(b, benchEntries)
	f.fill(tableTCP, 0, benchEntries, 10, f.ago(secondsTCP+10))
	var longest, sum time.Duration
	steps := 0
	for b.Loop() {
		tables, err := f.prepare()
		if err != nil {
			b.Fatal(err)
		}
		p := pace{begin: time.Now()}
		for _, t := range tables {
			if err := t.walker.reset(bpf.TablesCtFilter{}); err != nil {
				b.Fatal(err)
			}
			var buf [1]byte
			err := walk(b.Context(), t.walker, t.table, buf[:], func(read func() (int, error)) error {
				took, err := f.step(read)
				longest, sum, steps = max(longest, took), sum+took, steps+1
				if err != nil {
					return err
				}
				return p.rest(b.Context(), took)
			})
			if err != nil {
				b.Fatal(err)
			}
			_ = t.Close()
		}
	}
	b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
	b.ReportMetric(float64(sum.Microseconds())/float64(steps), "mean-µs")
}

// BenchmarkList lists a million entries, all or a few of them.
func BenchmarkList(b *testing.B) {
	f := newFixture(b, benchEntries)
	f.fill(tableTCP, 0, benchEntries, 0, 0)
	for name, filter := range map[string]agentapi.CTFilter{
		"all": {}, "limit=100": {Limit: 100}, "port": {Port: 1024}, "none": {Port: 1},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := f.List(b.Context(), filter); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("top", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.Top(b.Context(), agentapi.CTTopSource, 10); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCount counts all tables.
func BenchmarkCount(b *testing.B) {
	f := newFixture(b, benchEntries)
	f.fill(tableTCP, 0, benchEntries, 0, 0)
	counts, err := f.counter()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		entries, _, err := counts.Count()
		if err != nil || entries[bpf.TablesMapCtTcpMap] > math.MaxInt32 {
			b.Fatal(err)
		}
	}
}

// BenchmarkFlushNone walks a million entries and loads nothing anew.
func BenchmarkFlushNone(b *testing.B) {
	f := newFixture(b, benchEntries)
	f.fill(tableTCP, 0, benchEntries, 0, 0)
	for b.Loop() {
		if _, err := f.Flush(b.Context(), agentapi.CTFilter{Port: 1}); err != nil {
			b.Fatal(err)
		}
	}
}
