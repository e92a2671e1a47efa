package kubeproxy

import (
	"testing"
	"time"
)

func TestCPUTime(t *testing.T) {
	stat := "42 (a (b) c) S 1 42 42 0 -1 4194560 2086 0 0 0 150 50 30 20 20 0 9 0 100 0 0"
	if got := cpuTime(stat); got != 2500*time.Millisecond {
		t.Errorf("cpuTime = %s, want 2.5s", got)
	}
	if got := cpuTime("42 (a) S"); got != 0 {
		t.Errorf("cpuTime of a short text = %s, want 0", got)
	}
}

func TestLink(t *testing.T) {
	control, node := link(7)
	if control.Masked() != node.Masked() || control.Addr() == node.Addr() {
		t.Errorf("the ends of a link are %s and %s", control, node)
	}
	if other, _ := link(8); other.Masked() == control.Masked() {
		t.Errorf("two links have %s", other)
	}
}
