package e2e

import (
	"fmt"
	"testing"
)

const (
	ingressMbit, egressMbit = 40, 20
	// What iperf3 sees is without headers; a bucket may be full at the start.
	bandwidthLow, bandwidthHigh = 0.80, 1.15
)

// iperfResult is what `iperf3 -J` tells.
type iperfResult struct {
	End struct {
		Received struct {
			BitsPerSecond float64 `json:"bits_per_second"`
		} `json:"sum_received"`
	} `json:"end"`
}

// testBandwidth shows that the annotations limit a pod, and no other.
func (l *lab) testBandwidth(t *testing.T, c cast) {
	limited := l.startPods(t, serverPod("limited", c.a.node.name, map[string]string{
		"kubernetes.io/ingress-bandwidth": fmt.Sprintf("%dM", ingressMbit),
		"kubernetes.io/egress-bandwidth":  fmt.Sprintf("%dM", egressMbit),
	}))[0]
	for f, peer := range []pod{ipv4: c.sibling, ipv6: c.far} {
		f := family(f)
		wantRate(t, fmt.Sprintf("%s to the limited pod over %s", peer.name, f), l.iperf(t, peer, limited, f), ingressMbit)
		wantRate(t, fmt.Sprintf("the limited pod to %s over %s", peer.name, f), l.iperf(t, limited, peer, f), egressMbit)
	}
	if free := l.iperf(t, c.a, c.far, ipv4); free < 2*ingressMbit {
		t.Errorf("a pod without limits sends %.1f Mbit/s: it is limited too", free)
	}
}

// iperf measures the rate in Mbit/s from one pod to another.
func (l *lab) iperf(t *testing.T, from, to pod, f family) float64 {
	t.Helper()
	var r iperfResult
	decode(t, l.in(t, from, "iperf3", "-J", "-t", "2", "-O", "1", "-c", to.addrs[f].String()), &r)
	return r.End.Received.BitsPerSecond / 1e6
}

func wantRate(t *testing.T, what string, got, limit float64) {
	t.Helper()
	t.Logf("%s: %.1f Mbit/s, limit %g", what, got, limit)
	if got < bandwidthLow*limit || got > bandwidthHigh*limit {
		t.Errorf("%s: %.1f Mbit/s, want %.1f to %.1f", what, got, bandwidthLow*limit, bandwidthHigh*limit)
	}
}
