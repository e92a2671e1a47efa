package packettest

import "testing"

// suite is what is tested on one node: making a node takes longer than most of
// the tests on it.
type suite []struct {
	name string
	test func(*testing.T, *node)
}

func (s suite) run(t *testing.T, o options) {
	t.Helper()
	n := newNode(t, o)
	for _, c := range s {
		t.Run(c.name, func(t *testing.T) { c.test(t, n) })
	}
}

func TestNative(t *testing.T) {
	suite{
		{"FromPodToPod", testFromPodToPod},
		{"FromPodChecksumCorners", testFromPodChecksumCorners},
		{"FromPodToNetwork", testFromPodToNetwork},
		{"FromPodSource", testFromPodSource},
		{"FromPodOtherFrames", testFromPodOtherFrames},
		{"ARP", testARP},
		{"NeighbourSolicitation", testNeighbourSolicitation},
		{"TimeExceeded", testTimeExceeded},
		{"TimeExceededLengths", testTimeExceededLengths},
		{"ICMPErrorDecodes", testICMPErrorDecodes},
		{"TooBig", testTooBig},
		{"SegmentTrains", testSegmentTrains},
		{"Unreachable", testUnreachable},
		{"ICMPRateLimit", testICMPRateLimit},
		{"NoErrorToOddSources", testNoErrorToOddSources},
		{"FromNetdev", testFromNetdev},
		{"ToNetdev", testToNetdev},
		{"Truncated", testTruncated},
		{"HeaderFields", testHeaderFields},
		{"LengthFields", testLengthFields},
		{"RandomPackets", testRandomPackets},
	}.run(t, options{})
}

// With a default route everything has a way on, and what no router may pass on
// must be stopped before.
func TestDefaultRoute(t *testing.T) {
	suite{
		{"FromPodDefaultRoute", testFromPodDefaultRoute},
		{"FromPodOnLink", testFromPodOnLink},
	}.run(t, options{defaultRoute: true})
}

func TestTunnel(t *testing.T) {
	suite{
		{"FromPodTunnel", testFromPodTunnel},
		{"TooBigTunnel", testTooBigTunnel},
		{"FromOverlay", testFromOverlay},
		{"ToOverlay", testToOverlay},
		{"MalformedElsewhere", testMalformedElsewhere},
	}.run(t, options{tunnel: true, defaultRoute: true})
}

func TestTunnelOverIPv6(t *testing.T) {
	suite{
		{"FromOverlay", testFromOverlay},
		{"ToOverlay", testToOverlay},
	}.run(t, options{tunnel: true, underlay6: true})
}
