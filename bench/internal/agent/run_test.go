package agent

import (
	"slices"
	"testing"
)

func TestNodesReady(t *testing.T) {
	text := "[ 12.1] n2 is Ready, 812 ms after its agent started\n[ 12.3] n1 is Ready\n[ 12.4] n3 is Ready, 1020 ms after its agent started\n"
	if got := nodesReady(text); !slices.Equal(got, []float64{812, 1020}) {
		t.Errorf("nodesReady = %v, want [812 1020]", got)
	}
}
