package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/state"
)

const endpointGetHelp = `Show one endpoint of this node.

The endpoint is named by its id, by its pod as NAMESPACE/NAME, or by one of its
addresses. A pod with several interfaces has several endpoints: name one of
them by id or address.`

func (a *app) endpointCommand() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List the endpoints (pod interfaces) of this node",
		Args:  cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			endpoints, err := a.endpoints(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(nonNil(endpoints), func(out *bytes.Buffer) { a.endpointTable(endpoints).render(out, "") })
		}),
	}
	get := &cobra.Command{
		Use:     "get ID|NAMESPACE/NAME|ADDRESS",
		Short:   "Show one endpoint of this node",
		Long:    endpointGetHelp,
		Example: "  placid endpoint get 7\n  placid endpoint get default/web-0\n  placid endpoint get 10.244.0.12",
		Args:    oneArg,
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			match, ok := endpointMatcher(args[0])
			if !ok {
				return usagef(cmd, "endpoint %q: want an id, a pod as NAMESPACE/NAME, or an address", args[0])
			}
			return a.endpointGet(cmd.Context(), args[0], match)
		}),
	}
	return a.group("endpoint", "Show the endpoints (pod interfaces) of this node", list, get)
}

func (a *app) endpoints(ctx context.Context) ([]state.Endpoint, error) {
	return ask(ctx, a, "list endpoints", func(ctx context.Context, ag agent) ([]state.Endpoint, error) { return ag.Endpoints(ctx) })
}

// endpointMatcher returns how to find the endpoint that arg names; ok is false
// when arg is neither an id, an address nor a pod.
func endpointMatcher(arg string) (match func(state.Endpoint) bool, ok bool) {
	if id, err := strconv.ParseUint(arg, 10, 32); err == nil {
		return func(e state.Endpoint) bool { return uint64(e.ID) == id }, true
	}
	if ip, err := netip.ParseAddr(arg); err == nil {
		ip = ip.Unmap()
		return func(e state.Endpoint) bool { return e.IPv4 == ip || e.IPv6 == ip }, true
	}
	namespace, name, found := strings.Cut(arg, "/")
	if !found || namespace == "" || name == "" || strings.Contains(name, "/") {
		return nil, false
	}
	return func(e state.Endpoint) bool { return e.Pod.Namespace == namespace && e.Pod.Name == name }, true
}

func (a *app) endpointGet(ctx context.Context, arg string, match func(state.Endpoint) bool) error {
	endpoints, err := a.endpoints(ctx)
	if err != nil {
		return err
	}
	var found []state.Endpoint
	var ids []string
	for _, e := range endpoints {
		if match(e) {
			found = append(found, e)
			ids = append(ids, strconv.FormatUint(uint64(e.ID), 10))
		}
	}
	switch len(found) {
	case 0:
		return fmt.Errorf("no endpoint %s on this node; 'placid endpoint list' shows those that exist", arg)
	case 1:
		return a.print(found[0], func(out *bytes.Buffer) { a.endpointText(out, found[0]) })
	}
	return fmt.Errorf("%s has %d endpoints on this node (ids %s): name one of them by id", arg, len(found), strings.Join(ids, ", "))
}

func (a *app) endpointTable(endpoints []state.Endpoint) *grid {
	g := newGrid("ID", "POD", "IPV4", "IPV6", "MAC", "INTERFACE", "NETNS", "AGE")
	for _, e := range endpoints {
		g.add(strconv.FormatUint(uint64(e.ID), 10), e.Pod.String(), addr(e.IPv4), addr(e.IPv6), e.MAC.String(),
			dash(e.HostIfName), shortNetns(e.Netns), a.age(e.CreatedAt))
	}
	return g
}

func (a *app) endpointText(out *bytes.Buffer, e state.Endpoint) {
	created := "-"
	if !e.CreatedAt.IsZero() {
		created = fmt.Sprintf("%s (%s ago)", e.CreatedAt.UTC().Format("2006-01-02 15:04:05 UTC"), a.age(e.CreatedAt))
	}
	for _, line := range [][2]string{
		{"ID", strconv.FormatUint(uint64(e.ID), 10)},
		{"Pod", e.Pod.String()},
		{"Pod UID", dash(e.Pod.UID)},
		{"IPv4", addr(e.IPv4)},
		{"IPv6", addr(e.IPv6)},
		{"MAC", e.MAC.String()},
		{"MTU", strconv.Itoa(e.MTU)},
		{"Host interface", fmt.Sprintf("%s (index %d)", dash(e.HostIfName), e.HostIndex)},
		{"Container", dash(e.Attachment.ContainerID)},
		{"Pod interface", dash(e.Attachment.IfName)},
		{"Netns", dash(e.Netns)},
		{"Ingress limit", rate(e.Bandwidth.IngressRate, e.Bandwidth.IngressBurst)},
		{"Egress limit", rate(e.Bandwidth.EgressRate, e.Bandwidth.EgressBurst)},
		{"Created", created},
	} {
		fmt.Fprintf(out, "%-16s%s\n", line[0]+":", line[1])
	}
}

// rate gives a limit in bits per second and its burst in bits, e.g.
// "10 Mbit/s, burst 1 Mbit".
func rate(bitsPerSecond, burst uint64) string {
	if bitsPerSecond == 0 {
		return "none"
	}
	text := humanize.SI(float64(bitsPerSecond), "bit/s")
	if burst > 0 {
		text += ", burst " + humanize.SI(float64(burst), "bit")
	}
	return text
}
