package datapath

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/timing"
)

// DefaultTimeouts are Cilium's.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		TCP: 8000 * time.Second, TCPSyn: time.Minute, TCPFin: 10 * time.Second, Any: time.Minute,
		ServiceTCP: 8000 * time.Second, ServiceAny: time.Minute,
	}
}

// Timeouts say how long a flow lives without a packet: the keys
// bpf-ct-timeout-regular-* and bpf-ct-timeout-service-*. The zero value stands for DefaultTimeouts.
type Timeouts struct {
	TCP    time.Duration // established
	TCPSyn time.Duration // half open
	TCPFin time.Duration // closing
	Any    time.Duration // all other protocols
	// The same for flows to services.
	ServiceTCP time.Duration
	ServiceAny time.Duration
}

// bumpDelay is how long changes that are not urgent wait for each other before
// the epoch moves.
const bumpDelay = time.Second

// settings writes the live settings of the programs.
type settings struct {
	table settingsTable
	hz    uint32

	mu    sync.Mutex
	value abi.CSettings
	soon  chan struct{} // asks run for a bump
}

// settingsTable is the map of the settings, which has one row.
type settingsTable interface {
	Lookup(key, value any) error
	Put(key, value any) error
}

// openSettings keeps the epoch that it finds: flows were judged in it.
func openSettings(table settingsTable, hz uint32, timeouts Timeouts) (*settings, error) {
	s := &settings{table: table, hz: hz, soon: make(chan struct{}, 1)}
	if err := table.Lookup(uint32(0), &s.value); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, fmt.Errorf("read %s: %w", SettingsMap, err)
	}
	s.value.Hz = hz
	return s, s.setTimeouts(timeouts)
}

// jiffies rounds up. Entries hold 32 bits, which is 49 days at 1000 Hz; the
// longest timeout is 30 days.
func (s *settings) jiffies(d time.Duration) uint32 {
	n := math.Ceil(d.Seconds() * float64(s.hz))
	return uint32(min(max(n, 1), math.MaxUint32))
}

func (s *settings) setTimeouts(t Timeouts) error {
	if t == (Timeouts{}) {
		t = DefaultTimeouts()
	}
	return s.change(func(v *abi.CSettings) {
		v.Timeout[abi.CCtTimeoutCT_TIMEOUT_TCP] = s.jiffies(t.TCP)
		v.Timeout[abi.CCtTimeoutCT_TIMEOUT_TCP_SYN] = s.jiffies(t.TCPSyn)
		v.Timeout[abi.CCtTimeoutCT_TIMEOUT_TCP_FIN] = s.jiffies(t.TCPFin)
		v.Timeout[abi.CCtTimeoutCT_TIMEOUT_ANY] = s.jiffies(t.Any)
		v.Timeout[abi.CCtTimeoutCT_TIMEOUT_SERVICE_TCP] = s.jiffies(t.ServiceTCP)
		v.Timeout[abi.CCtTimeoutCT_TIMEOUT_SERVICE_ANY] = s.jiffies(t.ServiceAny)
	})
}

// setHasCIDRs tells the programs whether there are prefixes to look up.
func (s *settings) setHasCIDRs(has bool) error {
	return s.change(func(v *abi.CSettings) {
		v.HasCidrs = 0
		if has {
			v.HasCidrs = 1
		}
	})
}

// setHasDenies tells the programs whether a list of ports may deny something: an
// entry that allows is not the last word then.
func (s *settings) setHasDenies(has bool) error {
	return s.change(func(v *abi.CSettings) {
		v.HasDenies = 0
		if has {
			v.HasDenies = 1
		}
	})
}

// bump moves the epoch: every flow is judged again on its next packet. What
// takes the permission away must be in the kernel already.
func (s *settings) bump() error {
	return s.change(func(v *abi.CSettings) { v.Epoch++ })
}

// bumpSoon moves the epoch within bumpDelay, once for all that ask meanwhile.
func (s *settings) bumpSoon() {
	select {
	case s.soon <- struct{}{}:
	default:
	}
}

// run carries out what bumpSoon asks for, until ctx ends.
func (s *settings) run(ctx context.Context, failed func(error)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.soon:
		}
		timing.Sleep(ctx, bumpDelay)
		if err := s.bump(); err != nil {
			failed(err)
			s.bumpSoon()
		}
	}
}

func (s *settings) change(edit func(*abi.CSettings)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.value
	edit(&next)
	if next == s.value {
		return nil
	}
	if err := s.table.Put(uint32(0), &next); err != nil {
		return fmt.Errorf("write %s: %w", SettingsMap, err)
	}
	s.value = next
	return nil
}

// SetTimeouts changes the timeouts of flows. Entries that exist follow with
// their next packet.
func (d *Datapath) SetTimeouts(t Timeouts) error { return d.settings.setTimeouts(t) }
