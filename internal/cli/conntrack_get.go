package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

const ctGetHelp = `Show one flow of this node.

The flow is named by its two sides, in either order, and its protocol. Exits
with 1 when there is none. IPv6 is written [ADDRESS]:PORT. A protocol without
ports needs the addresses alone; where several pings are under way between them,
PORT is the echo identifier on the side that asks.`

// flowKey names one flow: two sides, in either order, and a protocol. A port of
// 0 is any.
type flowKey struct {
	from, to netip.AddrPort
	proto    uint8
}

func (k flowKey) String() string {
	return fmt.Sprintf("%s %s → %s", protocolName(k.proto), side(k.from), side(k.to))
}

func (a *app) ctGetCommand() *cobra.Command {
	from := parsed[netip.AddrPort]{kind: "ADDRESS:PORT", parse: parseSide}
	to := from
	proto := parsed[uint8]{value: protoTCP, text: protocolName(protoTCP), kind: "PROTOCOL", parse: parseProtocol}
	cmd := &cobra.Command{
		Use:     "get",
		Short:   "Show one flow of this node",
		Long:    ctGetHelp,
		Example: "  placid bpf ct get --from 10.244.0.5:43210 --to 10.244.1.7:80\n  placid bpf ct get --from [fd00::5] --to [fd00::7] --proto icmp",
		Args:    cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			if !from.given() || !to.given() {
				return usagef(cmd, "ct get needs both --from and --to")
			}
			key := flowKey{from: from.value, to: to.value, proto: protocolOf(proto.value, from.value.Addr())}
			if key.from.Addr().Is4() != key.to.Addr().Is4() {
				return usagef(cmd, "--from %s and --to %s: one is IPv4, the other IPv6", from.text, to.text)
			}
			if hasPorts(key.proto) && (key.from.Port() == 0 || key.to.Port() == 0) {
				return usagef(cmd, "--from %s --to %s: %s needs both ports, as ADDRESS:PORT", from.text, to.text, protocolName(key.proto))
			}
			return a.ctGet(cmd.Context(), key)
		}),
	}
	cmd.Flags().Var(&from, "from", "one side of the flow")
	cmd.Flags().Var(&to, "to", "the other side")
	cmd.Flags().Var(&proto, "proto", "protocol of the flow: tcp, udp, sctp, icmp, icmpv6 or a number")
	return cmd
}

func (a *app) ctGet(ctx context.Context, key flowKey) error {
	// One side is all that a filter can say; the agent need not send the rest.
	narrow := key.from
	if narrow.Port() == 0 {
		narrow = key.to
	}
	found, err := a.flows(ctx, agentapi.CTFilter{
		Addr: netip.PrefixFrom(narrow.Addr(), narrow.Addr().BitLen()), Port: narrow.Port(), Proto: key.proto,
	})
	if err != nil {
		return err
	}
	entries := key.pick(found.Entries)
	switch len(entries) {
	case 0:
		return fmt.Errorf("no flow %s on this node; 'placid bpf ct list' shows those that exist", key)
	case 1:
		return a.print(entries[0], func(out *bytes.Buffer) { flowText(out, entries[0]) })
	}
	return fmt.Errorf("%d flows are %s: give the echo identifier as port; 'placid bpf ct list' shows them", len(entries), key)
}

// pick returns the entries that are the flow. One that moves from the embryonic
// table to its own right now is in both: the latter counts.
func (k flowKey) pick(entries []agentapi.CTEntry) []agentapi.CTEntry {
	type sides struct{ source, destination netip.AddrPort }
	var out []agentapi.CTEntry
	at := map[sides]int{}
	for _, e := range entries {
		if e.Proto != k.proto || !k.is(e.Source, e.Destination) && !k.is(e.Destination, e.Source) {
			continue
		}
		i, seen := at[sides{e.Source, e.Destination}]
		switch {
		case !seen:
			at[sides{e.Source, e.Destination}] = len(out)
			out = append(out, e)
		case out[i].Table == agentapi.CTTableNew:
			out[i] = e
		}
	}
	return out
}

func (k flowKey) is(from, to netip.AddrPort) bool {
	same := func(want, got netip.AddrPort) bool {
		return want.Addr() == got.Addr() && (want.Port() == 0 || want.Port() == got.Port())
	}
	return same(k.from, from) && same(k.to, to)
}

// parseSide parses ADDRESS:PORT, or an address alone, which gets port 0.
func parseSide(s string) (netip.AddrPort, error) {
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
		s = strings.TrimSuffix(inner, "]")
	}
	if ip, err := parseHost(s); err == nil {
		return netip.AddrPortFrom(ip, 0), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Addr().Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("%q is no side of a flow: want ADDRESS:PORT or [IPV6]:PORT", s)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// side gives ADDRESS:PORT, or the address alone when there is no port.
func side(ap netip.AddrPort) string {
	if ap.Port() == 0 {
		return ap.Addr().String()
	}
	return ap.String()
}

func flowText(out *bytes.Buffer, e agentapi.CTEntry) {
	for _, line := range [][2]string{
		{"Protocol", protocolName(e.Proto)},
		{"Source", side(e.Source)},
		{"Source pod", dash(e.SourcePod)},
		{"Source identity", identityName(e.SourceIdentity)},
		{"Destination", side(e.Destination)},
		{"Dest. pod", dash(e.DestinationPod)},
		{"Dest. identity", identityName(e.DestinationIdentity)},
		{"State", e.State},
		{"Flags", dash(strings.Join(slices.Sorted(slices.Values(e.Flags)), ", "))},
		{"Table", e.Table},
		{"Age", since(e.Age)},
		{"Idle", since(e.Idle)},
		{"Expires in", since(e.Expires)},
		{"Epoch", fmt.Sprint(e.Epoch)},
	} {
		fmt.Fprintf(out, "%-17s%s\n", line[0]+":", line[1])
	}
}
