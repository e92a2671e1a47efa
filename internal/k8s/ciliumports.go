package k8s

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/state"
)

// maxCiliumItems is how many ports an item of toPorts may have, and how many
// fields one of icmps.
const maxCiliumItems = 40

// ports converts toPorts.
func (c *ciliumConverter) ports(r *ciliumRule) []state.PolicyPort {
	var out []state.PolicyPort
	for i := range r.toPorts {
		field, pr := fmt.Sprintf("%s.toPorts[%d]", r.field, i), &r.toPorts[i]
		c.layer7(field, pr)
		switch n := len(pr.Ports); {
		case n == 0:
			c.refuse(field+".ports", "there are none")
		case n > maxCiliumItems:
			c.refuse(field+".ports", "%d are more than %d", n, maxCiliumItems)
		}
		for j, p := range pr.Ports {
			ports, err := ciliumPort(p, c.deny)
			if err != nil {
				c.refuse(fmt.Sprintf("%s.ports[%d]%s", field, j, err.Field), "%v", err)
				continue
			}
			out = append(out, ports...)
		}
	}
	return out
}

// layer7 refuses what is asked of traffic beyond its port.
func (c *ciliumConverter) layer7(field string, pr *v2.PortRule) {
	if l := pr.Rules; l != nil {
		for _, part := range []struct {
			name  string
			given bool
		}{
			{"http", l.HTTP != nil}, {"kafka", l.Kafka != nil}, {"dns", l.DNS != nil}, {"l7", l.L7 != nil}, {"l7proto", l.L7Proto != ""},
		} {
			if part.given {
				c.notSupported(field+".rules."+part.name, "rules above layer 4 are not enforced")
			}
		}
	}
	if pr.TerminatingTLS != nil {
		c.notSupported(field+".terminatingTLS", "TLS is not terminated")
	}
	if pr.OriginatingTLS != nil {
		c.notSupported(field+".originatingTLS", "TLS is not originated")
	}
	if len(pr.ServerNames) > 0 {
		c.notSupported(field+".serverNames", "the names of servers in TLS are not read")
	}
	if pr.Listener != nil {
		c.notSupported(field+".listener", "traffic is not redirected to a listener")
	}
}

// ciliumProtocol knows the protocols with ports by the names that policies have
// for them, in any case of letters. The others have no ports (IANA's numbers).
func ciliumProtocol(name string) (protocol state.Protocol, ports, ok bool) {
	switch strings.ToUpper(name) {
	case "", "ANY":
		return state.ProtocolAny, true, true
	case "TCP":
		return state.ProtocolTCP, true, true
	case "UDP":
		return state.ProtocolUDP, true, true
	case "SCTP":
		return state.ProtocolSCTP, true, true
	case "IGMP":
		return 2, false, true
	case "IPIP":
		return 4, false, true
	case "IPV6":
		return 41, false, true
	case "GRE":
		return 47, false, true
	case "ESP":
		return 50, false, true
	case "AH":
		return 51, false, true
	case "VRRP":
		return 112, false, true
	}
	return 0, false, false
}

// ciliumPort converts one port. Any protocol is each that has ports; without a
// port it is, in a rule that denies, really any.
func ciliumPort(p v2.PortProtocol, deny bool) ([]state.PolicyPort, *fieldError) {
	protocol, hasPorts, known := ciliumProtocol(p.Protocol)
	switch {
	case strings.HasPrefix(strings.ToUpper(p.Protocol), "ICMP"):
		return nil, wrong(".protocol", "%q has no ports: use icmps", p.Protocol)
	case !known:
		return nil, wrong(".protocol", "%q is not known", p.Protocol)
	}
	port, err := ciliumPortNumber(p)
	switch {
	case err != nil:
		return nil, err
	case !hasPorts && port != (state.PolicyPort{}):
		return nil, wrong(".port", "%q has no ports: use 0", p.Protocol)
	case protocol == state.ProtocolAny && deny && port == (state.PolicyPort{}):
		return []state.PolicyPort{port}, nil
	case protocol != state.ProtocolAny:
		port.Protocol = protocol
		return []state.PolicyPort{port}, nil
	}
	var out []state.PolicyPort
	for _, protocol := range []state.Protocol{state.ProtocolTCP, state.ProtocolUDP, state.ProtocolSCTP} {
		port.Protocol = protocol
		out = append(out, port)
	}
	return out, nil
}

// ciliumPortNumber converts the port, whatever its protocol: 0 is all, and as the
// first of a range 1.
func ciliumPortNumber(p v2.PortProtocol) (out state.PolicyPort, err *fieldError) {
	if p.EndPort < 0 || p.EndPort > maxPort {
		return out, wrong(".endPort", "%d is not a port from 0 to %d", p.EndPort, maxPort)
	}
	if isPortName(p.Port) {
		if p.EndPort != 0 {
			return out, wrong(".endPort", "it wants a port that is a number")
		}
		out.Name = strings.ToLower(p.Port)
		return out, nil
	}
	n, bad := strconv.ParseUint(p.Port, 10, 16)
	if bad != nil || strconv.FormatUint(n, 10) != p.Port {
		return out, wrong(".port", "%q is neither a port from 0 to %d nor the name of one", p.Port, maxPort)
	}
	out.Port = uint16(n)
	if p.EndPort == 0 {
		return out, nil
	}
	if p.EndPort < int32(n) {
		return out, wrong(".endPort", "%d is not a port from %d to %d", p.EndPort, n, maxPort)
	}
	out.Port, out.EndPort = max(out.Port, 1), uint16(p.EndPort)
	return out, nil
}

// isPortName tells whether the text is a name of a port (RFC 6335, section 5.1)
// and not a number.
func isPortName(s string) bool {
	letters := false
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			letters = true
		case r >= '0' && r <= '9':
		case r != '-' || i == 0 || i == len(s)-1 || s[i-1] == '-':
			return false
		}
	}
	return letters && len(s) <= 63
}

// icmps converts the ICMP types.
func (c *ciliumConverter) icmps(r *ciliumRule) []state.PolicyPort {
	var out []state.PolicyPort
	for i, rule := range r.icmps {
		field := fmt.Sprintf("%s.icmps[%d].fields", r.field, i)
		switch n := len(rule.Fields); {
		case n == 0:
			c.refuse(field, "there are none")
		case n > maxCiliumItems:
			c.refuse(field, "%d are more than %d", n, maxCiliumItems)
		}
		for j, f := range rule.Fields {
			port, err := icmpPort(f)
			if err != nil {
				c.refuse(fmt.Sprintf("%s[%d]%s", field, j, err.Field), "%v", err)
				continue
			}
			out = append(out, port)
		}
	}
	return out
}

// icmpPort converts one type of ICMP.
func icmpPort(f v2.ICMPField) (out state.PolicyPort, err *fieldError) {
	names := icmpNames()
	switch f.Family {
	case "", "IPv4":
		out.Protocol = state.ProtocolICMP
	case "IPv6":
		out.Protocol, names = state.ProtocolICMPv6, icmpv6Names()
	default:
		return out, wrong(".family", "%q is neither IPv4 nor IPv6", f.Family)
	}
	if f.Type == nil {
		return out, wrong(".type", "it is missing")
	}
	text := f.Type.String()
	if number, ok := names[text]; ok && f.Type.Type == intstr.String {
		out.ICMPType = &number
		return out, nil
	}
	n, bad := strconv.ParseUint(text, 10, 8)
	if bad != nil {
		return out, wrong(".type", "%q is neither a number from 0 to 255 nor a known name", text)
	}
	out.ICMPType = new(uint8(n))
	return out, nil
}

// icmpNames are the types of ICMP messages by the names that Cilium has for them
// (IANA, ICMP Type Numbers).
func icmpNames() map[string]uint8 {
	return map[string]uint8{
		"EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8, "RouterAdvertisement": 9,
		"RouterSelection": 10, "TimeExceeded": 11, "ParameterProblem": 12, "Timestamp": 13, "TimestampReply": 14, "Photuris": 40,
		"ExtendedEcho Request": 42, "ExtendedEcho Reply": 43,
	}
}

// icmpv6Names are icmpNames for IPv6 (IANA, ICMPv6 "type" Numbers).
func icmpv6Names() map[string]uint8 {
	return map[string]uint8{
		"DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4, "EchoRequest": 128, "EchoReply": 129,
		"MulticastListenerQuery": 130, "MulticastListenerReport": 131, "MulticastListenerDone": 132, "RouterSolicitation": 133,
		"RouterAdvertisement": 134, "NeighborSolicitation": 135, "NeighborAdvertisement": 136, "RedirectMessage": 137,
		"RouterRenumbering": 138, "ICMPNodeInformationQuery": 139, "ICMPNodeInformationResponse": 140,
		"InverseNeighborDiscoverySolicitation": 141, "InverseNeighborDiscoveryAdvertisement": 142,
		"HomeAgentAddressDiscoveryRequest": 144, "HomeAgentAddressDiscoveryReply": 145, "MobilePrefixSolicitation": 146,
		"MobilePrefixAdvertisement": 147, "DuplicateAddressRequestCodeSuffix": 157, "DuplicateAddressConfirmationCodeSuffix": 158,
		"ExtendedEchoRequest": 160, "ExtendedEchoReply": 161,
	}
}
