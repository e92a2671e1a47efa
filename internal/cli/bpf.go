package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

const bpfHelp = `Show the agent's BPF maps and what they hold.

'placid bpf map list' lists the maps with what they take, and 'placid bpf maps'
without. 'placid bpf map resize' gives one another size while packets use it.
'placid bpf NAME list' works for every one of them and is the same as 'placid bpf
map get NAME'. 'placid bpf ct' shows the flows of all conntrack maps together, and
can remove them; 'placid bpf lb' shows the maps of services together.`

func (a *app) bpfCommand() *cobra.Command {
	maps := &cobra.Command{
		Use:   "maps",
		Short: "List the BPF maps with their size and how full they are",
		Args:  cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			infos, err := a.maps(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(nonNil(infos), func(out *bytes.Buffer) { mapTable(infos).render(out, "") })
		}),
	}
	get := &cobra.Command{
		Use:     "get NAME",
		Short:   "Show what one BPF map holds",
		Example: "  placid bpf map get ipcache -o json",
		Args:    oneArg,
		RunE:    a.run(func(cmd *cobra.Command, args []string) error { return a.dump(cmd.Context(), args[0]) }),
	}
	bpf := &cobra.Command{
		Use:     "bpf NAME list",
		Short:   "Show the agent's BPF maps and what they hold",
		Long:    bpfHelp,
		Example: "  placid bpf map list\n  placid bpf ipcache list\n  placid bpf NAME list",
		Args:    cobra.ArbitraryArgs,
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 || args[1] != "list" {
				return usagef(cmd, "bpf with %q: want bpf map list, bpf map get NAME, or bpf NAME list", args)
			}
			return a.dump(cmd.Context(), args[0])
		}),
	}
	bpf.AddCommand(maps, a.ctCommand(), a.lbCommand(), a.group("map", "Show the BPF maps and resize them", a.mapListCommand(), get, a.mapResizeCommand()),
		a.mapCommand("endpoint", "addresses of this node's pods, with their interfaces"),
		a.mapCommand("ipcache", "address ranges of the other nodes' pods, with the nodes they are on"),
		a.mapCommand("metrics", "counters of forwarded and dropped packets"))
	return bpf
}

// mapCommand is `placid bpf NAME list` for a map worth a line in the help.
func (a *app) mapCommand(name, holds string) *cobra.Command {
	return a.group(name, "Show the "+name+" map: "+holds, &cobra.Command{
		Use:   "list",
		Short: "Show the " + name + " map: " + holds,
		Args:  cobra.NoArgs,
		RunE:  a.run(func(cmd *cobra.Command, _ []string) error { return a.dump(cmd.Context(), name) }),
	})
}

func (a *app) maps(ctx context.Context) ([]agentapi.MapInfo, error) {
	return ask(ctx, a, "list maps", func(ctx context.Context, ag agent) ([]agentapi.MapInfo, error) { return ag.Maps(ctx) })
}

func (a *app) dump(ctx context.Context, name string) error {
	content, err := ask(ctx, a, "read map "+name, func(ctx context.Context, ag agent) (agentapi.MapDump, error) {
		return ag.MapDump(ctx, name)
	})
	if apiErr, ok := errors.AsType[*agentapi.Error](err); ok && apiErr.Code == agentapi.CodeNotFound {
		return a.noSuchMap(ctx, name, err)
	}
	if err != nil {
		return err
	}
	content.Columns, content.Rows = nonNil(content.Columns), nonNil(content.Rows)
	return a.print(content, func(out *bytes.Buffer) {
		g := newGrid(content.Columns...)
		g.rows = content.Rows
		g.render(out, "")
	})
}

// noSuchMap adds to the agent's answer which maps there are.
func (a *app) noSuchMap(ctx context.Context, name string, cause error) error {
	infos, err := a.maps(ctx)
	if err != nil {
		return cause
	}
	names := make([]string, len(infos))
	for i, m := range infos {
		names[i] = m.Name
	}
	return fmt.Errorf("no map %q; there are: %s", name, strings.Join(names, ", "))
}

func mapTable(infos []agentapi.MapInfo) *grid {
	g := newGrid("NAME", "TYPE", "ID", "ENTRIES", "MAX", "FILL", "KEY", "VALUE")
	for _, m := range infos {
		g.add(m.Name, m.Type, strconv.FormatUint(uint64(m.ID), 10), strconv.FormatUint(m.Entries, 10),
			strconv.FormatUint(uint64(m.MaxEntries), 10), fill(m.Type, m.Entries, m.MaxEntries),
			humanize.IBytes(uint64(m.KeySize)), humanize.IBytes(uint64(m.ValueSize)))
	}
	return g
}
