package sizing

import "math/bits"

// Kind says how the kernel stores a table and when that takes memory.
type Kind string

// The kinds of tables.
const (
	Hash     Kind = "hash"           // all entries allocated when it is made
	OnDemand Kind = "hash on demand" // buckets when it is made, entries as they come
	LRU      Kind = "LRU"            // as Hash; the least recently used entry gives way
	LPM      Kind = "LPM trie"       // entries as they come
)

// bucketBytes is what one bucket of a hash takes. The kernel makes as many as the
// next power of two of the entries.
const bucketBytes = 16

// Configuration keys of sizes.
const (
	KeyRatio       = "bpf-map-dynamic-size-ratio"
	KeyTCP         = "bpf-ct-global-tcp-max"
	KeyAny         = "bpf-ct-global-any-max"
	KeyEmbryonic   = "bpf-ct-embryonic-max"
	KeyNAT         = "bpf-nat-global-max"
	KeySock        = "bpf-sock-rev-map-max"
	KeyLB          = "bpf-lb-map-max"
	KeyService     = "bpf-lb-service-map-max"
	KeyBackend     = "bpf-lb-service-backend-map-max"
	KeyMaglev      = "bpf-lb-maglev-map-max"
	KeyAffinity    = "bpf-lb-affinity-map-max"
	KeySourceRange = "bpf-lb-source-range-map-max"
	KeyPolicy      = "bpf-policy-map-max"
)

// maxEntries is the largest size that can be set or computed.
const maxEntries = 1 << 24

// Table describes one sized table. IPv4 and IPv6 share it.
type Table struct {
	// Map is its BPF map, e.g. "ct_tcp_map"; Label the word for it in events.
	Map, Label string
	// Key is the configuration key of its size; empty where there is none.
	Key  string
	Kind Kind
	// KeyBytes and ValueBytes are those of one entry.
	KeyBytes, ValueBytes int
	// EntryBytes is what the kernel says that one entry takes, without its bucket.
	EntryBytes int
	// Default is the size without a ratio and without a size of its own.
	Default int
	// Floor is the least size that follows from memory; 0: it never does.
	Floor int
	// Min is the least explicit size. The largest is 16777216.
	Min int
}

// Nominal is the size of an entry as Cilium's ratio counts: key and value.
func (t Table) Nominal() int { return t.KeyBytes + t.ValueBytes }

// Allocated is what the kernel's memory loses to one entry, without its bucket:
// entries that come on demand are rounded up by the allocator.
func (t Table) Allocated() int {
	switch t.Kind {
	case OnDemand:
		return allocated(t.EntryBytes)
	case LPM:
		return allocated(t.EntryBytes + listNode)
	default:
		return t.EntryBytes
	}
}

// listNode is what the allocator of BPF objects adds to each; of hash tables it is
// in EntryBytes.
const listNode = 8

// allocated rounds up to the sizes of the kernel's slab caches, powers of two and
// two others, and beyond them to a power of two of pages.
func allocated(n int) int {
	for _, size := range []int{96, 192} {
		if n <= size && n > size*2/3 {
			return size
		}
	}
	return max(8, 1<<bits.Len(uint(n-1)))
}

// Bytes is what the table takes with room for entries of which live are there.
func (t Table) Bytes(entries, live int) uint64 {
	var buckets, stored uint64
	if t.Kind != LPM && entries > 0 {
		buckets = 1 << bits.Len64(uint64(entries)-1)
	}
	switch t.Kind {
	case Hash, LRU:
		stored = uint64(max(entries, 0))
	default:
		stored = uint64(max(live, 0))
	}
	return buckets*bucketBytes + stored*uint64(t.Allocated())
}

// DefaultMaglevSize is M unless bpf-lb-maglev-table-size says otherwise.
const DefaultMaglevSize = 16381

const maglevMap = "maglev_map"

// Tables lists every sized table in the order of reports. maglevSize is the
// number of slots of one Maglev table, of 4 bytes each.
//
// EntryBytes were measured from "memlock" of /proc/PID/fdinfo on Linux 6.18.44
// (amd64) on 2026-11-22. The kernel does not count what the allocator adds, see
// Allocated, nor the inner nodes of tries, at most one an entry.
func Tables(maglevSize int) []Table {
	const ctKey, ctValue = 40, 120
	return []Table{
		{Map: "ct_tcp_map", Label: "tcp", Key: KeyTCP, Kind: Hash, KeyBytes: ctKey, ValueBytes: ctValue, EntryBytes: 208, Default: 524288, Floor: 131072, Min: 1024},
		{Map: "ct_any_map", Label: "any", Key: KeyAny, Kind: Hash, KeyBytes: ctKey, ValueBytes: ctValue, EntryBytes: 208, Default: 262144, Floor: 65536, Min: 1024},
		{Map: "ct_new_map", Label: "embryonic", Key: KeyEmbryonic, Kind: LRU, KeyBytes: ctKey, ValueBytes: ctValue, EntryBytes: 208, Default: 65536, Min: 1024},
		{Map: "sock_map", Label: "sock", Key: KeySock, Kind: LRU, KeyBytes: 32, ValueBytes: 32, EntryBytes: 112, Default: 262144, Floor: 65536, Min: 1024},
		{Map: "frontend_map", Label: "frontends", Key: KeyService, Kind: OnDemand, KeyBytes: 20, ValueBytes: 32, EntryBytes: 112, Default: 65536, Min: 1},
		{Map: "backend_map", Label: "backends", Key: KeyBackend, Kind: OnDemand, KeyBytes: 8, ValueBytes: 24, EntryBytes: 88, Default: 65536, Min: 1},
		{Map: maglevMap, Label: "maglev", Key: KeyMaglev, Kind: OnDemand, KeyBytes: 4, ValueBytes: 4 * maglevSize, EntryBytes: 64 + roundUp(4*maglevSize, 8), Default: 65536, Min: 1},
		{Map: "affinity_map", Label: "affinity", Key: KeyAffinity, Kind: LRU, KeyBytes: 24, ValueBytes: 8, EntryBytes: 80, Default: 65536, Min: 1},
		{Map: "source_range_map", Label: "source ranges", Key: KeySourceRange, Kind: LPM, KeyBytes: 24, ValueBytes: 4, EntryBytes: 48, Default: 65536, Min: 1},
		{Map: "policy_map", Label: "policy", Key: KeyPolicy, Kind: OnDemand, KeyBytes: 16, ValueBytes: 8, EntryBytes: 80, Default: 1048576, Min: 256},
		{Map: "port_map", Label: "ports", Kind: OnDemand, KeyBytes: 8, ValueBytes: 144, EntryBytes: 208, Default: 65536},
		{Map: "identity_map", Label: "identities", Kind: OnDemand, KeyBytes: 16, ValueBytes: 8, EntryBytes: 80, Default: 524288},
		{Map: "ipcache_map", Label: "ipcache", Kind: LPM, KeyBytes: 20, ValueBytes: 20, EntryBytes: 60, Default: 65536},
		{Map: "cidr_map", Label: "cidrs", Kind: LPM, KeyBytes: 20, ValueBytes: 8, EntryBytes: 48, Default: 65536},
		{Map: "endpoint_map", Label: "endpoints", Kind: Hash, KeyBytes: 16, ValueBytes: 48, EntryBytes: 112, Default: 16384},
		{Map: "native_map", Label: "native", Kind: LPM, KeyBytes: 20, ValueBytes: 4, EntryBytes: 44, Default: 16384},
		{Map: "fragment_map", Label: "fragments", Kind: LRU, KeyBytes: 40, ValueBytes: 12, EntryBytes: 104, Default: 8192},
	}
}

// TableOf gives the table of a BPF map, with maglevSize as of Tables.
func TableOf(mapName string, maglevSize int) (Table, bool) {
	for _, t := range Tables(maglevSize) {
		if t.Map == mapName {
			return t, true
		}
	}
	return Table{}, false
}

func roundUp(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }
