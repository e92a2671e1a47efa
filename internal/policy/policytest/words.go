package policytest

import (
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// speaksOf tells whether a selector has a key of these.
func speaksOf(s state.Selector, these func(key string) bool) bool {
	for key := range s.MatchLabels {
		if these(key) {
			return true
		}
	}
	for _, x := range s.Expressions {
		if these(x.Key) {
			return true
		}
	}
	return false
}

// valid tells whether every expression can be understood.
func valid(s state.Selector) bool {
	for _, x := range s.Expressions {
		switch x.Operator {
		case state.OperatorIn, state.OperatorNotIn:
			if len(x.Values) == 0 {
				return false
			}
		case state.OperatorExists, state.OperatorDoesNotExist:
		default:
			return false
		}
	}
	return true
}

func selects(s state.Selector, labels map[string]string) bool {
	for key, want := range s.MatchLabels {
		if have, ok := labels[key]; !ok || have != want {
			return false
		}
	}
	for _, x := range s.Expressions {
		have, ok := labels[x.Key]
		switch x.Operator {
		case state.OperatorIn:
			if !ok || !slices.Contains(x.Values, have) {
				return false
			}
		case state.OperatorNotIn:
			if ok && slices.Contains(x.Values, have) {
				return false
			}
		case state.OperatorExists:
			if !ok {
				return false
			}
		case state.OperatorDoesNotExist:
			if ok {
				return false
			}
		}
	}
	return true
}

// portsMatch tells whether a list of ports has that of a packet. What is not valid
// is no port, and every port in a rule that denies.
func portsMatch(ports []state.PolicyPort, named []state.NamedPort, deny bool, p Packet) bool {
	if len(ports) == 0 {
		return true
	}
	for _, x := range ports {
		switch {
		case !validPort(x):
			if deny {
				return true
			}
		case x.Protocol == state.ProtocolAny:
			return true
		case x.Protocol != p.Protocol:
		case x.Name != "":
			if slices.Contains(named, state.NamedPort{Name: x.Name, Protocol: x.Protocol, Port: p.Port}) {
				return true
			}
		case x.ICMPType != nil:
			if p.Port == uint16(*x.ICMPType) {
				return true
			}
		case x.Port == 0 || p.Port == x.Port || x.Port <= p.Port && p.Port <= x.EndPort:
			return true
		}
	}
	return false
}

func validPort(x state.PolicyPort) bool {
	switch x.Protocol {
	case state.ProtocolTCP, state.ProtocolUDP, state.ProtocolSCTP:
		return x.ICMPType == nil && (x.Name != "" || x.EndPort == 0 || x.Port != 0 && x.EndPort >= x.Port)
	case state.ProtocolICMP, state.ProtocolICMPv6:
		return x.Name == "" && x.Port == 0 && x.EndPort == 0
	case state.ProtocolAny:
	}
	return x.Name == "" && x.Port == 0 && x.EndPort == 0 && x.ICMPType == nil
}
