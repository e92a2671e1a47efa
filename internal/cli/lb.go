package cli

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

// shownBackends is how many backends of a list one line names.
const shownBackends = 4

const lbListHelp = `Show what the kernel has of services: the truth, whatever it should be.

A line is one frontend with the backends that clients inside and outside of the
cluster get. Frontends of port 0 say that all other ports of an address are
closed. With --backends a line is one slot of a list of backends; frontends share
lists. The standard error says how full the tables are.`

func (a *app) lbCommand() *cobra.Command {
	var frontends, backends bool
	list := &cobra.Command{
		Use:     "list",
		Short:   "Show the frontends and backends of services in the kernel",
		Long:    lbListHelp,
		Example: "  placid bpf lb list\n  placid bpf lb list --backends\n  placid bpf lb list -o json",
		Args:    cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			if frontends && backends {
				return usagef(cmd, "--frontends and --backends contradict each other: give one")
			}
			return a.lbList(cmd.Context(), frontends, backends)
		}),
	}
	list.Flags().BoolVar(&frontends, "frontends", false, "only the frontends, with the ids of their lists")
	list.Flags().BoolVar(&backends, "backends", false, "only the lists of backends")
	return a.group("lb", "Show services in the kernel", list)
}

func (a *app) lbList(ctx context.Context, frontends, backends bool) error {
	found, err := ask(ctx, a, "list frontends and backends", func(ctx context.Context, ag agent) (agentapi.LBTables, error) {
		return ag.LB(ctx)
	})
	if err != nil {
		return err
	}
	found.Frontends, found.Lists, found.Tables = nonNil(found.Frontends), nonNil(found.Lists), nonNil(found.Tables)
	switch {
	case frontends:
		found.Lists = []agentapi.LBList{}
	case backends:
		found.Frontends = []agentapi.LBFrontend{}
	}
	if err := a.print(found, func(out *bytes.Buffer) {
		if backends {
			listTable(found.Lists).render(out, "")
			return
		}
		frontendTable(found, frontends).render(out, "")
	}); err != nil {
		return err
	}
	if fill := lbFill(found.Tables); fill != "" {
		a.note("%s", fill)
	}
	return nil
}

// frontendTable names the backends of each frontend, or only their list.
func frontendTable(t agentapi.LBTables, short bool) *grid {
	lists := map[uint32][]agentapi.LBBackend{}
	for _, l := range t.Lists {
		lists[l.ID] = l.Backends
	}
	show := func(list uint32) string {
		if short {
			return number(list)
		}
		return someBackends(lists[list])
	}
	g := newGrid("ADDRESS", "PROTO", "ID", "SERVICE", "CLUSTER", "OUTSIDE", "FLAGS")
	for _, f := range t.Frontends {
		addr, protocol := f.Addr.String(), f.Protocol.String()
		if f.Addr.Port() == 0 {
			addr, protocol = f.Addr.Addr().String(), "-"
		}
		g.add(addr, protocol, number(f.ID), dash(strings.TrimSuffix(f.Service+":"+f.Port, ":")),
			show(f.Cluster), show(f.Outside), dash(strings.Join(f.Flags, ",")))
	}
	return g
}

func listTable(lists []agentapi.LBList) *grid {
	g := newGrid("LIST", "SLOT", "BACKEND", "ID")
	for _, l := range lists {
		for slot, b := range l.Backends {
			g.add(number(l.ID), strconv.Itoa(slot), b.Addr.String(), number(b.ID))
		}
	}
	return g
}

// someBackends names the first of them, and says that there are more.
func someBackends(backends []agentapi.LBBackend) string {
	var words []string
	for _, b := range backends[:min(len(backends), shownBackends)] {
		words = append(words, b.Addr.String())
	}
	if len(backends) > shownBackends {
		words = append(words, "…")
	}
	return dash(strings.Join(words, ","))
}

// lbFill gives e.g. "frontend: 5/65536, backend: 12/65536".
func lbFill(tables []agentapi.LBTable) string {
	words := make([]string, len(tables))
	for i, t := range tables {
		words[i] = t.Name + ": " + tableFill(agentapi.CTTable{Entries: t.Entries, Size: t.Size})
	}
	return strings.Join(words, ", ")
}
