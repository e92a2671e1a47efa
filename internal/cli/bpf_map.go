package cli

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

const mapListHelp = `List the BPF maps: how large each is, how full, and what it takes.

PRESSURE is exact at this moment, PEAK the most entries since the agent started.
MEMORY is what a map with a size of its own takes, MOVING how far its entries
have come on their way to another size. Maps without PEAK have a size that never
changes.`

// mapEntry is one map, and what is known of it where it has a size of its own.
type mapEntry struct {
	agentapi.MapInfo
	Table *agentapi.TableInfo `json:"table,omitempty"`
}

func (a *app) mapListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the BPF maps with their size, how full they are and what they take",
		Long:    mapListHelp,
		Example: "  placid bpf map list\n  placid bpf map list -o json",
		Args:    cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			maps, err := a.mapEntries(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(maps, func(out *bytes.Buffer) { mapListTable(maps).render(out, "") })
		}),
	}
}

func (a *app) mapEntries(ctx context.Context) ([]mapEntry, error) {
	infos, err := a.maps(ctx)
	if err != nil {
		return nil, err
	}
	tables, err := a.tables(ctx)
	if err != nil {
		return nil, err
	}
	byName := map[string]*agentapi.TableInfo{}
	for i := range tables.Tables {
		byName[tables.Tables[i].Name] = &tables.Tables[i]
	}
	out := make([]mapEntry, len(infos))
	for i, m := range infos {
		out[i] = mapEntry{MapInfo: m, Table: byName[m.Name]}
	}
	return out, nil
}

func (a *app) tables(ctx context.Context) (agentapi.Tables, error) {
	return ask(ctx, a, "list tables", func(ctx context.Context, ag agent) (agentapi.Tables, error) { return ag.Tables(ctx) })
}

func mapListTable(maps []mapEntry) *grid {
	g := newGrid("NAME", "TYPE", "ID", "SIZE", "ENTRIES", "PRESSURE", "PEAK", "MEMORY", "MOVING", "KEY", "VALUE")
	for _, m := range maps {
		size, entries, pressure := uint64(m.MaxEntries), m.Entries, fill(m.Type, m.Entries, m.MaxEntries)
		peak, memory, moving := "-", "-", "-"
		if t := m.Table; t != nil {
			size, entries, pressure = t.Size, t.Entries, percent(t.Pressure)
			peak, memory, moving = strconv.FormatUint(t.Peak, 10), humanize.IBytes(t.Memory), dash(moveState(t))
		}
		g.add(m.Name, m.Type, number(m.ID), strconv.FormatUint(size, 10), strconv.FormatUint(entries, 10), pressure,
			peak, memory, moving, humanize.IBytes(uint64(m.KeySize)), humanize.IBytes(uint64(m.ValueSize)))
	}
	return g
}

// percent gives a share as e.g. "12.5%".
func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }

// moveState says how far the entries of a table have come, "" if they are not on
// their way.
func moveState(t *agentapi.TableInfo) string {
	m := t.Move
	if t.Old == 0 && (m == nil || m.State != agentapi.MoveMoving) {
		return ""
	}
	if m == nil || m.State != agentapi.MoveMoving {
		text := fmt.Sprintf("%d → %d", t.Old, t.Size)
		if m != nil && m.State == agentapi.MoveWaiting {
			text += fmt.Sprintf(", %d wait for room", m.Left)
		}
		return text
	}
	parts := []string{fmt.Sprintf("%d → %d", m.From, m.To)}
	if m.Total > 0 {
		parts = append(parts, percent(min(float64(m.Passed)/float64(m.Total), 1)))
	}
	if m.Remaining > 0 {
		parts = append(parts, spent(m.Remaining)+" left")
	}
	return strings.Join(parts, ", ")
}
