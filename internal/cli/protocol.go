package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Numbers of the protocols that some command treats in its own way.
const (
	protoICMP   uint8 = 1
	protoTCP    uint8 = 6
	protoUDP    uint8 = 17
	protoICMPv6 uint8 = 58
	protoSCTP   uint8 = 132
)

// protocolNames are the protocols that have a name here, by their number.
func protocolNames() map[uint8]string {
	return map[uint8]string{
		protoICMP: "icmp", 2: "igmp", 4: "ipip", protoTCP: "tcp", protoUDP: "udp", 41: "ipv6", 47: "gre",
		50: "esp", 51: "ah", protoICMPv6: "icmpv6", 112: "vrrp", protoSCTP: "sctp",
	}
}

// parseProtocol parses a name, in any case, or a number from 1 to 255.
func parseProtocol(s string) (uint8, error) {
	for number, name := range protocolNames() {
		if strings.EqualFold(s, name) {
			return number, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("protocol %q: want tcp, udp, sctp, icmp, icmpv6 or a number from 1 to 255", s)
	}
	return uint8(n), nil
}

// protocolName gives the name, or the number of a protocol without one.
func protocolName(number uint8) string {
	if name, ok := protocolNames()[number]; ok {
		return name
	}
	return strconv.Itoa(int(number))
}

// hasPorts tells whether flows of the protocol are told apart by ports.
func hasPorts(number uint8) bool {
	return number == protoTCP || number == protoUDP || number == protoSCTP
}

// protocolOf is the protocol as ip's family numbers it: icmp is another one in
// IPv6.
func protocolOf(number uint8, ip netip.Addr) uint8 {
	if number == protoICMP && ip.Is6() {
		return protoICMPv6
	}
	return number
}
