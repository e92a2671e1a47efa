package cli

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/state"
)

const identityHelp = `Show the identities that this node knows.

An identity is a number for a set of labels: pods with the same labels share it,
and policy judges flows by it. Numbers below 256 are reserved for what has no
labels of its own.`

func (a *app) identityCommand() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List the identities that this node knows",
		Args:  cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			identities, err := a.identities(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(identities, func(out *bytes.Buffer) { identityTable(identities).render(out, "") })
		}),
	}
	get := &cobra.Command{
		Use:     "get ID",
		Short:   "Show one identity",
		Example: "  placid identity get 4711",
		Args:    oneArg,
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil {
				return usagef(cmd, "identity %q: want its number", args[0])
			}
			return a.identityGet(cmd.Context(), uint32(id))
		}),
	}
	cmd := a.group("identity", "Show the identities that this node knows", list, get, a.whatIfCommand())
	cmd.Long = identityHelp
	return cmd
}

func (a *app) identities(ctx context.Context) ([]agentapi.IdentityInfo, error) {
	out, err := ask(ctx, a, "list identities", func(ctx context.Context, ag agent) ([]agentapi.IdentityInfo, error) {
		return ag.Identities(ctx)
	})
	return nonNil(out), err
}

func (a *app) identityGet(ctx context.Context, id uint32) error {
	identities, err := a.identities(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(identities, func(x agentapi.IdentityInfo) bool { return x.ID == id })
	if i < 0 {
		return fmt.Errorf("no identity %d is known to this node; 'placid identity list' shows those that are", id)
	}
	return a.print(identities[i], func(out *bytes.Buffer) { identityText(out, identities[i]) })
}

func identityTable(identities []agentapi.IdentityInfo) *grid {
	g := newGrid("ID", "ADDRESSES", "NAMED PORTS", "LABELS")
	for _, x := range identities {
		g.add(strconv.FormatUint(uint64(x.ID), 10), strconv.Itoa(x.Addrs),
			dash(strings.Join(namedPorts(x.NamedPorts), ",")), dash(strings.Join(labels(x.Identity), ",")))
	}
	return g
}

func identityText(out *bytes.Buffer, x agentapi.IdentityInfo) {
	fmt.Fprintf(out, "%-13s%d\n", "ID:", x.ID)
	fmt.Fprintf(out, "%-13s%d\n", "Addresses:", x.Addrs)
	fmt.Fprintf(out, "%-13s%s\n", "Named ports:", dash(strings.Join(namedPorts(x.NamedPorts), ", ")))
	out.WriteString("Labels:\n")
	for _, label := range labels(x.Identity) {
		out.WriteString("  " + label + "\n")
	}
}

// labels gives "source:key=value" in order; no "=" where the value is empty. A
// reserved identity without labels gets its name for one.
func labels(x state.Identity) []string {
	if name, ok := identity.Reserved(x.ID); ok && len(x.Labels) == 0 {
		return []string{"reserved:" + name}
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(x.Labels)) {
		if value := x.Labels[key]; value != "" {
			key += "=" + value
		}
		out = append(out, key)
	}
	return out
}

// namedPorts gives "name=80/TCP".
func namedPorts(in []state.NamedPort) []string {
	out := make([]string, len(in))
	for i, p := range in {
		out[i] = fmt.Sprintf("%s=%d/%s", p.Name, p.Port, strings.ToUpper(protocolName(uint8(p.Protocol))))
	}
	return out
}

// identityName gives the name of a reserved identity, and the number of others.
func identityName(id uint32) string {
	if name, ok := identity.Reserved(id); ok {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}
