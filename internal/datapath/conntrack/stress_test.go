package conntrack

import (
	"errors"
	"io"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/abi"
)

// reviver is a program that walks a table as packets go through it: of half of
// the entries that were last seen at the moment old it makes new flows, as the
// datapath does, by compare-and-swap of the state and then a new time. It notes the
// keys for which that worked in noted.
func (f *fixture) reviver(name string, old uint32, noted *ebpf.Map) *ebpf.Program {
	f.t.Helper()
	const (
		keySize   = 40
		keyAt     = -keySize // on the stack
		oneAt     = keyAt - 8
		lastField = 8
		next      = "next"
	)
	// The library writes the kind of an atomic instruction only from the constant:
	// without, this would be an addition.
	cmpXchg := asm.CmpXchg.Mem(asm.R8, asm.R1, asm.DWord, 0)
	cmpXchg.Constant = int64(asm.CmpXchg >> 8)
	ins := asm.Instructions{
		asm.LoadMem(asm.R7, asm.R1, 16, asm.DWord), // key
		asm.LoadMem(asm.R8, asm.R1, 24, asm.DWord), // value
		asm.JEq.Imm(asm.R7, 0, next),
		asm.JEq.Imm(asm.R8, 0, next),
		asm.FnGetPrandomU32.Call(),
		asm.And.Imm(asm.R0, 1),
		asm.JEq.Imm(asm.R0, 0, next),
	}
	for at := int16(0); at < keySize; at += 8 {
		ins = append(ins, asm.LoadMem(asm.R1, asm.R7, at, asm.DWord), asm.StoreMem(asm.RFP, keyAt+at, asm.R1, asm.DWord))
	}
	find := func(m *ebpf.Map) asm.Instructions {
		return asm.Instructions{asm.LoadMapPtr(asm.R1, m.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, keyAt)}
	}
	ins = append(ins, find(f.inner[name])...)
	ins = append(ins,
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, next),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.LoadMem(asm.R1, asm.R8, lastField, asm.Word),
		asm.LoadImm(asm.R2, int64(old), asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R2, next), // it lives already
		asm.FnJiffies64.Call(),
		asm.Mov.Reg(asm.R9, asm.R0),
		asm.LoadMem(asm.R7, asm.R8, 0, asm.DWord), // state
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.LoadImm(asm.R2, int64(terminal), asm.DWord),
		asm.And.Reg(asm.R1, asm.R2),
		asm.JNE.Imm(asm.R1, 0, next), // dead
		asm.Mov.Reg(asm.R1, asm.R9),
		asm.LSh.Imm(asm.R1, 32),
		asm.Or.Imm(asm.R1, int32(established)),
		asm.Mov.Reg(asm.R0, asm.R7),
		cmpXchg,
		asm.JNE.Reg(asm.R0, asm.R7, next), // the collector was faster
		asm.StoreMem(asm.R8, lastField, asm.R9, asm.Word),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreMem(asm.RFP, oneAt, asm.R1, asm.DWord),
	)
	ins = append(ins, find(noted)...)
	ins = append(ins,
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, oneAt),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol(next),
		asm.Return(),
	)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "bpf_map_elem",
		Instructions: ins, License: "GPL",
	})
	if err != nil {
		f.t.Fatalf("load reviver: %+v", err)
	}
	f.t.Cleanup(func() { _ = p.Close() })
	return p
}

// walkOnce runs an iterator from begin to end.
func walkOnce(p *ebpf.Program, m *ebpf.Map) error {
	l, err := link.AttachIter(link.IterOptions{Program: p, Map: m})
	if err != nil {
		return err
	}
	defer l.Close()
	seq, err := l.Open()
	if err != nil {
		return err
	}
	defer seq.Close()
	_, err = io.Copy(io.Discard, seq)
	return err
}

// Packets revive entries while they are collected. What became a new flow stays,
// to the last one; what did not goes.
func TestNoLiveEntryIsCollected(t *testing.T) {
	const entries, rounds = 1 << 18, 4
	for _, name := range []string{tableTCP, tableNew} {
		f := newFixture(t, 2*entries) // an LRU table gives up entries before it is full
		f.stride = 64
		old := f.ago(secondsTCP + 10)
		noted := f.newMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 40, ValueSize: 8, MaxEntries: entries})
		reviver := f.reviver(name, old, noted)
		revivedInAll, raced := 0, 0
		for range rounds {
			f.fill(name, 0, entries, 1, old)
			revive := make(chan error, 1)
			go func() { revive <- errors.Join(walkOnce(reviver, f.inner[name]), walkOnce(reviver, f.inner[name])) }()
			during := f.collect()
			if err := <-revive; err != nil {
				t.Fatal(err)
			}
			after := f.collect()
			if during.Deleted() > 0 && after.Deleted() < entries/4 {
				raced++ // they met
			}
			left, revivedKeys := f.content(name), readAll[abi.CCtKey, uint64](t, noted)
			for key := range revivedKeys {
				if _, ok := left[key]; !ok {
					t.Fatalf("table %s: %v was revived, and is gone", name, key)
				}
			}
			revived := len(revivedKeys)
			if deleted := during.Deleted() + after.Deleted(); deleted != uint64(entries-revived) || f.entries() != uint64(revived) {
				t.Fatalf("table %s: %d deleted and %d left of %d entries, of which %d were revived", name, deleted, f.entries(), entries, revived)
			}
			assertNoneDead(t, f)
			revivedInAll += revived
			f.clear(name, noted)
		}
		if revivedInAll == 0 || raced == 0 {
			t.Errorf("table %s: %d revived; reviver and collector met in %d rounds", name, revivedInAll, raced)
		}
		t.Logf("table %s: %d entries, %d revived, met in %d of %d rounds", name, rounds*entries, revivedInAll, raced, rounds)
	}
}

// clear flushes the tables, and empties noted.
func (f *fixture) clear(name string, noted *ebpf.Map) {
	f.t.Helper()
	left := f.entries()
	flushed, err := f.Flush(f.t.Context(), agentapi.CTFilter{})
	if err != nil || uint64(flushed.Deleted) != left || f.entries() != 0 {
		f.t.Fatalf("table %s: %d flushed of %d, %v", name, flushed.Deleted, left, err)
	}
	keys, ones := make([]abi.CCtKey, left), make([]uint64, left)
	if left == 0 {
		return
	}
	var cursor ebpf.MapBatchCursor
	n, err := noted.BatchLookupAndDelete(&cursor, keys, ones, nil)
	if uint64(n) != left || err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		f.t.Fatalf("forget %d of %d: %v", n, left, err)
	}
}

// A flush takes all that it selects, also what changes meanwhile.
func TestFlushAgainstPackets(t *testing.T) {
	const entries = 1 << 16
	f := newFixture(t, entries)
	f.stride = 16
	old := f.ago(secondsTCP + 10)
	noted := f.newMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 40, ValueSize: 8, MaxEntries: entries})
	reviver := f.reviver(tableTCP, old, noted)
	for range 5 {
		f.fill(tableTCP, 0, entries, 1, old)
		revive := make(chan error, 1)
		go func() { revive <- walkOnce(reviver, f.inner[tableTCP]) }()
		flushed, err := f.Flush(t.Context(), agentapi.CTFilter{})
		if err != nil || flushed.Deleted != entries {
			t.Errorf("%d flushed of %d, %v", flushed.Deleted, entries, err)
		}
		if err := <-revive; err != nil {
			t.Fatal(err)
		}
		if left := f.entries(); left != 0 {
			t.Errorf("%d entries outlived a flush", left)
		}
	}
}

// Flush, list and collections at once: each entry is deleted once.
func TestAllAtOnce(t *testing.T) {
	const entries = 1 << 16
	f := newFixture(t, entries)
	f.stride = 32
	f.fill(tableTCP, 0, entries, 2, f.ago(secondsTCP+10))
	var collected [2]uint64
	ended := make(chan error)
	for i := range collected {
		go func() {
			r, err := f.Collect(t.Context())
			collected[i] = r.Deleted()
			ended <- err
		}()
	}
	flushed := 0
	go func() {
		out, err := f.Flush(t.Context(), agentapi.CTFilter{Port: 1024 + 7})
		flushed = out.Deleted
		ended <- err
	}()
	go func() {
		_, err := f.List(t.Context(), agentapi.CTFilter{})
		ended <- err
	}()
	for range 4 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	sum := collected[0] + collected[1] + uint64(flushed)
	if left := f.entries(); sum+left != entries || left != entries/2-entries/256 {
		t.Errorf("%v collected, %d flushed and %d left of %d", collected, flushed, left, entries)
	}
}
