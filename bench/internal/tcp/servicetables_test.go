package tcp

import (
	"strings"
	"testing"
	"time"

	"github.com/placid-net/placid/bench/internal/kubeproxy"
)

func TestServicesTables(t *testing.T) {
	r := ServicesReport{
		Spec: ServicesSpec{Counts: []int{10, 1000}, Rounds: 3, Duration: time.Second},
		Samples: []ServiceSample{
			{PathRaw, 10, TargetPod, []float64{50, 100, 50}, []float64{90, 90, 90}},
			{PathPackets, 10, TargetLast, []float64{55, 105, 54}, []float64{99, 99, 99}},
			{PathIPTables, 1000, TargetFirst, []float64{80, 80, 80}, []float64{200, 200, 200}},
		},
		Syncs: []Sync{{PathNFTables, 1000, kubeproxy.Usage{Took: 2500 * time.Millisecond, CPU: time.Second, RSS: 80.4}}},
	}
	var text strings.Builder
	for _, table := range ServicesTables(r) {
		for _, row := range table.Rows {
			if len(row) != len(table.Head) {
				t.Errorf("row %q has %d cells, its head %d", row[0], len(row), len(table.Head))
			}
		}
		text.WriteString(table.Markdown())
	}
	for _, want := range []string{
		"| veth pair | 50 / 90 |", "| Placid, packets translated | – | – | 55 / 99 |", "| Placid, packets translated | – | – | 1.08 |",
		"80 / 200", "| kube-proxy, nftables | – | – | – | 2.5 | 1.0 | 80 |",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, text.String())
		}
	}
}
