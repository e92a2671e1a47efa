package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

const (
	// listLimit keeps a list of a large table from being the node's largest task.
	listLimit = 1000
	topLimit  = 20
	// walkTimeout is the default of --timeout for what walks whole tables and is
	// done only at the end: a walk has the lowest priority on a busy node.
	walkTimeout = 2 * time.Minute
)

const ctListHelp = `List the live flows of this node: those that meet every condition that is given.

A flow is shown from the side that began it. EXPIRES is the time until it is
forgotten when no other packet comes. The identities are those that policy
judged it by. With fewer flows shown than there are, the standard error says so;
the JSON and YAML forms hold the total.`

const ctFlushHelp = `Delete flows from conntrack: those that meet every condition that is given.

Asks nothing. The next packet of a flow that goes on is judged as if it were the
first: when it comes from the side that did not begin the flow, policy may deny it.
Waits up to 2m unless --timeout says otherwise.`

const ctGCHelp = `Collect now: delete all flows that have expired from conntrack.

The agent does so by itself from time to time; expired flows that still take up
room are never used. Waits up to 2m unless --timeout says otherwise.`

func (a *app) ctCommand() *cobra.Command {
	return a.group("ct", "Show the flows that conntrack knows, or remove them",
		a.ctListCommand(), a.ctGetCommand(), a.ctTopCommand(), a.ctFlushCommand(), a.ctGCCommand())
}

// ctConditions are the flags of a filter.
type ctConditions struct {
	pod   parsed[string]
	addr  parsed[netip.Prefix]
	port  parsed[uint16]
	proto parsed[uint8]
	state enum
}

func newCTConditions(cmd *cobra.Command) *ctConditions {
	c := &ctConditions{
		pod:   parsed[string]{kind: "NAMESPACE/NAME", parse: parsePod},
		addr:  parsed[netip.Prefix]{kind: "ADDRESS|CIDR", parse: agentapi.ParsePrefix},
		port:  parsed[uint16]{kind: "PORT", parse: parsePort},
		proto: parsed[uint8]{kind: "PROTOCOL", parse: parseProtocol},
		state: enum{kind: "STATE", allowed: agentapi.CTStates()},
	}
	flags := cmd.Flags()
	flags.Var(&c.pod, "pod", "only flows of this pod of the node")
	flags.Var(&c.addr, "addr", "only flows with an address in this range, on either side")
	flags.Var(&c.port, "port", "only flows with this port, on either side")
	flags.Var(&c.proto, "proto", "only flows of this protocol: tcp, udp, sctp, icmp, icmpv6 or a number")
	flags.Var(&c.state, "state", "only flows in this state: "+c.state.choices())
	return c
}

func (c *ctConditions) filter() agentapi.CTFilter {
	return agentapi.CTFilter{
		Pod: c.pod.value, Addr: c.addr.value, Port: c.port.value, State: c.state.value,
		Proto: protocolOf(c.proto.value, c.addr.value.Addr()),
	}
}

func (a *app) ctListCommand() *cobra.Command {
	limit := newLimit(listLimit)
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the live flows of this node",
		Long:    ctListHelp,
		Example: "  placid bpf ct list --pod default/web-0 --state established\n  placid bpf ct list --addr 10.244.1.0/24 --proto tcp --port 443",
		Args:    cobra.NoArgs,
	}
	conditions := newCTConditions(cmd)
	cmd.Flags().Var(&limit, "limit", "the most flows to show; 0 shows all")
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		filter := conditions.filter()
		filter.Limit = limit.value
		return a.ctList(cmd.Context(), filter)
	})
	return cmd
}

func (a *app) ctList(ctx context.Context, filter agentapi.CTFilter) error {
	found, err := a.flows(ctx, filter)
	if err != nil {
		return err
	}
	if err := a.print(found, func(out *bytes.Buffer) { flowTable(found.Entries).render(out, "") }); err != nil {
		return err
	}
	if len(found.Entries) < found.Total {
		a.note("%d of %s shown; --limit 0 shows all", len(found.Entries), plural(found.Total, "flow"))
	}
	return nil
}

func (a *app) flows(ctx context.Context, filter agentapi.CTFilter) (agentapi.CTList, error) {
	found, err := ask(ctx, a, "list flows", func(ctx context.Context, ag agent) (agentapi.CTList, error) {
		return ag.CTList(ctx, filter)
	})
	found.Entries = nonNil(found.Entries)
	return found, err
}

func (a *app) ctTopCommand() *cobra.Command {
	by := enum{value: agentapi.CTTopSource, kind: "WHAT", allowed: agentapi.CTTopKinds()}
	limit := newLimit(topLimit)
	cmd := &cobra.Command{
		Use:     "top",
		Short:   "Show who has most flows",
		Example: "  placid bpf ct top --by pod --limit 5",
		Args:    cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			return a.ctTop(cmd.Context(), by, limit.value)
		}),
	}
	cmd.Flags().Var(&by, "by", "what to count flows by: "+by.choices()+"; a pod of this node is counted on either side")
	cmd.Flags().Var(&limit, "limit", "the most lines to show; 0 shows all")
	return cmd
}

func (a *app) ctTop(ctx context.Context, by enum, limit int) error {
	talkers, err := ask(ctx, a, "count flows", func(ctx context.Context, ag agent) ([]agentapi.CTTalker, error) {
		return ag.CTTop(ctx, by.value, limit)
	})
	if err != nil {
		return err
	}
	return a.print(nonNil(talkers), func(out *bytes.Buffer) { talkerTable(by.value, talkers).render(out, "") })
}

func (a *app) ctFlushCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "flush",
		Short:   "Delete flows from conntrack",
		Long:    ctFlushHelp,
		Example: "  placid bpf ct flush --pod default/web-0\n  placid bpf ct flush --all",
		Args:    cobra.NoArgs,
	}
	conditions := newCTConditions(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "delete every flow")
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		filter := conditions.filter()
		filter.All = all
		switch {
		case all && filter.Selective():
			return usagef(cmd, "--all contradicts the other conditions: give one or the other")
		case !all && !filter.Selective():
			return usagef(cmd, "ct flush needs a condition, e.g. --pod; --all deletes every flow")
		}
		a.patient(cmd)
		return a.ctFlush(cmd.Context(), filter)
	})
	return cmd
}

func (a *app) ctFlush(ctx context.Context, filter agentapi.CTFilter) error {
	done, err := ask(ctx, a, "flush flows", func(ctx context.Context, ag agent) (agentapi.CTFlushed, error) {
		return ag.CTFlush(ctx, filter)
	})
	if err != nil {
		return err
	}
	return a.print(done, func(out *bytes.Buffer) { fmt.Fprintf(out, "%s deleted\n", plural(done.Deleted, "flow")) })
}

func (a *app) ctGCCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "gc",
		Short: "Delete the flows that have expired now",
		Long:  ctGCHelp,
		Args:  cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			a.patient(cmd)
			done, err := ask(cmd.Context(), a, "collect expired flows", func(ctx context.Context, ag agent) (agentapi.CTCollection, error) {
				return ag.CTCollect(ctx)
			})
			if err != nil {
				return err
			}
			return a.print(done, func(out *bytes.Buffer) { out.WriteString(collection(done) + "\n") })
		}),
	}
}

// patient gives a request walkTimeout unless --timeout was given.
func (a *app) patient(cmd *cobra.Command) {
	if !cmd.Flags().Changed("timeout") {
		a.timeout = walkTimeout
	}
}
