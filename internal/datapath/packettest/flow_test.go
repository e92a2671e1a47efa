package packettest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// Protocols of flows.
const (
	overTCP    = layers.IPProtocolTCP
	overUDP    = layers.IPProtocolUDP
	overSCTP   = layers.IPProtocolSCTP
	overICMP   = layers.IPProtocolICMPv4
	overICMPv6 = layers.IPProtocolICMPv6
	overGRE    = layers.IPProtocolGRE // any one that has no ports
)

// talk is two parties and what they speak. Side a begins.
type talk struct {
	proto layers.IPProtocol
	a, b  netip.AddrPort // of ICMP echo: the identifier is a's port
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// back is the talk as its other side would begin it.
func (k talk) back() talk { return talk{k.proto, k.b, k.a} }

// from gives another talk of the same parties, with another port of a's.
func (k talk) from(port uint16) talk {
	k.a = at(k.a.Addr(), port)
	return k
}

func (k talk) String() string { return fmt.Sprintf("%s %s %s", k.proto, k.a, k.b) }

// hasPorts tells whether the protocol has two of them.
func (k talk) hasPorts() bool {
	return k.proto == overTCP || k.proto == overUDP || k.proto == overSCTP
}

// layers4 is what a says to b, or with answer, b to a. flags are those of TCP, a
// letter each.
func (k talk) layers4(flags string, answer bool) []gopacket.SerializableLayer {
	sport, dport := k.a.Port(), k.b.Port()
	if answer {
		sport, dport = dport, sport
	}
	data := gopacket.Payload("placid")
	switch k.proto {
	case overTCP:
		has := func(letter string) bool { return strings.Contains(flags, letter) }
		return []gopacket.SerializableLayer{&layers.TCP{
			SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Window: 64240,
			SYN: has("S"), ACK: has("A"), FIN: has("F"), RST: has("R"), PSH: has("P"),
		}, data}
	case overUDP:
		return []gopacket.SerializableLayer{&layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}, data}
	case overSCTP:
		return []gopacket.SerializableLayer{
			&layers.SCTP{SrcPort: layers.SCTPPort(sport), DstPort: layers.SCTPPort(dport), VerificationTag: 1}, data,
		}
	case overICMP, overICMPv6:
		return k.echo(answer)
	default:
		return []gopacket.SerializableLayer{data}
	}
}

func (k talk) echo(answer bool) []gopacket.SerializableLayer {
	kind := map[bool]uint8{false: 8, true: 0}[answer]
	if k.proto == overICMP {
		return []gopacket.SerializableLayer{
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: k.a.Port(), Seq: 1}, gopacket.Payload("placid"),
		}
	}
	rest := binary.BigEndian.AppendUint16(nil, k.a.Port())
	kind = map[bool]uint8{false: 128, true: 129}[answer]
	return []gopacket.SerializableLayer{
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}, gopacket.Payload(append(rest, "\x00\x01placid"...)),
	}
}

// says is the packet of a, answers the packet of b.
func (k talk) says(t testing.TB, n *node, flags string) input {
	t.Helper()
	return n.carry(t, k.proto, k.a.Addr(), k.b.Addr(), k.layers4(flags, false)...)
}

func (k talk) answers(t testing.TB, n *node, flags string) input {
	t.Helper()
	return n.carry(t, k.proto, k.b.Addr(), k.a.Addr(), k.layers4(flags, true)...)
}

func podOf(a netip.Addr) *pod {
	for i, p := range pods {
		if a == p.ip4 || a == p.ip6 {
			return &pods[i]
		}
	}
	return nil
}

func isNode(a netip.Addr) bool { return a == node4 || a == node6 }

// carry puts a packet where the node sees it first: at the pod that sends it, at
// the pod that the node itself sends it to, in the tunnel, or on the wire.
func (n *node) carry(t testing.TB, proto layers.IPProtocol, src, dst netip.Addr, l4 ...gopacket.SerializableLayer) input {
	t.Helper()
	frame := func(eth *layers.Ethernet) []byte {
		if src.Is4() {
			return packet4(t, eth, src, dst, func(ip *layers.IPv4) { ip.Protocol = proto; dontFragment(ip) }, l4...)
		}
		return packet6(t, eth, src, dst, next6(proto), l4...)
	}
	if p := podOf(src); p != nil {
		return fromPod(*p, frame(p.ether(0)))
	}
	if isNode(src) {
		return toPod(*podOf(dst), "", frame(&layers.Ethernet{SrcMAC: routerMAC, DstMAC: podOf(dst).mac}))
	}
	if n.cfg.Tunnel != 0 && (remoteRange4.Contains(src) || remoteRange6.Contains(src)) {
		return input{program: loader.FromOverlay, device: overlayDevice, prelude: n.tunnelled, frame: frame(fromTunnel())}
	}
	return fromNetdev(frame(fromWire()))
}

// toPod is a packet that the node's stack sends to the pod; ingress names the
// device that it came in by, "" if the node made it.
func toPod(p pod, ingress string, frame []byte) input {
	return input{program: loader.ToPod, device: p.device, ingress: ingress, frame: frame}
}

// fate is what became of a packet, and what was counted besides.
type fate struct {
	reason abi.CReason
	marks  []abi.CReason
	frame  []byte
}

// passed tells whether the packet went on.
func (f fate) passed() bool { return f.reason < abi.CReasonREASON_FIRST_DROP }

func (f fate) String() string { return fmt.Sprintf("reason %d, marks %v", f.reason, f.marks) }

// isMark tells whether a reason is counted beside what became of a packet.
func isMark(r abi.CReason) bool {
	return r == abi.CReasonREASON_AUDITED || r == abi.CReasonREASON_CT_FULL || r == abi.CReasonREASON_CT_RACED
}

// send runs one packet through its program, and checks that the verdict is the
// one that it was counted as.
func (n *node) send(t testing.TB, in input) fate {
	t.Helper()
	res, err := n.run(t, in, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := fate{frame: res.frame}
	for c, v := range res.moved {
		if isMark(c.reason) && c.hook == hookOf(in.program) && v.Packets == 1 {
			f.marks = append(f.marks, c.reason)
			delete(res.moved, c)
		}
	}
	slices.Sort(f.marks)
	if f.reason, err = countedOnce(in, res); err != nil {
		t.Fatal(err)
	}
	if f.passed() == (res.verdict == shot) {
		t.Fatalf("%s, counted as %d", res.verdict, f.reason)
	}
	return f
}

// passes and drops are send for a packet of which the fate is known.
func (n *node) passes(t testing.TB, what string, in input) fate {
	t.Helper()
	f := n.send(t, in)
	if !f.passed() || len(f.marks) > 0 {
		t.Errorf("%s: %s; want it to pass", what, f)
	}
	return f
}

func (n *node) drops(t testing.TB, what string, reason abi.CReason, in input) {
	t.Helper()
	if f := n.send(t, in); f.reason != reason || len(f.marks) > 0 {
		t.Errorf("%s: %s; want drop %d", what, f, reason)
	}
}

// Tables that a flow may be in.
const (
	nowhere   = "no table"
	embryonic = datapath.CTNewMap
	tcpTable  = datapath.CTTCPMap
	anyTable  = datapath.CTAnyMap
)

// settled is the table of a protocol's established flows.
func (k talk) settled() string {
	if k.proto == overTCP {
		return tcpTable
	}
	return anyTable
}

// record is a flow as a table holds it.
type record struct {
	table string
	key   abi.CCtKey
	a     int // the side of the key that is the talk's a
	abi.CCtEntry
}

// flags gives the lower half of the state, without the bit that says which side
// of the key began.
func (r record) flags() abi.CCtFlags {
	return abi.CCtFlags(uint32(r.State)) &^ abi.CCtFlagsCT_ORIGIN
}

// byA tells whether the entry has a as the one who began.
func (r record) byA() bool { return int(r.State&uint64(abi.CCtFlagsCT_ORIGIN)) == r.a }

// keys are the two forms that the key of a talk may have. Which one it is, is
// not part of the contract.
func (k talk) keys() (keys [2]abi.CCtKey) {
	ends := [2]netip.AddrPort{k.a, k.b}
	if !k.hasPorts() && k.proto != overICMP && k.proto != overICMPv6 {
		ends = [2]netip.AddrPort{at(k.a.Addr(), 0), at(k.b.Addr(), 0)}
	}
	if k.proto == overICMP || k.proto == overICMPv6 {
		ends[1] = at(k.b.Addr(), 0)
	}
	for i := range keys {
		keys[i].Proto = uint8(k.proto)
		for side := range 2 {
			end := ends[i^side]
			keys[i].Addr[side], keys[i].Port[side] = netorder.AddrPort(end)
		}
	}
	return keys
}

// in looks for a talk in one table.
func (n *node) in(t testing.TB, table string, k talk) (record, bool) {
	t.Helper()
	for i, key := range k.keys() {
		var e abi.CCtEntry
		err := n.loader.Map(table).Table.Lookup(&key, &e)
		if err == nil {
			return record{table: table, key: key, a: i, CCtEntry: e}, true
		}
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Fatal(err)
		}
	}
	return record{table: nowhere}, false
}

// find looks for a talk in all tables. It is an error that it is in two.
func (n *node) find(t testing.TB, k talk) record {
	t.Helper()
	out := record{table: nowhere}
	for _, table := range []string{embryonic, tcpTable, anyTable} {
		r, ok := n.in(t, table, k)
		if ok && out.table != nowhere {
			t.Errorf("%s is in %s and in %s", k, out.table, table)
		}
		if ok {
			out = r
		}
	}
	return out
}

// has checks where a flow is and what it went through; a began it.
func (n *node) has(t testing.TB, what string, k talk, table string, flags abi.CCtFlags) record {
	t.Helper()
	r := n.find(t, k)
	if r.table != table || table != nowhere && (r.flags() != flags || !r.byA()) {
		t.Errorf("%s: %s in %s with flags %#x, begun by a: %t; want %s with %#x", what, k, r.table, r.flags(), r.byA(), table, flags)
	}
	return r
}

// edit changes the entry of a flow where it is.
func (n *node) edit(t testing.TB, k talk, change func(*abi.CCtEntry)) {
	t.Helper()
	r := n.find(t, k)
	if r.table == nowhere {
		t.Fatalf("%s is in %s", k, r.table)
	}
	change(&r.CCtEntry)
	if err := n.loader.Map(r.table).Table.Map().Update(&r.key, &r.CCtEntry, ebpf.UpdateExist); err != nil {
		t.Fatalf("change the entry of %s: %v", k, err)
	}
}

// establish makes a flow that is in its protocol's table.
func (n *node) establish(t testing.TB, k talk) record {
	t.Helper()
	n.passes(t, "the first packet", k.says(t, n, "S"))
	n.passes(t, "the answer", k.answers(t, n, "SA"))
	n.passes(t, "the second packet", k.says(t, n, "A"))
	r := n.find(t, k)
	if r.table != k.settled() {
		t.Fatalf("%s is in %s after its third packet, want %s", k, r.table, k.settled())
	}
	return r
}

// clear empties a table.
func (n *node) clear(t testing.TB, name string) {
	t.Helper()
	table := n.loader.Map(name).Table.Map()
	key, value := make([]byte, table.KeySize()), make([]byte, table.ValueSize())
	var keys [][]byte
	for it := table.Iterate(); it.Next(&key, &value); {
		keys = append(keys, slices.Clone(key))
	}
	for _, key := range keys {
		if err := table.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Fatalf("empty %s: %v", name, err)
		}
	}
}
