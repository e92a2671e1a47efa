package agent

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/placid-net/placid/internal/datapath/conntrack"
)

func TestSourcePortMetrics(t *testing.T) {
	series := func(st conntrack.Stats) map[string]float64 {
		out := map[string]float64{}
		collectSourcePorts(st, func(d *prometheus.Desc, v float64, labels ...string) {
			name := regexp.MustCompile(`fqName: "(.+?)"`).FindStringSubmatch(d.String())[1]
			out[strings.Join(append([]string{name}, labels...), " ")] = v
		})
		return out
	}
	fill := func(to string, proto uint8, used int) conntrack.Fill {
		return conntrack.Fill{Destination: netip.MustParseAddrPort(to), Proto: proto, Used: used}
	}
	got := series(conntrack.Stats{SourcePorts: 28976, Fullest: []conntrack.Fill{
		fill("198.51.100.1:443", 6, 28976), fill("[2001:db8::1]:53", 17, 40), fill("198.51.100.1:0", 1, 3), fill("[2001:db8::1]:0", 58, 2),
	}})
	want := map[string]float64{
		"placid_nat_source_ports":                           28976,
		"placid_nat_source_ports_used 198.51.100.1:443 TCP": 28976, "placid_nat_source_ports_used [2001:db8::1]:53 UDP": 40,
		"placid_nat_source_ports_used 198.51.100.1:0 ICMP": 3, "placid_nat_source_ports_used [2001:db8::1]:0 ICMPv6": 2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	if got := series(conntrack.Stats{}); len(got) != 0 {
		t.Errorf("a node that masquerades nothing has the series %v", got)
	}
}
