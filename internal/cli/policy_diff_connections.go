package cli

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/agentapi"
	verdicts "github.com/placid-net/placid/internal/planner/verdict"
	"github.com/placid-net/placid/internal/state"
)

// Types of an echo request, which begins every flow of ICMP that has two sides.
const (
	echo4 = 8
	echo6 = 128
)

// flowOf is a flow of this node and what is asked about it.
type flowOf struct {
	entry agentapi.CTEntry
	to    netip.AddrPort // who gets it: the backend of a service
	flow  verdicts.Flow
}

// cutConnection is a connection of this node that would be cut.
type cutConnection struct {
	Proto       string         `json:"proto"`
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	// To is who gets it, where that is not the destination: a service's backend.
	To             netip.AddrPort   `json:"to,omitzero"`
	SourcePod      string           `json:"sourcePod,omitempty"`
	DestinationPod string           `json:"destinationPod,omitempty"`
	Causes         []verdicts.Cause `json:"causes"`
}

// nodeFlows asks the agent for all flows of this node.
func (a *app) nodeFlows(ctx context.Context) ([]flowOf, error) {
	found, err := a.flows(ctx, agentapi.CTFilter{})
	if err != nil {
		return nil, err
	}
	out := make([]flowOf, len(found.Entries))
	for i, e := range found.Entries {
		out[i] = newFlowOf(e)
	}
	return out, nil
}

// newFlowOf gives what policy judges of a flow: the pod that began it, and who gets
// it behind a service.
func newFlowOf(e agentapi.CTEntry) flowOf {
	f := flowOf{entry: e, to: e.Destination}
	if to := e.Translated[1]; to.IsValid() && e.TranslatedFrom == e.Source {
		f.to = to
	}
	f.flow = verdicts.Flow{
		From: e.Source.Addr(), To: f.to.Addr(), FromIdentity: e.SourceIdentity, ToIdentity: e.DestinationIdentity,
		Protocol: state.Protocol(e.Proto), Port: f.to.Port(),
	}
	switch f.flow.Protocol {
	case state.ProtocolICMP:
		f.flow.Port = echo4
	case state.ProtocolICMPv6:
		f.flow.Port = echo6
	default:
	}
	return f
}

// cutConnections gives the flows that are cut.
func cutConnections(flows []flowOf, cuts []verdicts.Cut) []cutConnection {
	var out []cutConnection
	for _, cut := range cuts {
		f := flows[cut.Flow]
		c := cutConnection{
			Proto: protocolName(f.entry.Proto), Source: f.entry.Source, Destination: f.entry.Destination,
			SourcePod: f.entry.SourcePod, DestinationPod: f.entry.DestinationPod, Causes: cut.Causes,
		}
		if f.to != f.entry.Destination {
			c.To = f.to
		}
		out = append(out, c)
	}
	return out
}

func connectionTable(list []cutConnection) *grid {
	g := newGrid("#", "PROTO", "SOURCE", "DESTINATION", "CAUSE")
	for i, c := range list {
		to := ending(c.Destination, c.DestinationPod)
		if c.To.IsValid() {
			to += " → " + c.To.String()
		}
		g.add(strconv.Itoa(i+1), c.Proto, ending(c.Source, c.SourcePod), to, strings.Join(causeTexts(c.Causes), "; "))
	}
	return g
}

// ending gives an address, and the pod of this node that has it.
func ending(a netip.AddrPort, pod string) string {
	if pod == "" {
		return a.String()
	}
	return a.String() + " (" + pod + ")"
}
