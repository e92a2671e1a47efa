package cni

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// maxPort is the largest port number; the smallest is 1.
const maxPort = 65535

// portMapping is one element of the capability portMappings. It is signed and wide
// so that an impossible port is told from a wrong type.
type portMapping struct {
	HostPort      int64  `json:"hostPort"`
	ContainerPort int64  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

// hostPorts converts the mappings, in their order. An error names the first one
// that makes no sense, and the field.
func hostPorts(mappings []portMapping) ([]state.HostPort, error) {
	var out []state.HostPort
	for i, m := range mappings {
		key := fmt.Sprintf("runtimeConfig.portMappings[%d]", i)
		p, err := m.hostPort(key)
		if err != nil {
			return nil, err
		}
		same := func(o state.HostPort) bool {
			return o.HostIP == p.HostIP && o.Protocol == p.Protocol && o.HostPort == p.HostPort
		}
		if at := slices.IndexFunc(out, same); at >= 0 {
			return nil, confError(fmt.Sprintf("%s is hostPort %d/%s, which portMappings[%d] has too: a port of the node leads to one port of the pod",
				key, p.HostPort, p.Protocol, at))
		}
		out = append(out, p)
	}
	return out, nil
}

// hostPort converts one mapping; key names it in errors.
func (m portMapping) hostPort(key string) (state.HostPort, error) {
	p := state.HostPort{}
	for _, f := range []struct {
		key  string
		port int64
		into *uint16
	}{{"hostPort", m.HostPort, &p.HostPort}, {"containerPort", m.ContainerPort, &p.ContainerPort}} {
		if f.port < 1 || f.port > maxPort {
			return p, confError(fmt.Sprintf("%s.%s is %d: allowed are 1 to %d", key, f.key, f.port, maxPort))
		}
		*f.into = uint16(f.port)
	}
	switch strings.ToLower(m.Protocol) {
	case "tcp", "": // Kubernetes' default
		p.Protocol = state.ProtocolTCP
	case "udp":
		p.Protocol = state.ProtocolUDP
	case "sctp":
		p.Protocol = state.ProtocolSCTP
	default:
		return p, confError(fmt.Sprintf("%s.protocol is %.80q: allowed are tcp, udp and sctp", key, m.Protocol))
	}
	if m.HostIP == "" {
		return p, nil
	}
	addr, err := netip.ParseAddr(m.HostIP)
	if err != nil || addr.Zone() != "" || addr.IsMulticast() {
		return p, confError(fmt.Sprintf("%s.hostIP is %.80q: it must be an address of the node, or empty for all", key, m.HostIP))
	}
	p.HostIP = addr.Unmap()
	return p, nil
}
