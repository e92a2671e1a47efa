package sizes

import (
	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/resize"
	"github.com/placid-net/placid/internal/sizing"
)

// Tables describes every table. An error is that of reading the kernel.
func (r *Runner) Tables() (agentapi.Tables, error) {
	found, err := r.cfg.Datapath.SizedTables()
	if err != nil {
		return agentapi.Tables{}, err
	}
	moves := map[string]*agentapi.TableMove{}
	for _, m := range r.cfg.Datapath.Moves() {
		info := MoveInfo(m)
		moves[m.Map] = &info
	}
	waiting := waitingEntries(r.cfg.Datapath.RefusedServices())
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.settings
	out := agentapi.Tables{Ratio: s.Ratio, Autosize: s.Auto, Budget: s.Budget, NAT: s.NAT, Tables: make([]agentapi.TableInfo, 0, len(found))}
	fixed := map[string]bool{}
	for _, name := range s.Fixed() {
		fixed[name] = true
	}
	for _, t := range found {
		out.Memory += t.Memory
		info := tableInfo(t)
		info.Fixed, info.Waiting, info.Move = fixed[t.Map], uint64(waiting[t.Map]), moves[t.Map]
		info.Peak = max(r.peaks[t.Map], t.Entries)
		info.Blocked, info.Limit = r.obstacleOf(t.Map)
		out.Tables = append(out.Tables, info)
	}
	return out, nil
}

// tableInfo is what the kernel says of a table.
func tableInfo(t datapath.SizedTable) agentapi.TableInfo {
	out := agentapi.TableInfo{
		Name: datapath.ShortName(t.Map), Label: t.Label, Kind: string(t.Kind), Key: t.Key, Evicts: t.Kind == sizing.LRU,
		Entries: t.Entries, Size: t.Size, Old: t.Old, Headroom: t.Size - min(t.Entries, t.Size), Memory: t.Memory,
		Inserts: agentapi.TableInserts{Inserted: t.Inserted, Full: t.Full, Busy: t.Busy, Other: t.Failed},
	}
	if t.Size > 0 {
		out.Pressure = float64(t.Entries) / float64(t.Size)
	}
	return out
}

// MoveInfo is a move as clients of the agent see it.
func MoveInfo(m resize.Move) agentapi.TableMove {
	out := agentapi.TableMove{
		Name: datapath.ShortName(m.Map), From: m.From, To: m.To, Why: m.Why, State: string(m.State), Began: m.Began, Took: m.Took,
		Total: m.Total, Passed: m.Passed, Moved: m.Moved, Ended: m.Ended, Left: m.Left, Rate: m.Rate(), Memory: m.Bytes, Problem: m.Problem,
	}
	out.Remaining, _ = m.Remaining()
	return out
}

// Tally is what became of resizes by the name of the table, e.g. "ct_tcp".
type Tally map[string]Counts

// Tally counts resizes since the agent started, as of the last sample.
func (r *Runner) Tally() Tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := Tally{}
	for name, c := range r.counts {
		out[datapath.ShortName(name)] = c
	}
	return out
}
