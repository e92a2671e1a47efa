package conntrack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// ErrNoEntry is returned for a flow that has no entry.
var ErrNoEntry = errors.New("no such conntrack entry")

// Strides of a dump: it writes a record at least once in so many entries, and a
// read returns with so many records.
const (
	dumpStride  = 256
	dumpRecords = 32
)

// dumperLocked returns the program that lists entries of any table, loaded at the
// first call.
func (c *Collector) dumperLocked() (*program, error) {
	if c.dumper != nil {
		return c.dumper, nil
	}
	spec, err := loadSpec(dumpStride)
	if err != nil {
		return nil, err
	}
	c.dumper, err = load(bpf.TablesProgCtDump, spec, map[string]*ebpf.Map{
		bpf.TablesMapSettingsMap: c.cfg.Tables.Settings,
	})
	return c.dumper, err
}

// record is one entry of a dump.
type record struct {
	table string
	now   uint32 // jiffies
	key   *abi.CCtKey
	entry *abi.CCtEntry
}

// dump calls each for the live entries that the filter selects, limit of them at
// most, and returns how many there are. What each gets is valid during the call.
func (c *Collector) dump(ctx context.Context, filter bpf.TablesCtFilter, limit uint64, each func(record)) (uint64, error) {
	c.dumps.Lock()
	defer c.dumps.Unlock()
	d, err := c.dumperLocked()
	if err != nil {
		return 0, err
	}
	if err := d.prepareDump(filter, limit); err != nil {
		return 0, err
	}
	for _, o := range c.cfg.Tables.outers() {
		if err := dumpTables(ctx, d, o, pace{}, each); err != nil {
			return 0, err
		}
	}
	var matched uint64
	if err := d.variables[bpf.TablesVarMatched].Get(&matched); err != nil {
		return 0, fmt.Errorf("read totals of walk: %w", err)
	}
	return matched, nil
}

// dumpTables goes through what has not moved yet before it goes through the
// current table.
func dumpTables(ctx context.Context, p *program, o outer, pace pace, each func(record)) error {
	for _, open := range []func() (table, error){o.old, o.current} {
		t, err := open()
		if err != nil {
			return err
		}
		if t.Map == nil {
			continue
		}
		if err = errors.Join(dumpTable(ctx, p, t, pace, each), t.Close()); err != nil {
			return err
		}
	}
	return nil
}

func dumpTable(ctx context.Context, p *program, t table, pace pace, each func(record)) error {
	const size = int(unsafe.Sizeof(bpf.TablesCtRecord{}))
	records := make([]bpf.TablesCtRecord, dumpRecords)
	buf := unsafe.Slice((*byte)(unsafe.Pointer(&records[0])), dumpRecords*size)
	return walk(ctx, p, t, buf, func(read func() (int, error)) error {
		begin := time.Now()
		n, err := read()
		if err != nil {
			return err
		}
		for i := range records[:n/size] {
			r := &records[i]
			if r.Pause != 0 {
				continue
			}
			// The same types: the generator names them once for each object.
			each(record{
				table: t.name, now: r.Now,
				key: (*abi.CCtKey)(unsafe.Pointer(&r.Key)), entry: (*abi.CCtEntry)(unsafe.Pointer(&r.Entry)),
			})
		}
		return pace.rest(ctx, time.Since(begin))
	})
}

// prepareDump forgets the last dump.
func (p *program) prepareDump(filter bpf.TablesCtFilter, limit uint64) error {
	return errors.Join(p.set(bpf.TablesVarFilter, filter), p.set(bpf.TablesVarLimit, limit),
		p.set(bpf.TablesVarMatched, uint64(0)), p.set(bpf.TablesVarPassed, uint32(0)))
}

// List returns the live entries that the filter selects, in no order. While
// packets add and remove entries, a few may be missing or there twice. The error
// is ErrUnknownPod, ErrBadFilter, or why the tables cannot be read.
func (c *Collector) List(ctx context.Context, filter agentapi.CTFilter) (agentapi.CTList, error) {
	compiled, err := compile(filter, c.pods())
	if err != nil {
		return agentapi.CTList{}, err
	}
	settings, err := c.cfg.Tables.settings()
	if err != nil {
		return agentapi.CTList{}, err
	}
	limit := uint64(math.MaxUint64)
	if filter.Limit > 0 {
		limit = uint64(filter.Limit)
	}
	out := agentapi.CTList{Entries: []agentapi.CTEntry{}}
	names := knownPods{c.pods(), map[netip.Addr]string{}}
	total, err := c.dump(ctx, compiled, limit, func(r record) {
		e := entry(r.table, clock{now: r.now, hz: settings.Hz}, &settings, r.key, r.entry)
		out.Entries = append(out.Entries, withPods(e, names))
	})
	out.Total = int(total)
	return out, err
}

func withPods(e agentapi.CTEntry, pods Pods) agentapi.CTEntry {
	e.SourcePod = pods.NameOf(e.Source.Addr())
	e.DestinationPod = pods.NameOf(e.Destination.Addr())
	return e
}

// knownPods asks once for each address.
type knownPods struct {
	Pods
	names map[netip.Addr]string
}

// NameOf implements Pods.
func (p knownPods) NameOf(addr netip.Addr) string {
	name, ok := p.names[addr]
	if !ok {
		name = p.Pods.NameOf(addr)
		p.names[addr] = name
	}
	return name
}

// Get returns the entry of a flow; its sides may be given in either order. The
// error is ErrNoEntry when there is none, or only one that is being deleted.
func (c *Collector) Get(proto uint8, a, b netip.AddrPort) (agentapi.CTEntry, error) {
	settings, err := c.cfg.Tables.settings()
	if err != nil {
		return agentapi.CTEntry{}, err
	}
	counts, err := c.counter()
	if err != nil {
		return agentapi.CTEntry{}, err
	}
	home := outer{tableAny, c.cfg.Tables.Any}
	if proto == unix.IPPROTO_TCP {
		home = outer{tableTCP, c.cfg.Tables.TCP}
	}
	for _, o := range []outer{home, {tableNew, c.cfg.Tables.New}} {
		key, e, err := lookup(o, proto, a, b)
		if errors.Is(err, ErrNoEntry) {
			continue
		}
		if err != nil {
			return agentapi.CTEntry{}, err
		}
		_, jiffies, err := counts.Count()
		if err != nil {
			return agentapi.CTEntry{}, err
		}
		found := entry(o.name, clock{uint32(jiffies), settings.Hz}, &settings, &key, &e)
		return withPods(found, c.pods()), nil
	}
	return agentapi.CTEntry{}, fmt.Errorf("%w: protocol %d, %s and %s", ErrNoEntry, proto, a, b)
}

// lookup looks for the flow in both orders of its sides: which one it has is the
// datapath's own affair.
func lookup(o outer, proto uint8, a, b netip.AddrPort) (abi.CCtKey, abi.CCtEntry, error) {
	t, err := o.current()
	if err != nil {
		return abi.CCtKey{}, abi.CCtEntry{}, err
	}
	defer func() { _ = t.Close() }()
	for _, sides := range [][2]netip.AddrPort{{a, b}, {b, a}} {
		key := abi.CCtKey{Proto: proto}
		for i, s := range sides {
			key.Addr[i], key.Port[i] = netorder.AddrPort(s)
		}
		var e abi.CCtEntry
		err := t.Lookup(&key, &e)
		if errors.Is(err, ebpf.ErrKeyNotExist) || err == nil && e.State&terminal != 0 {
			continue
		}
		if err != nil {
			return key, e, fmt.Errorf("look for an entry in conntrack table %s: %w", t.name, err)
		}
		return key, e, nil
	}
	return abi.CCtKey{}, abi.CCtEntry{}, ErrNoEntry
}

// terminal are the flags of entries that count no more.
const terminal = uint64(abi.CCtFlagsCT_DEAD | abi.CCtFlagsCT_MOVED)

// Top returns those that have most live entries, by agentapi.CTTopSource,
// CTTopDestination or CTTopPod; all of them when limit is 0. A flow between two
// pods of the node counts for both.
func (c *Collector) Top(ctx context.Context, by string, limit int) ([]agentapi.CTTalker, error) {
	if !slices.Contains(agentapi.CTTopKinds(), by) {
		return nil, fmt.Errorf("%w: entries are not counted by %q: use one of %v", ErrBadFilter, by, agentapi.CTTopKinds())
	}
	entries := map[netip.Addr]int{}
	_, err := c.dump(ctx, bpf.TablesCtFilter{}, math.MaxUint64, func(r record) {
		from := origin(r.entry)
		sides := [2]netip.Addr{sideOf(r.key, from).Addr(), sideOf(r.key, 1-from).Addr()}
		if by != agentapi.CTTopDestination {
			entries[sides[0]]++
		}
		if by == agentapi.CTTopDestination || by == agentapi.CTTopPod && sides[0] != sides[1] {
			entries[sides[1]]++
		}
	})
	if err != nil {
		return nil, err
	}
	return top(c.named(entries, by), limit), nil
}

// named gives the counted addresses the names that they are shown by.
func (c *Collector) named(entries map[netip.Addr]int, by string) map[string]int {
	out := make(map[string]int, len(entries))
	for addr, n := range entries {
		name := addr.String()
		if by == agentapi.CTTopPod {
			name = c.pods().NameOf(addr)
		}
		if name != "" {
			out[name] += n
		}
	}
	return out
}

func top(entries map[string]int, limit int) []agentapi.CTTalker {
	out := make([]agentapi.CTTalker, 0, len(entries))
	for name, n := range entries {
		out = append(out, agentapi.CTTalker{Name: name, Entries: n})
	}
	slices.SortFunc(out, func(a, b agentapi.CTTalker) int {
		return cmp.Or(cmp.Compare(b.Entries, a.Entries), cmp.Compare(a.Name, b.Name))
	})
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}

func (c *Collector) pods() Pods {
	if c.cfg.Pods == nil {
		return noPods{}
	}
	return c.cfg.Pods
}

type noPods struct{}

func (noPods) NameOf(netip.Addr) string    { return "" }
func (noPods) AddrsOf(string) []netip.Addr { return nil }
