package state

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// MAC is a 48-bit Ethernet address.
type MAC [6]byte

// String gives the colon form, e.g. "02:50:4c:43:44:01".
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText implements encoding.TextMarshaler with the colon form.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler for the colon form.
func (m *MAC) UnmarshalText(b []byte) error {
	hw, err := net.ParseMAC(string(b))
	if err != nil {
		return fmt.Errorf("parse MAC %q: %w", b, err)
	}
	if len(hw) != len(m) {
		return fmt.Errorf("parse MAC %q: %d bytes, want 6", b, len(hw))
	}
	copy(m[:], hw)
	return nil
}

// PodRef names the pod an endpoint belongs to. UID may be empty when the
// runtime does not tell it.
type PodRef struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
}

// String gives "namespace/name".
func (p PodRef) String() string { return p.Namespace + "/" + p.Name }

// Bandwidth limits one endpoint. Rates are bits per second and bursts are bits,
// as in the CNI bandwidth capability; zero means no limit. Ingress is what the
// pod receives, egress what it sends.
type Bandwidth struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// AttachmentID identifies one CNI attachment: the sandbox and the interface
// name inside it.
type AttachmentID struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

// String gives "containerID/ifName".
func (a AttachmentID) String() string { return a.ContainerID + "/" + a.IfName }

// Endpoint is one pod interface on this node. IPv4 and IPv6 are invalid (zero)
// when the family is off.
type Endpoint struct {
	ID         uint32       `json:"id"`
	Attachment AttachmentID `json:"attachment"`
	Netns      string       `json:"netns"`
	Pod        PodRef       `json:"pod"`
	IPv4       netip.Addr   `json:"ipv4"`
	IPv6       netip.Addr   `json:"ipv6"`
	MAC        MAC          `json:"mac"`
	HostIfName string       `json:"hostIfName"`
	HostIndex  int          `json:"hostIfIndex"`
	Bandwidth  Bandwidth    `json:"bandwidth"`
	MTU        int          `json:"mtu"`
	CreatedAt  time.Time    `json:"createdAt"`
	// HostPorts are the ports of the node that lead to the pod, in its order.
	HostPorts []HostPort `json:"hostPorts,omitempty"`
}

// Addrs returns the endpoint's valid addresses, IPv4 first.
func (e Endpoint) Addrs() []netip.Addr {
	var out []netip.Addr
	for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}
