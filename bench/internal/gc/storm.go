package gc

import (
	"context"
	"errors"
	"time"

	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/packets"
	"github.com/placid-net/placid/internal/datapath/abi"
)

// Storm is what became of flows that began while pass followed pass.
type Storm struct {
	Opened  int     `json:"opened"` // flows whose handshake went through the programs
	Rate    float64 `json:"rate"`   // of them, a second
	Found   int     `json:"found"`  // of them, at the end
	Passes  int     `json:"passes"`
	Deleted int     `json:"deleted"` // entries that had expired
	Expired int     `json:"expired"` // what was put in of such
	Lost    int     `json:"lost"`    // of the entries that were to live
}

const (
	stormPort = 20000
	stormTick = 20 * time.Millisecond
	// The storm goes on until there were so many passes, and at most so many times
	// as long as it should.
	stormPasses  = 3
	stormStretch = 2
)

// storm opens flows at the rate, while the collector makes pass after pass and
// finds something to delete in each, and then looks for every one.
func (m *measurement) storm(ctx context.Context) (err error) {
	eps, err := m.node.Endpoints()
	if err != nil {
		return err
	}
	opener, err := packets.NewOpener(eps[0], eps[1], stormPort)
	if err != nil {
		return err
	}
	defer opener.Close()
	if err = m.table.fill(m.spec.Size.Entries); err != nil { // the expired ones were collected
		return err
	}
	// The collector gets what opening leaves of all CPUs.
	if err = node.BindProcess(m.cpus...); err != nil {
		return err
	}
	collecting, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	s := &m.report.Storm
	go func() { done <- m.collectOver(collecting, s) }()
	err = m.open(opener, s)
	cancel() // ends the pass that runs
	if err = errors.Join(err, <-done); err != nil {
		return err
	}
	last, err := m.collector.Collect(ctx)
	if err != nil {
		return err
	}
	s.Deleted += int(last.Deleted())
	s.Passes = int(m.passes.Load())
	if s.Found, err = m.table.find(s.Opened, func(i int) abi.CCtKey { return opener.Key(uint32(i)) }); err != nil {
		return err
	}
	found, err := m.table.find(m.spec.Size.Entries, numbered)
	s.Lost = m.spec.Size.Entries - found
	return err
}

// open opens flows in step with the clock.
func (m *measurement) open(opener *packets.Opener, s *Storm) error {
	each := uint32(float64(m.spec.Size.Rate) * stormTick.Seconds())
	began := time.Now()
	n := m.spec.Size.NewFlows
	for next := began; s.Opened < n || s.Opened < stormStretch*n && m.passes.Load() < stormPasses; {
		if err := opener.Open(each); err != nil {
			return err
		}
		s.Opened += int(each)
		next = next.Add(stormTick)
		time.Sleep(time.Until(next))
	}
	s.Rate = float64(s.Opened) / time.Since(began).Seconds()
	return nil
}

// collectOver makes pass after pass until ctx ends. The entries that expire are
// others than those that live.
func (m *measurement) collectOver(ctx context.Context, s *Storm) error {
	n := m.spec.Size.Entries
	for ctx.Err() == nil {
		few := n / (10 * expiredShare)
		ago := m.table.timeout() + expiredFor*m.table.settings.Hz
		if err := m.table.put(n, 1, n+few, ago); err != nil {
			return err
		}
		s.Expired += few
		r, err := m.collector.Collect(ctx)
		s.Deleted += int(r.Deleted())
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		m.passes.Add(1)
	}
	return nil
}
