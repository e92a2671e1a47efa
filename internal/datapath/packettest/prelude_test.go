package packettest

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// A prelude is a program that puts on the packet what a test run cannot be
// given (a VLAN tag, a tunnel's metadata) and goes on in the program under test.
// The instructions of change find the packet in R6, which they keep; they may go
// on at the symbol preludeJump, and end with the verdict in R0 at preludeExit.
const (
	preludeJump = "prelude_jump"
	preludeExit = "prelude_exit"
	// unreached is the verdict of a prelude whose jump did not work.
	unreached = 99
)

func exitWith(code int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, code), asm.Return()}
}

func prelude(t testing.TB, n *node, program string, change asm.Instructions) *ebpf.Program {
	t.Helper()
	jump := newMap(t, ebpf.ProgramArray, 4)
	if err := jump.Put(uint32(0), n.loader.Program(program)); err != nil {
		t.Fatalf("make jump to %s: %v", program, err)
	}
	attach := ebpf.AttachTCXIngress // of both programs alike, newer kernels want
	if strings.HasPrefix(program, "to_") {
		attach = ebpf.AttachTCXEgress
	}
	ins := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	ins = append(ins, change...)
	ins = append(ins,
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol(preludeJump),
		asm.LoadMapPtr(asm.R2, jump.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, unreached),
		asm.Return().WithSymbol(preludeExit),
	)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, AttachType: attach, Instructions: ins, License: "GPL",
	})
	if err != nil {
		t.Fatalf("load prelude: %+v", err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	return prog
}

// pushVLAN tags the packet beside its data, as drivers do.
func pushVLAN(id int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0x0081), // ETH_P_8021Q, network order
		asm.Mov.Imm(asm.R3, id),
		asm.FnSkbVlanPush.Call(),
	}
}

// cutTail shortens the packet to the length in cb[0]: newer kernels refuse to
// test packets whose IP header is not whole, which real devices do deliver.
func cutTail() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R6, 4*ctxCB, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkbChangeTail.Call(),
		asm.JEq.Imm(asm.R0, 0, preludeJump),
		asm.Mov.Imm(asm.R0, unreached),
		asm.Ja.Label(preludeExit),
	}
}

// tunnelKey is the part of struct bpf_tunnel_key that the programs use.
type tunnelKey struct {
	id     uint32
	remote netip.Addr // the other side
	ttl    uint8
}

// Layout of struct bpf_tunnel_key.
const (
	keyID     = 0
	keyRemote = 4 // of a packet that was received, who sent it
	keyTTL    = 21
	keyLocal  = 28 // of one that is sent, where it goes
	keyLen    = 44

	tunInfoIPv6 = 1 // BPF_F_TUNINFO_IPV6
)

// setTunnelKey makes the packet one that the tunnel device received.
func setTunnelKey(k tunnelKey) asm.Instructions {
	var key [keyLen]byte
	flags := int32(0)
	binary.NativeEndian.PutUint32(key[keyID:], k.id)
	if k.remote.Is6() {
		flags = tunInfoIPv6
		copy(key[keyRemote:], k.remote.AsSlice())
	} else {
		a := k.remote.As4()
		binary.NativeEndian.PutUint32(key[keyRemote:], binary.BigEndian.Uint32(a[:]))
	}
	var ins asm.Instructions
	for i := 0; i < keyLen; i += 4 {
		word := int32(binary.NativeEndian.Uint32(key[i:]))
		ins = append(ins, asm.StoreImm(asm.R10, int16(i-48), int64(word), asm.Word))
	}
	return append(ins,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -48),
		asm.Mov.Imm(asm.R3, keyLen),
		asm.Mov.Imm(asm.R4, flags),
		asm.FnSkbSetTunnelKey.Call(),
	)
}

// Layout of the map of readTunnelKey.
const (
	stepDone = 0
	stepKey  = 4
	stepLen  = stepKey + keyLen
)

// readTunnelKey, run twice on one packet, lets the program see it the first
// time, and the second time writes the metadata that the program left to steps.
func readTunnelKey(steps *ebpf.Map, underlay6 bool) asm.Instructions {
	flags := int32(0)
	if underlay6 {
		flags = tunInfoIPv6
	}
	return append(lookup(steps, preludeExit),
		asm.LoadMem(asm.R1, asm.R0, stepDone, asm.Word),
		asm.StoreImm(asm.R0, stepDone, 1, asm.Word),
		asm.JEq.Imm(asm.R1, 0, preludeJump),
		asm.Mov.Reg(asm.R2, asm.R0),
		asm.Add.Imm(asm.R2, stepKey),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R3, keyLen),
		asm.Mov.Imm(asm.R4, flags),
		asm.FnSkbGetTunnelKey.Call(),
		asm.Ja.Label(preludeExit),
	)
}

// keyOf decodes what readTunnelKey wrote of a packet that is to be sent.
func keyOf(value []byte, underlay6 bool) tunnelKey {
	key := value[stepKey:]
	k := tunnelKey{id: binary.NativeEndian.Uint32(key[keyID:]), ttl: key[keyTTL]}
	if underlay6 {
		k.remote = netip.AddrFrom16([16]byte(key[keyLocal:]))
		return k
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], binary.NativeEndian.Uint32(key[keyLocal:]))
	k.remote = netip.AddrFrom4(a)
	return k
}
