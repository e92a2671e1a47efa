package packettest

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/layout"
)

// ourLayout gives the types of keys and values.
func ourLayout(t *testing.T) (key, value *btf.Struct) {
	t.Helper()
	spec, err := abi.LoadC()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(spec.Types.TypeByName("ct_key", &key), spec.Types.TypeByName("ct_entry", &value)); err != nil {
		t.Fatal(err)
	}
	return key, value
}

// otherLayout is what another version might make of an entry: fields in another
// order, one wider, one gone, and one more.
func otherLayout(t *testing.T) (value *btf.Struct) {
	t.Helper()
	_, ours := ourLayout(t)
	u64 := &btf.Int{Name: "__u64", Size: 8}
	value = &btf.Struct{Name: "ct_entry"}
	put := func(name string, typ btf.Type) {
		size, err := btf.Sizeof(typ)
		if err != nil {
			t.Fatal(err)
		}
		value.Members = append(value.Members, btf.Member{Name: name, Type: typ, Offset: btf.Bits(8 * value.Size)})
		value.Size += uint32(size)
	}
	put("packets", u64)
	for _, name := range []string{"nat", "way", "state", "epoch", "last"} {
		for _, m := range ours.Members {
			if m.Name == name {
				put(name, m.Type)
			}
		}
	}
	return value
}

// leave leaves the entries of tables as an agent with a layout of values would, in
// maps whose names end so.
func leave(t *testing.T, root, suffix string, value *btf.Struct, tables map[string]map[abi.CCtKey]abi.CCtEntry) {
	t.Helper()
	key, ours := ourLayout(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Join(root, "placid", "maps")
	must(os.MkdirAll(folder, 0o700))
	spec, err := bpf.LoadPod()
	must(err)
	conversion, err := layout.Convert(ours, value)
	must(err)
	for name, entries := range tables {
		outerSpec := spec.Maps[name].Copy()
		inner := outerSpec.InnerMap
		inner.MaxEntries, inner.ValueSize, inner.Key, inner.Value = 1024, value.Size, key, value
		outer, err := ebpf.NewMap(outerSpec)
		must(err)
		table, err := ebpf.NewMap(inner)
		must(err)
		for k, e := range entries {
			raw := make([]byte, value.Size)
			conversion.Apply(raw, asBytes(t, e))
			must(table.Put(&k, raw))
		}
		must(outer.Put(uint32(0), table))
		must(outer.Pin(filepath.Join(folder, name+suffix)))
		must(errors.Join(table.Close(), outer.Close()))
	}
}

func asBytes(t *testing.T, e abi.CCtEntry) []byte {
	t.Helper()
	out, err := binary.Append(nil, binary.NativeEndian, e)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// flowTables are the conntrack tables that have entries.
func (n *node) flowTables(t *testing.T) map[string]map[abi.CCtKey]abi.CCtEntry {
	t.Helper()
	out := map[string]map[abi.CCtKey]abi.CCtEntry{}
	for _, name := range []string{datapath.CTTCPMap, datapath.CTAnyMap, datapath.CTNewMap} {
		out[name] = map[abi.CCtKey]abi.CCtEntry{}
		var key abi.CCtKey
		var e abi.CCtEntry
		it := n.loader.Map(name).Table.Iterate()
		for it.Next(&key, &e) {
			out[name][key] = e
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// bringOver ends a change of layout as an agent does.
func (n *node) bringOver(t *testing.T) {
	t.Helper()
	flows := conntrack.New(conntrack.Config{
		Tables: conntrack.Tables{
			TCP: n.loader.Map(datapath.CTTCPMap).Outer, Any: n.loader.Map(datapath.CTAnyMap).Outer,
			New: n.loader.Map(datapath.CTNewMap).Outer, Settings: n.loader.Map(datapath.SettingsMap).Outer,
		},
		Log: slog.New(slog.DiscardHandler),
	})
	defer func() { _ = flows.Close() }()
	converted := n.loader.Converted()
	if len(converted) != 3 {
		t.Fatalf("%d maps are converted, want 3", len(converted))
	}
	if err := n.loader.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, m := range converted {
		foreign, segments := m.Foreign()
		if _, err := flows.Bring(t.Context(), m.Name, foreign, segments, nil); err != nil {
			t.Fatal(err)
		}
		if err := n.loader.DropForeign(m); err != nil {
			t.Fatal(err)
		}
	}
	pins, err := filepath.Glob(filepath.Join(n.root, "placid", "maps", "ct_*:*"))
	if err != nil || len(pins) != 0 {
		t.Errorf("pins %v are left (%v)", pins, err)
	}
}

// Flows of programs with another layout of entries go on at once, and are there to
// the last one when they are brought over.
func TestFlowsOfAnotherLayout(t *testing.T) {
	before := newNode(t, withServices())
	plain := talk{overTCP, end(podA.ip4, podA.ip6, false, 40000), end(podB.ip4, podB.ip6, false, 80)}
	half := talk{overUDP, end(podA.ip4, podA.ip6, true, 40001), end(podB.ip4, podB.ip6, true, 53)}
	asked := talk{overTCP, end(podA.ip4, podA.ip6, false, 40002), end(vip4, vip6, false, 80)}
	real := talk{overTCP, asked.a, end(podB.ip4, podB.ip6, false, 8080)}
	for _, in := range []input{plain.says(t, before, "S"), plain.answers(t, before, "SA"), plain.says(t, before, "A"), half.says(t, before, "")} {
		before.passes(t, "before", in)
	}
	before.serve(t, asked.b, served{proto: overTCP, cluster: []netip.AddrPort{real.b}})
	before.translates(t, asked, real)
	want := before.flowTables(t)

	o := withServices()
	o.found = func(root string) { leave(t, root, "", otherLayout(t), want) }
	n := newNode(t, o)
	// Nothing new would pass.
	n.under(t, podA, security{ingress: uint64(abi.CPolicyConstantsPOLICY_SET_CLOSED)})
	n.under(t, podB, security{ingress: uint64(abi.CPolicyConstantsPOLICY_SET_CLOSED)})
	n.drops(t, "a new flow", abi.CReasonDROP_POLICY, plain.from(41000).says(t, n, "S"))
	n.passes(t, "a flow from before", plain.says(t, n, "A"))
	n.passes(t, "an answer from before", plain.answers(t, n, "A"))
	n.passes(t, "an answer to a question from before", half.answers(t, n, ""))
	n.becomes(t, "a flow to a service from before", asked.says(t, n, "A"), real.onward(t, n, "A", false, true))
	n.becomes(t, "an answer of a service from before", real.answers(t, n, "A"), asked.onward(t, n, "A", true, true))

	n.bringOver(t)
	got := n.flowTables(t)
	for name, entries := range want {
		for key, was := range entries {
			e, ok := got[name][key]
			if !ok {
				t.Errorf("%s: the entry of %v is lost", name, key)
				continue
			}
			if e.State>>32 != was.State>>32 || uint32(was.State)&^uint32(e.State) != 0 {
				t.Errorf("%s: state of %v is %#x, was %#x", name, key, e.State, was.State)
			}
			was.Identity, was.State, was.Last, was.Nat.Synced = e.Identity, e.State, e.Last, e.Nat.Synced
			if diff := cmp.Diff(was, e); diff != "" {
				t.Errorf("%s: entry of %v (-was +is):\n%s", name, key, diff)
			}
		}
	}
}

// A version that was replaced by one with another layout comes back before that one
// had brought everything over: what is in either map is there.
func TestLayoutGivenUp(t *testing.T) {
	first := newNode(t, withServices())
	for port := range uint16(64) {
		k := talk{overTCP, end(podA.ip4, podA.ip6, false, 40000+port), end(podB.ip4, podB.ip6, false, 80)}
		first.establish(t, k)
	}
	want := first.flowTables(t)
	_, ours := ourLayout(t)
	kept, moved := map[string]map[abi.CCtKey]abi.CCtEntry{}, map[string]map[abi.CCtKey]abi.CCtEntry{}
	for name, entries := range want {
		kept[name], moved[name] = map[abi.CCtKey]abi.CCtEntry{}, map[abi.CCtKey]abi.CCtEntry{}
		for key, e := range entries {
			if key.Port[0]%3 > 0 || key.Port[1]%3 > 0 {
				kept[name][key] = e
			}
			if key.Port[0]%3 != 1 { // some are in both
				moved[name][key] = e
			}
		}
	}
	o := withServices()
	o.found = func(root string) {
		leave(t, root, ":before", ours, kept)
		leave(t, root, "", otherLayout(t), moved)
	}
	n := newNode(t, o)
	n.bringOver(t)
	got := n.flowTables(t)
	for name, entries := range want {
		for key := range entries {
			if _, ok := got[name][key]; !ok {
				t.Errorf("%s: the entry of %v is lost", name, key)
			}
		}
	}
}
