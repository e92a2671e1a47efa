package agent

import "testing"

func TestLogged(t *testing.T) {
	for line, want := range map[string]float64{
		`time=2030-01-02T03:04:05.000Z level=INFO msg="programs attached" after=123.5ms`: 123.5,
		`level=INFO msg="ready for pods" after=1.25s x=y`:                                1250,
		`level=INFO msg="ready for pods"`:                                                0,
	} {
		if got := logged(line); got != want {
			t.Errorf("%s: %v ms, want %v", line, got, want)
		}
	}
}

func TestStatusMiB(t *testing.T) {
	status := "Name:\tplacid-agent\nVmRSS:\t   61440 kB\nRssAnon:\t   20480 kB\n"
	if got := statusMiB(status, "VmRSS:"); got != 60 {
		t.Errorf("VmRSS is %v MiB, want 60", got)
	}
	if got := statusMiB(status, "VmSwap:"); got != 0 {
		t.Errorf("a key that is absent is %v, want 0", got)
	}
}

func TestSumOf(t *testing.T) {
	metrics := `# HELP placid_cni_duration_seconds Time.
placid_cni_duration_seconds_bucket{operation="ADD",outcome="success",le="1"} 3
placid_cni_duration_seconds_sum{operation="ADD",outcome="fail"} 0.5
placid_cni_duration_seconds_sum{operation="ADD",outcome="success"} 0.25
placid_cni_duration_seconds_sum{operation="DEL",outcome="success"} 7
`
	if got := sumOf(metrics, "ADD"); got != 750 {
		t.Errorf("sum of ADD is %v ms, want 750", got)
	}
	if got := sumOf(metrics, "GC"); got != 0 {
		t.Errorf("sum of GC is %v ms, want 0", got)
	}
}
