package cli

import "testing"

// TestPlanGolden needs no agent: it is asked of a socket that nobody serves.
func TestPlanGolden(t *testing.T) {
	golden(t, []goldenCase{
		{"plan-sizes", unreachableAgent(), "plan sizes --memory 16GiB", ExitOK},
		{"plan-sizes-minimum", unreachableAgent(), "plan sizes --memory 7.5GiB", ExitOK},
		{"plan-sizes-large", unreachableAgent(), "plan sizes --memory 240GiB", ExitOK},
		{"plan-sizes-static", unreachableAgent(), "plan sizes --memory 16GiB --ratio 0", ExitOK},
		{"plan-sizes-set", unreachableAgent(), "plan sizes --memory 30GiB --ratio 0.003 --set bpf-ct-global-tcp-max=2048 --set bpf-ct-global-any-max=1024", ExitOK},
		{"plan-sizes-json", unreachableAgent(), "plan sizes --memory 16GiB --set bpf-lb-map-max=1000 -o json", ExitOK},
		{"plan-sizes-nat", unreachableAgent(), "plan sizes --memory 16GiB --set bpf-nat-global-max=500000", ExitFailed},
		{"plan-sizes-bad", unreachableAgent(), "plan sizes --memory 16GiB --ratio 2 --set bpf-ct-global-tcp-max=17", ExitFailed},
		{"plan-sizes-unknown", unreachableAgent(), "plan sizes --memory 16GiB --set bpf-ct-max=17000", ExitFailed},
		{"plan-sizes-nomemory", unreachableAgent(), "plan sizes", ExitUsage},
		{"plan-sizes-badmemory", unreachableAgent(), "plan sizes --memory lots", ExitUsage},
		{"plan-sizes-badset", unreachableAgent(), "plan sizes --memory 16GiB --set bpf-ct-global-tcp-max", ExitUsage},
		{"plan-sizes-twice", unreachableAgent(), "plan sizes --memory 16GiB --set bpf-lb-map-max=1 --set bpf-lb-map-max=2", ExitUsage},
	})
}
