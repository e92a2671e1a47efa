package gc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
)

const (
	batch = 4096
	// expiredShare is one in so many entries.
	expiredShare = 10
	// expiredFor is how long they have been, in seconds.
	expiredFor = 60
	// established are the flags of a flow that both sides use.
	established = uint64(abi.CCtFlagsCT_REPLIED | abi.CCtFlagsCT_ASSURED | abi.CCtFlagsCT_NON_SYN)
)

// table is the TCP table of the node.
type table struct {
	*ebpf.Map
	settings abi.CSettings
	counter  *conntrack.Counter
}

func openTable(t conntrack.Tables) (*table, error) {
	var out table
	var err error
	if err = t.Settings.Lookup(uint32(0), &out.settings); err != nil {
		return nil, fmt.Errorf("read the settings: %w", err)
	}
	if out.Map, err = node.OpenTable(datapath.CTTCPMap); err != nil {
		return nil, err
	}
	out.counter, err = conntrack.NewCounter(map[string]*ebpf.Map{datapath.CTTCPMap: t.TCP})
	return &out, err
}

func (t *table) close() error { return errors.Join(t.counter.Close(), t.Close()) }

// now returns the kernel's jiffies, as entries have them.
func (t *table) now() (uint32, error) {
	_, jiffies, err := t.counter.Count()
	return uint32(jiffies), err
}

// timeout is how long a TCP flow may be idle, in jiffies.
func (t *table) timeout() uint32 { return t.settings.Timeout[abi.CCtTimeoutCT_TIMEOUT_TCP] }

// numbered is the key of number i of a set without repetition, between ends that
// no pod has.
func numbered(i int) abi.CCtKey {
	key := abi.CCtKey{Proto: unix.IPPROTO_TCP}
	for side, first := range []uint32{10<<24 | 64<<16 | uint32(i>>8), 10<<24 | 128<<16 | 1} {
		key.Addr[side].B[10], key.Addr[side].B[11] = 0xff, 0xff
		binary.BigEndian.PutUint32(key.Addr[side].B[12:], first)
	}
	key.Port = [2]uint16{uint16(i&0xff) + 1024, 443}
	return key
}

// put writes the entries first, first+step, … below n, last seen so many jiffies
// ago.
func (t *table) put(first, step, n int, ago uint32) error {
	now, err := t.now()
	if err != nil {
		return err
	}
	seen := now - ago
	entry := abi.CCtEntry{State: uint64(seen)<<32 | established, Last: seen}
	keys, entries := make([]abi.CCtKey, 0, batch), make([]abi.CCtEntry, 0, batch)
	for i := first; i < n; i += step {
		keys, entries = append(keys, numbered(i)), append(entries, entry)
		if len(keys) < batch && i+step < n {
			continue
		}
		if _, err := t.BatchUpdate(keys, entries, nil); err != nil {
			return fmt.Errorf("fill the table: %w", err)
		}
		keys, entries = keys[:0], entries[:0]
	}
	return nil
}

// find counts how many of the keys 0 to n-1 are in the table.
func (t *table) find(n int, key func(int) abi.CCtKey) (found int, err error) {
	for i := range n {
		k := key(i)
		var e abi.CCtEntry
		switch lookupErr := t.Lookup(&k, &e); {
		case lookupErr == nil:
			found++
		case !errors.Is(lookupErr, ebpf.ErrKeyNotExist):
			return found, fmt.Errorf("look for entry %d: %w", i, lookupErr)
		}
	}
	return found, nil
}

// fill makes n entries that live.
func (t *table) fill(n int) error { return t.put(0, 1, n, 0) }

// expire makes one in expiredShare of n entries one that has expired, whether it
// is there or not.
func (t *table) expire(n int) error {
	return t.put(0, expiredShare, n, t.timeout()+expiredFor*t.settings.Hz)
}
