package packettest

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/placid-net/placid/internal/datapath/bpf"
)

// way is the helper that a program redirected by.
type way uint32

const (
	notRedirected way = iota
	byDevice          // bpf_redirect: through the device's queue
	byPeer            // bpf_redirect_peer: straight into the pod
	byNeighbour       // bpf_redirect_neigh: the kernel finds the MAC
)

// redirect is what a program asked the kernel to do with its packet. A test run
// does not carry it out, and does not tell it.
type redirect struct {
	way     way
	device  uint32
	nextHop netip.Addr // byNeighbour
}

// Layout of the note that a watched program leaves.
const (
	noteWay     = 0
	noteDevice  = 4
	noteFamily  = 8 // struct bpf_redir_neigh
	noteNextHop = 12
	noteLen     = 28
)

// watched holds copies of the programs that differ from the loaded ones in one
// thing: each call of a redirect helper goes by a function that notes what it is
// called with. They share the maps of the others.
type watched struct {
	note     *ebpf.Map
	programs map[string]*ebpf.Program
}

func newWatched(t testing.TB, n *node) *watched {
	t.Helper()
	w := &watched{note: newMap(t, ebpf.Array, noteLen), programs: map[string]*ebpf.Program{}}
	for _, loadSpec := range []func() (*ebpf.CollectionSpec, error){bpf.LoadPod, bpf.LoadNetdev, bpf.LoadOverlay} {
		spec, err := loadSpec()
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := spec.Variables["config"]; ok {
			if err = v.Set(n.cfg); err != nil {
				t.Fatal(err)
			}
		}
		shared := map[string]*ebpf.Map{}
		for name := range spec.Maps {
			if m := n.loader.Map(name); m != nil {
				shared[name] = m.Outer
			}
		}
		for _, p := range spec.Programs {
			w.instrument(p)
		}
		coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
		if err != nil {
			t.Fatalf("load watched programs: %+v", err)
		}
		for name := range spec.Programs {
			w.programs[name] = coll.DetachProgram(name)
			t.Cleanup(func() { _ = w.programs[name].Close() })
		}
		coll.Close()
	}
	return w
}

func newMap(t testing.TB, kind ebpf.MapType, size uint32) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: kind, KeySize: 4, ValueSize: size, MaxEntries: 1})
	if err != nil {
		t.Fatalf("make map of the test: %v", err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// instrument replaces the calls of the redirect helpers.
func (w *watched) instrument(p *ebpf.ProgramSpec) {
	helpers := map[asm.BuiltinFunc]way{
		asm.FnRedirect: byDevice, asm.FnRedirectPeer: byPeer, asm.FnRedirectNeigh: byNeighbour,
	}
	used := map[asm.BuiltinFunc]bool{}
	for i := range p.Instructions {
		ins := &p.Instructions[i]
		fn := asm.BuiltinFunc(ins.Constant)
		if !ins.IsBuiltinCall() || helpers[fn] == notRedirected {
			continue
		}
		call := asm.Call.Label(noteName(fn))
		call.Metadata = ins.Metadata
		*ins = call.WithReference(noteName(fn))
		used[fn] = true
	}
	for fn := range used {
		noting := w.noting(fn, helpers[fn])
		// Every function must say what line it is from.
		noting[0] = noting[0].WithSource(p.Instructions[0].Source())
		p.Instructions = append(p.Instructions, noting...)
	}
}

func noteName(fn asm.BuiltinFunc) string { return "note_" + fn.String() }

// noting is the function that notes its arguments and calls the helper with them.
func (w *watched) noting(fn asm.BuiltinFunc, how way) asm.Instructions {
	number := &btf.Int{Name: "unsigned long", Size: 8}
	proto := &btf.FuncProto{Return: number}
	for _, name := range []string{"a", "b", "c", "d"} {
		proto.Params = append(proto.Params, btf.FuncParam{Name: name, Type: number})
	}
	name := noteName(fn)
	ins := asm.Instructions{
		btf.WithFuncMetadata(asm.Mov.Reg(asm.R6, asm.R1).WithSymbol(name),
			&btf.Func{Name: name, Type: proto, Linkage: btf.StaticFunc}),
		asm.Mov.Reg(asm.R7, asm.R2),
	}
	if how == byNeighbour {
		ins = append(ins, asm.Mov.Reg(asm.R8, asm.R3), asm.Mov.Reg(asm.R9, asm.R4))
	}
	ins = append(ins, lookup(w.note, name+"_call")...)
	ins = append(ins,
		asm.StoreImm(asm.R0, noteWay, int64(how), asm.Word),
		asm.StoreMem(asm.R0, noteDevice, asm.R6, asm.Word),
	)
	for i := int16(0); how == byNeighbour && i < noteLen-noteFamily; i += 4 {
		ins = append(ins, asm.LoadMem(asm.R1, asm.R7, i, asm.Word), asm.StoreMem(asm.R0, noteFamily+i, asm.R1, asm.Word))
	}
	ins = append(ins, asm.Mov.Reg(asm.R1, asm.R6).WithSymbol(name+"_call"), asm.Mov.Reg(asm.R2, asm.R7))
	if how == byNeighbour {
		ins = append(ins, asm.Mov.Reg(asm.R3, asm.R8), asm.Mov.Reg(asm.R4, asm.R9))
	}
	return append(ins, fn.Call(), asm.Return())
}

// lookup leaves the address of m's only value in R0 and goes to missing if there
// is none. R1 to R5 are lost.
func lookup(m *ebpf.Map, missing string) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.R10, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, missing),
	}
}

// forget makes the next noted redirect that of the next run.
func (w *watched) forget() error { return w.note.Put(uint32(0), make([]byte, noteLen)) }

// noted gives the redirect of the last run.
func (w *watched) noted() (redirect, error) {
	var v []byte
	if err := w.note.Lookup(uint32(0), &v); err != nil {
		return redirect{}, err
	}
	r := redirect{
		way:    way(binary.NativeEndian.Uint32(v[noteWay:])),
		device: binary.NativeEndian.Uint32(v[noteDevice:]),
	}
	if r.way == byNeighbour {
		r.nextHop = netip.AddrFrom16([16]byte(v[noteNextHop:]))
		if binary.NativeEndian.Uint32(v[noteFamily:]) == 2 { // AF_INET
			r.nextHop = netip.AddrFrom4([4]byte(v[noteNextHop:]))
		}
	}
	return r, nil
}
