package resize

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/placid-net/placid/internal/datapath/conntrack"
)

// State is how far a move has come.
type State string

// The states.
const (
	Moving  State = "moving"
	Waiting State = "waiting for room" // entries are left in the old table; everything works
	Done    State = "done"
	Stopped State = "stopped" // it goes on with the next agent
	Failed  State = "failed"  // the table has the size that it had, unless Moving tells otherwise
)

// Move is one change of a table's size.
type Move struct {
	Map      string
	From, To uint32 // sizes in entries; From is 0 when an earlier agent began
	Why      string
	State    State
	Began    time.Time
	Took     time.Duration // until now, or until it ended
	Total    uint64        // entries that there were when it began; 0 when an earlier agent did
	Passed   uint64        // entries that were looked at
	Moved    uint64        // by this move
	Ended    uint64        // expired on the way
	Left     uint64        // still in the old table for lack of room
	Bytes    uint64        // memory of the new table
	Problem  string
}

// Rate is how many entries a second were looked at.
func (m Move) Rate() float64 {
	if m.Took <= 0 {
		return 0
	}
	return float64(m.Passed) / m.Took.Seconds()
}

// Remaining is how long the move still takes at this rate. False: nobody knows.
func (m Move) Remaining() (time.Duration, bool) {
	if m.State != Moving || m.Rate() == 0 || m.Total < m.Passed {
		return 0, false
	}
	return time.Duration(float64(m.Total-m.Passed) / m.Rate() * float64(time.Second)), true
}

// progress is a move that goes on.
type progress struct {
	mu   sync.Mutex
	move Move
}

func (p *progress) to() uint32 { return p.move.To } // never changes

func (p *progress) moved(passed, moved uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.move.Passed, p.move.Moved = passed, moved
}

func (p *progress) flows(n conntrack.Moves) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.move.Passed, p.move.Moved, p.move.Ended, p.move.Left = n.Passed(), n.Moved, n.Ended, n.Left
}

// now is the move as it is at this moment.
func (p *progress) now() Move {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.move
	if out.State == Moving {
		out.Took = time.Since(out.Began)
	}
	return out
}

// began notes a new move.
func (m *Manager) began(move Move) *progress {
	move.State, move.Began = Moving, time.Now()
	p := &progress{move: move}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last[move.Map] = p
	return p
}

// resumed notes that a move goes on: this agent's own, or an earlier one's.
func (m *Manager) resumed(t Table) *progress {
	m.mu.Lock()
	last := m.last[t.Name]
	m.mu.Unlock()
	move := Move{Map: t.Name, To: t.Table.MaxEntries(), Why: "an earlier agent began it"}
	if last != nil {
		move = last.now()
		move.Passed, move.Moved, move.Ended, move.Left, move.Problem = 0, 0, 0, 0, ""
	}
	m.cfg.Log.Debug("going on with the move of a table", "map", t.Name, "to", move.To, "why", move.Why)
	return m.began(move)
}

// ended notes how a move ended, and tells.
func (m *Manager) ended(p *progress, err error) Move {
	p.mu.Lock()
	p.move.Took = time.Since(p.move.Began)
	switch {
	case err == nil:
		p.move.State = Done
	case errors.Is(err, conntrack.ErrNoRoom):
		p.move.State = Waiting
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		p.move.State = Stopped
	default:
		p.move.State = Failed
	}
	if err != nil {
		p.move.Problem = err.Error()
	}
	out := p.move
	p.mu.Unlock()
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
	}
	m.cfg.Log.Log(context.Background(), level, "a table was resized", "map", out.Map, "state", out.State, "to", out.To,
		"moved", out.Moved, "ended", out.Ended, "left", out.Left, "took", out.Took, "problem", out.Problem)
	if m.cfg.Done != nil {
		m.cfg.Done(out)
	}
	return out
}

// Moves lists the last move of every table that had one, also one that goes on.
func (m *Manager) Moves() []Move {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Move
	for _, name := range m.Names() {
		if p := m.last[name]; p != nil {
			out = append(out, p.now())
		}
	}
	return out
}
