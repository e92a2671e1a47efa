package packettest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
)

// Fields of struct __sk_buff, as indices of 32-bit words.
const (
	ctxIngress = 9
	ctxIfindex = 10
	ctxCB      = 12
	ctxGSOSize = 44
	ctxWords   = 48
)

// verdict is what a program returned.
type verdict int32

const (
	pass       verdict = -1 // TC_ACT_UNSPEC
	shot       verdict = 2  // TC_ACT_SHOT
	redirected verdict = 7  // TC_ACT_REDIRECT
)

func (v verdict) String() string {
	switch v {
	case pass:
		return "pass"
	case shot:
		return "drop"
	case redirected:
		return "redirect"
	}
	return fmt.Sprintf("verdict %d", int32(v))
}

// input is a packet and what comes with it.
type input struct {
	program string
	device  string // that the packet came in by, or leaves by
	ingress string // of a packet that leaves, the device it came in by; "": none, it is the node's own
	frame   []byte
	gso     uint16        // bytes of a segment; 0: a single packet
	prelude *ebpf.Program // what leads to the program; nil: nothing
}

// result is what became of a packet.
type result struct {
	verdict verdict
	frame   []byte
	moved   map[counter]abi.CMetricsValue
}

// checksumComplete makes the kernel treat the packet as one whose sum the
// hardware computed, and check afterwards that the sum still fits the packet.
const checksumComplete = 1 << 2

// run sends one packet through its program.
func (n *node) run(t testing.TB, in input, flags uint32) (result, error) {
	t.Helper()
	var res result
	var err error
	n.ns.Do(t, func() { res, err = n.runHere(in, flags) })
	return res, err
}

// runHere is run for a caller that is in the node's namespace already.
func (n *node) runHere(in input, flags uint32) (result, error) {
	if err := n.refillICMP(); err != nil {
		return result{}, err
	}
	before, err := n.counters()
	if err != nil {
		return result{}, err
	}
	prog := in.prelude
	if prog == nil {
		prog = n.loader.Program(in.program)
	}
	res, err := n.testRun(prog, in, flags, 1)
	if err != nil {
		return result{}, err
	}
	after, err := n.counters()
	if err != nil {
		return result{}, err
	}
	res.moved = map[counter]abi.CMetricsValue{}
	for c, v := range after {
		if v != before[c] {
			res.moved[c] = abi.CMetricsValue{Packets: v.Packets - before[c].Packets, Bytes: v.Bytes - before[c].Bytes}
		}
	}
	return res, nil
}

// testRun calls the kernel and leaves counters and allowances alone.
func (n *node) testRun(prog *ebpf.Program, in input, flags, repeat uint32) (result, error) {
	var ctx [ctxWords]uint32
	ctx[ctxIfindex] = uint32(n.index[in.device])
	ctx[ctxIngress] = uint32(n.index[in.ingress]) // 0 for none
	ctx[ctxGSOSize] = uint32(in.gso)
	data := in.frame
	if prog == n.loader.Program(in.program) && !testable(data) {
		prog = n.cut[in.program]
		ctx[ctxCB] = uint32(len(data))
		data = append(append([]byte(nil), data...), make([]byte, ethLen+ip6Len)...)
	}
	opts := ebpf.RunOptions{
		Data: data, DataOut: make([]byte, len(in.frame)+256), Context: ctx, Repeat: repeat, Flags: flags,
	}
	ret, err := prog.Run(&opts)
	if err != nil {
		return result{}, fmt.Errorf("run %s on % x (first of %d bytes): %w",
			in.program, in.frame[:min(len(in.frame), 64)], len(in.frame), err)
	}
	return result{verdict: verdict(int32(ret)), frame: opts.DataOut}, nil
}

// testable tells whether the kernel tests programs on such a frame as it is.
func testable(frame []byte) bool {
	switch kind := binary.BigEndian.Uint16(frame[12:]); kind {
	case 0x0800:
		return len(frame) >= ethLen+ip4Len
	case 0x86dd:
		return len(frame) >= ethLen+ip6Len
	default:
		return len(frame) > ethLen
	}
}

// watch sends the packet through the watched copy of its program, which must do
// as the program did, and tells the redirect that it asked for.
func (n *node) watch(t testing.TB, in input, res result) redirect {
	t.Helper()
	if err := errors.Join(n.watched.forget(), n.refillICMP()); err != nil {
		t.Fatal(err)
	}
	var got result
	var err error
	n.ns.Do(t, func() { got, err = n.testRun(n.watched.programs[in.program], in, 0, 1) })
	if err != nil {
		t.Fatal(err)
	}
	if got.verdict != res.verdict || !bytes.Equal(got.frame, res.frame) {
		t.Errorf("the watched copy: %s\n%s\nthe program: %s\n%s", got.verdict, indent(got.frame), res.verdict, indent(res.frame))
	}
	r, err := n.watched.noted()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hookOf gives the program's index in the metrics map.
func hookOf(program string) abi.CHook {
	return map[string]abi.CHook{
		loader.FromPod: abi.CHookHOOK_FROM_POD, loader.FromNetdev: abi.CHookHOOK_FROM_NETDEV,
		loader.ToNetdev: abi.CHookHOOK_TO_NETDEV, loader.FromOverlay: abi.CHookHOOK_FROM_OVERLAY,
		loader.ToOverlay: abi.CHookHOOK_TO_OVERLAY, loader.ToPod: abi.CHookHOOK_TO_POD,
	}[program]
}

// countedOnce tells which counter moved. The error says if it was not exactly
// one, of the program, by one packet and the packet's length as it came.
func countedOnce(in input, res result) (abi.CReason, error) {
	if len(res.moved) != 1 {
		return 0, fmt.Errorf("%d counters moved, want 1: %v", len(res.moved), res.moved)
	}
	for c, v := range res.moved {
		if c.hook != hookOf(in.program) || v.Packets != 1 || v.Bytes != uint64(len(in.frame)) {
			return 0, fmt.Errorf("counter %v moved by %v, want one of %s by 1 packet of %d bytes",
				c, v, in.program, len(in.frame))
		}
		return c.reason, nil
	}
	return 0, nil
}

// row is one packet's story.
type row struct {
	name string
	input
	verdict verdict
	reason  abi.CReason
	to      target // of a redirect
	out     []byte // nil: as it came in
}

// target is where a redirect should go.
type target struct {
	way     way
	device  string
	nextHop string // byNeighbour
}

// check runs the rows, each as a test of its own.
func (n *node) check(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			n.checkRow(t, r, 0)
			if r.verdict == redirected && r.reason != abi.CReasonREASON_ANSWERED && r.prelude == nil && !trimmed(r) {
				n.checkRow(t, r, checksumComplete)
			}
		})
	}
}

// trimmed tells whether the packet lost its tail. The kernel then forgets its
// sum, which is right, but the check for a sum that fits does not know of it.
func trimmed(r row) bool {
	headers := ip4Len + 8
	if r.frame[ethLen]>>4 == 6 {
		headers = ip6Len + 8
	}
	return r.reason != abi.CReasonREASON_FORWARDED && len(r.out) != len(r.frame)+headers
}

func (n *node) checkRow(t *testing.T, r row, flags uint32) {
	t.Helper()
	res, err := n.run(t, r.input, flags)
	if err != nil {
		t.Fatalf("flags %d: %v", flags, err)
	}
	reason, err := countedOnce(r.input, res)
	if err != nil {
		t.Error(err)
	}
	if res.verdict != r.verdict || reason != r.reason {
		t.Errorf("%s, counted as %d; want %s, counted as %d", res.verdict, reason, r.verdict, r.reason)
	}
	out := r.out
	if out == nil {
		out = r.frame
	}
	if !bytes.Equal(res.frame, out) {
		t.Errorf("packet out:\n%s\nwant:\n%s", indent(res.frame), indent(out))
	}
	if r.prelude != nil || !testable(r.frame) {
		return
	}
	got, want := n.watch(t, r.input, res), redirect{way: r.to.way}
	if want.way != notRedirected {
		want.device = uint32(n.index[r.to.device])
	}
	if r.to.nextHop != "" {
		want.nextHop = netip.MustParseAddr(r.to.nextHop)
	}
	if got != want {
		t.Errorf("redirect %+v, want %+v (%+v)", got, want, r.to)
	}
}

// indent prints a frame, or the beginning of a long one.
func indent(frame []byte) string {
	const most = 512
	text := strings.TrimSpace(hex.Dump(frame[:min(len(frame), most)]))
	if len(frame) > most {
		text += fmt.Sprintf("\n... %d bytes in all", len(frame))
	}
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}
