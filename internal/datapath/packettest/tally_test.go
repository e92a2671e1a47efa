package packettest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/testutil"
)

// tally checks the counters over many packets. Reading the whole metrics map
// takes longer than forty test runs, so it looks at one counter a packet, and
// wants the sum of all to be right in the end: if each packet moved the counter
// that it should by one, and no more moved in all, then each moved just that.
type tally struct {
	n             *node
	start, before map[counter]abi.CMetricsValue
	sent, bytes   uint64
}

func (n *node) newTally() (*tally, error) {
	before, err := n.counters()
	return &tally{n: n, start: maps.Clone(before), before: before}, err
}

// run sends one packet and tells by how much the counter of reason moved.
func (c *tally) run(in input, reason abi.CReason) (result, abi.CMetricsValue, error) {
	if err := c.n.refillICMP(); err != nil {
		return result{}, abi.CMetricsValue{}, err
	}
	slot := counter{hookOf(in.program), reason}
	prog := in.prelude
	if prog == nil {
		prog = c.n.loader.Program(in.program)
	}
	res, err := c.n.testRun(prog, in, 0, 1)
	if err != nil {
		return result{}, abi.CMetricsValue{}, err
	}
	c.sent++
	c.bytes += uint64(len(in.frame))
	now, err := c.n.counter(slot)
	if err != nil {
		return result{}, abi.CMetricsValue{}, err
	}
	moved := abi.CMetricsValue{Packets: now.Packets - c.before[slot].Packets, Bytes: now.Bytes - c.before[slot].Bytes}
	c.before[slot] = now
	return res, moved, nil
}

// close tells whether all counters together moved as the packets did.
func (c *tally) close() error {
	var had, has abi.CMetricsValue
	after, err := c.n.counters()
	if err != nil {
		return err
	}
	// before is up to date for each counter that was looked at, and as it was at
	// the start for the others: those must not have moved.
	for slot, v := range after {
		had.Packets += c.before[slot].Packets
		had.Bytes += c.before[slot].Bytes
		has.Packets += v.Packets
		has.Bytes += v.Bytes
	}
	if has != had {
		return fmt.Errorf("over %d packets of %d bytes, %d packets of %d bytes were counted besides",
			c.sent, c.bytes, has.Packets-had.Packets, has.Bytes-had.Bytes)
	}
	return nil
}

// closeProgram tells whether the counters of one program, and no others, moved
// by as much in all as the packets that were sent.
func (c *tally) closeProgram(hook abi.CHook) error {
	after, err := c.n.counters()
	if err != nil {
		return err
	}
	var moved, others abi.CMetricsValue
	for slot, v := range after {
		sum := &others
		if slot.hook == hook {
			sum = &moved
		}
		sum.Packets += v.Packets - c.start[slot].Packets
		sum.Bytes += v.Bytes - c.start[slot].Bytes
	}
	if want := (abi.CMetricsValue{Packets: c.sent, Bytes: c.bytes}); moved != want || others.Packets != 0 {
		return fmt.Errorf("counted %+v, other programs %+v; sent %+v", moved, others, want)
	}
	return nil
}

// counter reads one slot of the metrics map, summed over CPUs.
func (n *node) counter(c counter) (sum abi.CMetricsValue, err error) {
	values := make([]abi.CMetricsValue, ebpf.MustPossibleCPU())
	key := uint32(c.hook)*uint32(abi.CReasonREASON_COUNT) + uint32(c.reason)
	if err := n.loader.Map(datapath.MetricsMap).Table.Lookup(key, &values); err != nil {
		return sum, err
	}
	for _, v := range values {
		sum.Packets += v.Packets
		sum.Bytes += v.Bytes
	}
	return sum, nil
}

// agree sends a packet of pod p through from_pod and compares what becomes of it
// with what the oracle says; then with what holds for every packet. The caller
// is in the node's namespace.
func (c *tally) agree(p pod, frame []byte, gso uint16) error {
	in := fromPod(p, frame)
	in.gso = gso
	return c.expect(in, oracle(p, frame, int(gso)))
}

// expect is agree for a packet of which the fate is known.
func (c *tally) expect(in input, want answer) error {
	res, moved, err := c.run(in, want.reason)
	if err != nil {
		return err
	}
	if res.verdict != want.verdict || moved != (abi.CMetricsValue{Packets: 1, Bytes: uint64(len(in.frame))}) {
		return fmt.Errorf("%s, counter %d moved by %+v; the oracle says %s, and that by one packet of %d bytes",
			res.verdict, want.reason, moved, want.verdict, len(in.frame))
	}
	return soundAfterwards(in.frame, res, want)
}

// soundAfterwards looks at the packet that came out.
func soundAfterwards(in []byte, res result, want answer) error {
	switch {
	case res.verdict != redirected:
		if !slices.Equal(res.frame, in) {
			return fmt.Errorf("a packet that goes nowhere was changed:\n%s", indent(res.frame))
		}
	case want.reason == abi.CReasonREASON_FORWARDED:
		if len(res.frame) != len(in) || !slices.Equal(res.frame[ethLen+12:], in[ethLen+12:]) {
			return fmt.Errorf("a packet was changed beyond its hop count on the way:\n%s", indent(res.frame))
		}
	default:
		// An answer of ours must be sound, whatever it is about.
		if err := testutil.CheckSums(res.frame); err != nil {
			return fmt.Errorf("answer: %w:\n%s", err, indent(res.frame))
		}
	}
	return nil
}
