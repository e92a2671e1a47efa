package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// flowKey names an entry of a dump, wherever it is.
type flowKey struct {
	proto    uint8
	from, to netip.AddrPort
}

// dump is what conntrack has at a moment.
type dump struct {
	began, ended time.Time // it takes seconds on a busy machine
	flows        map[flowKey]agentapi.CTEntry
}

// watcher reads tables, and writes none but to fill them.
type watcher struct {
	// mu guards all below from a change of layout: until it is over, there is nothing
	// to read.
	mu      sync.Mutex
	flows   *conntrack.Collector
	counter *conntrack.Counter
	tables  map[string]*ebpf.Map
}

func newWatcher() (*watcher, error) {
	w := &watcher{tables: map[string]*ebpf.Map{}}
	return w, w.open()
}

// open finds the maps, which a change of layout makes anew.
func (w *watcher) open() error {
	for _, name := range []string{datapath.CTTCPMap, datapath.CTAnyMap, datapath.CTNewMap, datapath.SettingsMap} {
		var err error
		if w.tables[name], err = openMap(name); err != nil {
			return err
		}
	}
	w.flows = conntrack.New(conntrack.Config{
		Tables: conntrack.Tables{
			TCP: w.tables[datapath.CTTCPMap], Any: w.tables[datapath.CTAnyMap], New: w.tables[datapath.CTNewMap], Settings: w.tables[datapath.SettingsMap],
		},
		Log: slog.New(slog.DiscardHandler),
	})
	var err error
	w.counter, err = conntrack.NewCounter(map[string]*ebpf.Map{
		datapath.CTTCPMap: w.tables[datapath.CTTCPMap], datapath.CTAnyMap: w.tables[datapath.CTAnyMap], datapath.CTNewMap: w.tables[datapath.CTNewMap],
	})
	return err
}

func (w *watcher) close() error {
	errs := []error{w.flows.Close(), w.counter.Close()}
	for _, m := range w.tables {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// fill puts n more established flows into the table of TCP, of nobody.
func (w *watcher) fill(n int) error {
	_, now, err := w.counter.Count()
	if err != nil {
		return err
	}
	t, err := currentOf(w.tables[datapath.CTTCPMap])
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	keys, entries := make([]abi.CCtKey, n), make([]abi.CCtEntry, n)
	flags := abi.CCtFlagsCT_REPLIED | abi.CCtFlagsCT_ASSURED | abi.CCtFlagsCT_NON_SYN
	for i := range keys {
		a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 16), byte(i >> 8)})
		keys[i] = abi.CCtKey{
			Proto: unix.IPPROTO_TCP, Addr: [2]abi.CAddr{netorder.Addr(a), netorder.Addr(netip.MustParseAddr("198.19.0.1"))},
			Port: [2]uint16{netorder.Port(uint16(1024 + i&0xff)), netorder.Port(80)},
		}
		entries[i] = abi.CCtEntry{State: now<<32 | uint64(flags), Last: uint32(now)}
	}
	if _, err := t.BatchUpdate(keys, entries, nil); err != nil {
		return fmt.Errorf("fill the table of TCP: %w", err)
	}
	return nil
}

// dump reads all flows.
func (w *watcher) dump(ctx context.Context) (*dump, error) {
	d := &dump{began: time.Now(), flows: map[flowKey]agentapi.CTEntry{}}
	list, err := w.flows.List(ctx, agentapi.CTFilter{})
	if err != nil {
		return nil, err
	}
	for i := range list.Entries {
		e := &list.Entries[i]
		d.flows[flowKey{e.Proto, e.Source, e.Destination}] = *e
	}
	d.ended = time.Now()
	return d, nil
}

// isShort tells whether a flow is a connection that is closed at once.
func isShort(e *agentapi.CTEntry) bool {
	for _, first := range []uint16{tcpPort, directPort} {
		if port := e.Destination.Port(); port >= first+longPorts && port < first+tcpPorts {
			return e.Proto == unix.IPPROTO_TCP
		}
	}
	return false
}

// lost counts flows that were there, cannot have expired, and are gone; and how many
// were compared. Connections that are closed at once do not count, and embryonic
// flows, which may be evicted as always.
func lost(before, after *dump) (compared int, gone []string) {
	elapsed := after.ended.Sub(before.began) + time.Second
	for key, e := range before.flows {
		if e.Table == "new" || e.State != agentapi.CTStateEstablished || e.Expires <= elapsed || isShort(&e) {
			continue
		}
		compared++
		if _, there := after.flows[key]; !there {
			gone = append(gone, fmt.Sprintf("%d %s %s, %v, age %s, idle %s, expires in %s", key.proto, key.from, key.to, e.Flags, e.Age, e.Idle, e.Expires))
		}
	}
	return compared, gone
}

// fullness is how full the tables of flows are at a moment.
type fullness struct {
	At      time.Time         `json:"at"`
	Entries map[string]uint64 `json:"entries"`
	Sizes   map[string]uint64 `json:"sizes"`
}

func (w *watcher) fullness() (fullness, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := fullness{At: time.Now(), Sizes: map[string]uint64{}}
	var err error
	if f.Entries, _, err = w.counter.Count(); err != nil {
		return f, err
	}
	for _, name := range []string{datapath.CTTCPMap, datapath.CTAnyMap, datapath.CTNewMap} {
		t, err := currentOf(w.tables[name])
		if err != nil {
			continue // replaced at this moment
		}
		f.Sizes[name] = uint64(t.MaxEntries())
		if err := t.Close(); err != nil {
			return f, err
		}
	}
	return f, nil
}

// empty replaces the tables of flows by empty ones of twice their size.
func (w *watcher) empty() error {
	for _, name := range []string{datapath.CTTCPMap, datapath.CTAnyMap, datapath.CTNewMap} {
		t, err := currentOf(w.tables[name])
		if err != nil {
			return err
		}
		info, err := t.Info()
		if err != nil {
			return err
		}
		to, err := ebpf.NewMap(&ebpf.MapSpec{
			Type: t.Type(), KeySize: t.KeySize(), ValueSize: t.ValueSize(), MaxEntries: 2 * t.MaxEntries(), Flags: info.Flags, Name: info.Name,
		})
		if err != nil {
			return fmt.Errorf("make an empty table for %s: %w", name, err)
		}
		err = w.tables[name].Put(uint32(abi.CTableSlotTABLE_CURRENT), to)
		if err = errors.Join(err, to.Close(), t.Close()); err != nil {
			return fmt.Errorf("put an empty table into %s: %w", name, err)
		}
	}
	return nil
}
