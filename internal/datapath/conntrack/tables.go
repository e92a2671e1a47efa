package conntrack

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/abi"
)

var (
	// ErrNoTable is returned when an outer map holds no table.
	ErrNoTable = errors.New("no table in place")
	// ErrNoSettings is returned when the agent has not written its settings yet:
	// without timeouts everything would count as expired.
	ErrNoSettings = errors.New("the settings have no timeouts yet")
)

// Names of the tables, as entries carry them.
const (
	tableTCP = "tcp"
	tableAny = "any"
	tableNew = "new"
)

// Tables are the maps that conntrack works with. They stay the caller's, and
// open while they are in use.
type Tables struct {
	// TCP, Any and New are outer maps; the table is in slot TABLE_CURRENT.
	TCP, Any, New *ebpf.Map
	// Settings is the map of one abi.CSettings.
	Settings *ebpf.Map
}

// outers gives the outer maps in the order of walks.
func (t Tables) outers() []outer {
	return []outer{{tableTCP, t.TCP}, {tableAny, t.Any}, {tableNew, t.New}}
}

type outer struct {
	name string
	*ebpf.Map
}

// table is an opened inner map.
type table struct {
	name string
	id   ebpf.MapID
	*ebpf.Map
}

// switchAttempts bounds how often a table that is replaced while it is opened is
// looked for again.
const switchAttempts = 10

// current opens the table that the outer map holds now. The caller closes it.
func (o outer) current() (table, error) {
	var err error
	for range switchAttempts {
		t := table{name: o.name}
		if err = o.Lookup(uint32(abi.CTableSlotTABLE_CURRENT), &t.id); err != nil {
			break
		}
		if t.Map, err = ebpf.NewMapFromID(t.id); err == nil {
			return t, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = ErrNoTable
	}
	return table{}, fmt.Errorf("open conntrack table %s: %w", o.name, err)
}

// old opens the table that flows move from. Its Map is nil when there is none.
func (o outer) old() (table, error) {
	t := table{name: o.name}
	err := o.Lookup(uint32(abi.CTableSlotTABLE_OLD), &t.id)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return t, nil
	}
	if err == nil {
		t.Map, err = ebpf.NewMapFromID(t.id)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return table{name: o.name}, nil // the move ended just now
	}
	if err != nil {
		return t, fmt.Errorf("open old conntrack table %s: %w", o.name, err)
	}
	return t, nil
}

// moves tells whether there is an old table.
func (o outer) moves() (bool, error) {
	t, err := o.old()
	if err != nil || t.Map == nil {
		return false, err
	}
	return true, t.Close()
}

// dropOld lets go of the old table. No program uses it any more when it returns.
func (o outer) dropOld() error {
	if err := o.Delete(uint32(abi.CTableSlotTABLE_OLD)); err != nil {
		return fmt.Errorf("let go of old conntrack table %s: %w", o.name, err)
	}
	return nil
}

// outerOf finds the outer map by the name of its map.
func (c *Collector) outerOf(name string) (outer, error) {
	for _, o := range c.cfg.Tables.outers() {
		if mapName(o.name) == name {
			return o, nil
		}
	}
	return outer{}, fmt.Errorf("map %s is no conntrack table", name)
}

// settings reads the live settings.
func (t Tables) settings() (abi.CSettings, error) {
	var s abi.CSettings
	if err := t.Settings.Lookup(uint32(0), &s); err != nil {
		return s, fmt.Errorf("read settings: %w", err)
	}
	for _, timeout := range s.Timeout {
		if timeout == 0 || s.Hz == 0 {
			return s, ErrNoSettings
		}
	}
	return s, nil
}
