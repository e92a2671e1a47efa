package cli

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

// parsed is a flag whose text is checked and turned into a value at once. It
// implements pflag.Value.
type parsed[T any] struct {
	value T
	text  string
	kind  string // the placeholder that help shows
	parse func(string) (T, error)
}

func (p *parsed[T]) String() string { return p.text }

// Type gives the placeholder that help shows for the flag's value.
func (p *parsed[T]) Type() string { return p.kind }

func (p *parsed[T]) Set(s string) error {
	v, err := p.parse(s)
	if err != nil {
		return err
	}
	p.value, p.text = v, s
	return nil
}

// given tells whether the flag is set or has a default.
func (p *parsed[T]) given() bool { return p.text != "" }

// newLimit is a flag for the most lines to show; 0 is all.
func newLimit(limit int) parsed[int] {
	return parsed[int]{value: limit, text: strconv.Itoa(limit), kind: "N", parse: func(s string) (int, error) {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("want a number from 0 to %d, 0 is all", math.MaxInt32)
		}
		return int(n), nil
	}}
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %q: want a number from 1 to %d", s, math.MaxUint16)
	}
	return uint16(n), nil
}

func parsePod(s string) (string, error) {
	if !agentapi.IsPodName(s) {
		return "", fmt.Errorf("%q is no pod: want NAMESPACE/NAME", s)
	}
	return s, nil
}

func parseNamespace(s string) (string, error) {
	if !agentapi.IsPodName(s + "/x") {
		return "", fmt.Errorf("%q is no namespace", s)
	}
	return s, nil
}

// parseHost parses an address. IPv4 in its IPv6 form becomes IPv4.
func parseHost(s string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is no address", s)
	}
	return ip.Unmap(), nil
}

// podArg checks that a command got at most one argument, and that it is a pod.
func podArg(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef(cmd, "%s takes at most one argument, got %d", cmd.Use, len(args))
	}
	for _, arg := range args {
		if _, err := parsePod(arg); err != nil {
			return usagef(cmd, "%s: %v", cmd.Use, err)
		}
	}
	return nil
}
