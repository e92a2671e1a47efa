package packets

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
)

// side is one end of a conversation as the node sees it: the program that its
// packets pass, on which device, and a packet of it.
type side struct {
	program string // by its pin
	ifindex int
	vni     uint32
	frame   frame
}

// sending returns the side with its packet at another place of the connection.
func (s side) sending(g segment) side {
	s.frame.segment = g
	return s
}

// target opens the side's program. The caller closes it.
func (s side) target(f flows) (target, error) {
	t := target{attach: ebpf.AttachTCXIngress, vni: s.vni, flows: f}
	if strings.HasPrefix(s.program, "to_") {
		t.attach = ebpf.AttachTCXEgress
	}
	var err error
	if t.program, err = ebpf.LoadPinnedProgram(node.Root+"/programs/"+s.program, nil); err != nil {
		return t, fmt.Errorf("open program %s: %w", s.program, err)
	}
	return t, nil
}

// speak runs the side's program on its packet, as often as there are flows.
func (s side) speak(f flows) error {
	t, err := s.target(f)
	if err != nil {
		return err
	}
	defer func() { _ = t.program.Close() }()
	return s.say(t)
}

// say runs an open program on the side's packet.
func (s side) say(t target) error {
	b, err := s.frame.bytes()
	if err != nil {
		return err
	}
	r := &runner{restore: t.program, frame: b, context: skb{IfIndex: uint32(s.ifindex)}, close: func() {}}
	if t.vni != 0 || t.flows.count > 0 {
		if r, err = newRunner(t, s.ifindex, [][]byte{b}); err != nil {
			return err
		}
	}
	defer r.close()
	verdict, _, err := r.run(max(1, t.flows.count))
	if err != nil {
		return err
	}
	if verdict == verdictDrop {
		return fmt.Errorf("%s dropped a packet from %s to %s", s.program, s.frame.src, s.frame.dst)
	}
	return nil
}

// talk is a TCP connection between two sides; the first one began it.
type talk struct{ there, back side }

// open shakes hands by way of the programs themselves, and looks for the entries
// that they must have made: one, or one for each of the flows.
func (t talk) open(f flows) error {
	reply := f
	reply.reply = true
	for _, step := range []struct {
		side  side
		flows flows
	}{
		{t.there.sending(opening), f}, {t.back.sending(answer), reply}, {t.there.sending(data), f},
	} {
		if err := step.side.speak(step.flows); err != nil {
			return fmt.Errorf("open a connection: %w", err)
		}
	}
	return t.established(f)
}

// established looks for the entries of the connection's flows.
func (t talk) established(f flows) error {
	table, err := node.OpenTable(datapath.CTTCPMap)
	if err != nil {
		return err
	}
	defer func() { _ = table.Close() }()
	for i := range max(1, f.count) {
		src, dst := t.there.frame.src, t.there.frame.dst
		if f.count > 0 {
			src, dst = flowPorts(src.Addr(), dst.Addr(), i, f.target)
		}
		key := node.FlowKey(src, dst)
		var e abi.CCtEntry
		if err := table.Lookup(&key, &e); err != nil {
			return fmt.Errorf("look for the established flow from %s to %s: %w", src, dst, err)
		}
	}
	return nil
}

// flowBits are FLOW_BITS of bench.bpf.c.
const flowBits = 14

// flowPorts gives the ends of a flow by its number, as bench.bpf.c numbers them.
func flowPorts(src, dst netip.Addr, number uint32, target uint16) (from, to netip.AddrPort) {
	const first = 1 << flowBits
	return netip.AddrPortFrom(src, first|uint16(number&(first-1))), netip.AddrPortFrom(dst, target+uint16(number>>flowBits))
}
