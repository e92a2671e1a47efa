package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// errDenied is why `policy trace --exit-code` exits with 1 after its answer.
var errDenied = errors.New("denied")

const traceHelp = `Tell what becomes of a new flow, and which rules decide it.

A side is a pod as NAMESPACE/NAME or an address. The port and the protocol follow
the destination, as in default/web-0:80/tcp, 10.244.1.7:53/udp or [fd00::7]:80/tcp,
or are given by --to-port. The protocol is tcp where none is given. The agent
judges the pods of its own node: egress of the one, ingress of the other.

The answer comes from the policies that the agent knows now. A flow that exists
already is judged again only when a permission was taken away.

Exits with 0 whether the flow is allowed or denied, unless --exit-code is given.`

// target is the destination of a flow; a port of 0 and a protocol of 0 are not
// given.
type target struct {
	side  string
	port  uint16
	proto uint8
}

func (a *app) traceCommand() *cobra.Command {
	from := parsed[string]{kind: "POD|ADDRESS", parse: parseTraceSide}
	to := parsed[target]{kind: "POD|ADDRESS[:PORT][/PROTOCOL]", parse: parseTarget}
	toPort := parsed[target]{kind: "PORT/PROTOCOL", parse: parseTargetPort}
	var exitCode bool
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Tell what becomes of a new flow, and which rules decide it",
		Long:  traceHelp,
		Example: `  placid policy trace --from default/client --to default/web-0:80/tcp
  placid policy trace --from 192.0.2.9 --to [fd00::7]:443/tcp
  placid policy trace --from default/client --to kube-system/dns-x --to-port 53/udp`,
		Args: cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			if !from.given() || !to.given() {
				return usagef(cmd, "policy trace needs both --from and --to")
			}
			if toPort.given() && (to.value.port != 0 || to.value.proto != 0) {
				return usagef(cmd, "--to %s and --to-port %s: give port and protocol once", to.text, toPort.text)
			}
			dest := to.value
			if toPort.given() {
				dest.port, dest.proto = toPort.value.port, toPort.value.proto
			}
			req, err := traceRequest(from.value, dest)
			if err != nil {
				return usagef(cmd, "--to %s: %v", to.text, err)
			}
			return a.trace(cmd.Context(), req, exitCode)
		}),
	}
	cmd.Flags().Var(&from, "from", "who begins the flow")
	cmd.Flags().Var(&to, "to", "who it is for, with port and protocol")
	cmd.Flags().Var(&toPort, "to-port", "port and protocol, where --to has none")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 1 when the flow is denied")
	return cmd
}

// traceRequest fills in the protocol and checks that the port fits it.
func traceRequest(from string, to target) (agentapi.TraceRequest, error) {
	if to.proto == 0 {
		to.proto = protoTCP
	}
	switch {
	case hasPorts(to.proto) && to.port == 0:
		return agentapi.TraceRequest{}, fmt.Errorf("%s needs a port, as %s/%s", protocolName(to.proto), joinPort(to.side, "PORT"), protocolName(to.proto))
	case !hasPorts(to.proto) && to.port != 0:
		return agentapi.TraceRequest{}, fmt.Errorf("%s has no ports", protocolName(to.proto))
	}
	if ip, err := parseHost(to.side); err == nil {
		to.proto = protocolOf(to.proto, ip)
	}
	return agentapi.TraceRequest{From: from, To: to.side, Port: to.port, Protocol: state.Protocol(to.proto)}, nil
}

// parseTraceSide parses a pod or an address, which may be in brackets.
func parseTraceSide(s string) (string, error) {
	if agentapi.IsPodName(s) {
		return s, nil
	}
	inner := s
	if cut, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(cut, "]") {
		inner = strings.TrimSuffix(cut, "]")
	}
	ip, err := parseHost(inner)
	if err != nil {
		return "", fmt.Errorf("%q is neither a pod as NAMESPACE/NAME nor an address", s)
	}
	return ip.String(), nil
}

// parseTarget parses SIDE[:PORT][/PROTOCOL]. What follows the last slash is a
// protocol where what precedes it is complete: default/tcp is a pod.
func parseTarget(s string) (target, error) {
	if _, err := netip.ParsePrefix(s); err == nil {
		return target{}, fmt.Errorf("%q is a CIDR: want one address", s)
	}
	t, whole := parseSidePort(s)
	if whole == nil {
		return t, nil
	}
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return target{}, whole
	}
	proto, protoErr := parseProtocol(s[i+1:])
	t, err := parseSidePort(s[:i])
	switch {
	case err == nil && protoErr == nil:
		t.proto = proto
		return t, nil
	case protoErr == nil:
		return target{}, err
	case err == nil:
		return target{}, protoErr
	}
	return target{}, whole
}

// parseSidePort parses SIDE[:PORT]. An IPv6 address has a port only in brackets.
func parseSidePort(s string) (target, error) {
	who, err := parseTraceSide(s)
	if err == nil {
		return target{side: who}, nil
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return target{}, err
	}
	who, err = parseTraceSide(s[:i])
	if err != nil {
		return target{}, err
	}
	port, err := parsePort(s[i+1:])
	return target{side: who, port: port}, err
}

// parseTargetPort parses PORT[/PROTOCOL], or a protocol that has no ports.
func parseTargetPort(s string) (target, error) {
	text, protocol, found := strings.Cut(s, "/")
	port, err := parsePort(text)
	if !found {
		if proto, protoErr := parseProtocol(s); err != nil && protoErr == nil && !hasPorts(proto) {
			return target{proto: proto}, nil
		}
		return target{port: port}, err
	}
	if err != nil {
		return target{}, err
	}
	proto, err := parseProtocol(protocol)
	return target{port: port, proto: proto}, err
}

// joinPort gives SIDE:PORT, with brackets around IPv6.
func joinPort(side, port string) string {
	if agentapi.IsPodName(side) {
		return side + ":" + port
	}
	return net.JoinHostPort(side, port)
}

func (a *app) trace(ctx context.Context, req agentapi.TraceRequest, exitCode bool) error {
	res, err := ask(ctx, a, "trace a flow", func(ctx context.Context, ag agent) (agentapi.TraceResult, error) {
		return ag.PolicyTrace(ctx, req)
	})
	if err != nil {
		return err
	}
	res.Steps = nonNil(res.Steps)
	if err := a.print(res, func(out *bytes.Buffer) { traceText(out, req, res) }); err != nil {
		return err
	}
	if exitCode && !res.Allowed {
		return &reportedError{err: errDenied}
	}
	return nil
}

func traceText(out *bytes.Buffer, req agentapi.TraceRequest, res agentapi.TraceResult) {
	dest := req.To
	if req.Port != 0 {
		dest = joinPort(req.To, strconv.Itoa(int(req.Port)))
	}
	fmt.Fprintf(out, "%s → %s/%s\n", req.From, dest, protocolName(uint8(req.Protocol)))
	for _, s := range res.Steps {
		fmt.Fprintf(out, "  %s of %s: %s\n", s.Direction, s.Pod, verdict(s.Allowed))
		if s.Reason != "" {
			fmt.Fprintf(out, "    %s\n", s.Reason)
		}
		for _, r := range s.Rules {
			fmt.Fprintf(out, "    rule %s\n", r)
		}
		for _, p := range s.Isolated {
			fmt.Fprintf(out, "    isolated by %s\n", p)
		}
	}
	word := verdict(res.Allowed)
	if res.Audited {
		word += " (audit mode; it would be denied)"
	}
	if elsewhere := unjudged(req, res); len(elsewhere) > 0 {
		fmt.Fprintf(out, "  %s: not judged here, ask the agent of its node\n", strings.Join(elsewhere, " and "))
		word += " on this node"
	}
	fmt.Fprintf(out, "Verdict: %s\n", word)
}

func verdict(allowed bool) string {
	if allowed {
		return "allowed"
	}
	return "denied"
}

// unjudged gives the directions of named pods that an allowed flow still has to
// pass, and on which this node has no say.
func unjudged(req agentapi.TraceRequest, res agentapi.TraceResult) []string {
	if !res.Allowed {
		return nil
	}
	judged := map[string]bool{}
	for _, s := range res.Steps {
		judged[s.Direction] = true
	}
	var out []string
	if agentapi.IsPodName(req.From) && !judged[agentapi.DirectionEgress] {
		out = append(out, "egress of "+req.From)
	}
	if agentapi.IsPodName(req.To) && !judged[agentapi.DirectionIngress] {
		out = append(out, "ingress of "+req.To)
	}
	return out
}
