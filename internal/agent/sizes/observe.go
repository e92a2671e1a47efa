package sizes

import (
	"github.com/placid-net/placid/internal/autosize"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/resize"
	"github.com/placid-net/placid/internal/loadbalance"
)

// Counts are what became of the resizes of a table since the agent started.
type Counts struct {
	Success uint64
	Waiting uint64 // ended with entries that found no room
	Failed  uint64
	Refused uint64 // wanted by the tuner or the configuration, and not begun
	Entries uint64 // that moved
}

// observe notes what a sample shows. The caller holds the lock.
func (r *Runner) observe(tables []datapath.SizedTable, moves []resize.Move) {
	for _, t := range tables {
		r.peaks[t.Map] = max(r.peaks[t.Map], t.Entries)
	}
	for _, m := range moves {
		r.count(m)
	}
}

// count counts a move once when it has ended. One that waits for room begins again
// and again, and counts when it first does and when it is done.
func (r *Runner) count(m resize.Move) {
	seen, ok := r.seen[m.Map]
	again := ok && seen.State == m.State && seen.Began.Equal(m.Began)
	if again || m.State == resize.Moving || m.State == resize.Stopped {
		return
	}
	r.seen[m.Map] = m
	c := r.counts[m.Map]
	c.Entries += m.Moved
	switch {
	case m.State == resize.Done:
		c.Success++
	case m.State != resize.Waiting:
		c.Failed++
	case seen.State != resize.Waiting || seen.To != m.To:
		c.Waiting++
	}
	r.counts[m.Map] = c
}

// waitingEntries are those that services wait to write, by map name.
func waitingEntries(refused []loadbalance.Refusal) map[string]int {
	out := map[string]int{}
	for _, f := range refused {
		out[f.Table] += f.Needs
	}
	return out
}

// samples is what the controller sees of the tables.
func samples(tables []datapath.SizedTable, waiting map[string]int) map[string]autosize.Sample {
	out := make(map[string]autosize.Sample, len(tables))
	for _, t := range tables {
		out[t.Map] = autosize.Sample{
			Entries: int(t.Entries), Size: int(t.Size), Old: int(t.Old), Waiting: waiting[t.Map],
			Inserts: int64(t.Inserted) - int64(t.MovedOn), Failures: t.Full,
		}
	}
	return out
}
