package capacity

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FlowKind is a kind of new flows.
type FlowKind string

// The kinds of flows. Those "out" leave the cluster with the node's address.
const (
	FlowTCP    FlowKind = "tcp"
	FlowTCPOut FlowKind = "tcp-out"
	FlowUDP    FlowKind = "udp" // goes on after the answer
	FlowUDPOut FlowKind = "udp-out"
	FlowDNS    FlowKind = "dns" // one question, one answer
	FlowSYN    FlowKind = "syn" // a TCP connection that nobody answers
)

// flowKinds lists them in the order of reports.
func flowKinds() []FlowKind {
	return []FlowKind{FlowTCP, FlowTCPOut, FlowUDP, FlowUDPOut, FlowDNS, FlowSYN}
}

// Rate is how many flows of a kind begin each second.
type Rate struct {
	Kind   FlowKind
	Second float64
	PerPod bool          // for each pod of a node; else for the node
	Open   time.Duration // how long one is open; of dns and syn nothing
}

// defaultOpen is how long a connection is open unless a rate says so.
const defaultOpen = 30 * time.Second

// DefaultRates are what is assumed where nobody measured: every pod opens one
// connection a second inside the cluster and one in five seconds to the outside,
// open for half a minute each, and asks two questions a second.
func DefaultRates() []Rate {
	return []Rate{
		{Kind: FlowTCP, Second: 1, PerPod: true, Open: defaultOpen},
		{Kind: FlowTCPOut, Second: 0.2, PerPod: true, Open: defaultOpen},
		{Kind: FlowDNS, Second: 2, PerPod: true},
	}
}

// String gives the form that ParseRates reads.
func (r Rate) String() string {
	per := "node"
	if r.PerPod {
		per = "pod"
	}
	text := fmt.Sprintf("%s=%s/s/%s", r.Kind, strconv.FormatFloat(r.Second, 'f', -1, 64), per)
	if r.Open > 0 {
		text += ":" + r.Open.String()
	}
	return text
}

// ParseRates reads "tcp=500/s,dns=2000/s,tcp-out=1/s/pod:2m": how many flows of a
// kind begin a second, on a node (/s or /s/node) or for each pod (/s/pod), and after
// a colon how long one is open. The error wraps ErrArgument and names the part.
func ParseRates(text string) ([]Rate, error) {
	var out []Rate
	given := map[FlowKind]bool{}
	for part := range strings.SplitSeq(text, ",") {
		r, err := parseRate(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if given[r.Kind] {
			return nil, fmt.Errorf("%w: %s is given twice", ErrArgument, r.Kind)
		}
		given[r.Kind] = true
		out = append(out, r)
	}
	return out, nil
}

func parseRate(part string) (Rate, error) {
	name, value, ok := strings.Cut(part, "=")
	if !ok {
		return Rate{}, fmt.Errorf("%w: rate %q: want KIND=NUMBER/s such as tcp=500/s", ErrArgument, part)
	}
	r := Rate{Kind: FlowKind(name)}
	if !slices.Contains(flowKinds(), r.Kind) {
		return r, fmt.Errorf("%w: rate %q: no flows are called %q: want one of %s", ErrArgument, part, name, strings.Trim(fmt.Sprint(flowKinds()), "[]"))
	}
	value, open, timed := strings.Cut(value, ":")
	err := r.setOpen(open, timed)
	if err == nil {
		err = r.setNumber(value)
	}
	if err != nil {
		return r, fmt.Errorf("%w: rate %q: %w", ErrArgument, part, err)
	}
	return r, nil
}

// setOpen takes how long a flow is open.
func (r *Rate) setOpen(text string, given bool) error {
	lasts := r.Kind != FlowDNS && r.Kind != FlowSYN
	switch {
	case given && !lasts:
		return fmt.Errorf("flows of %s are not open for a time", r.Kind)
	case given:
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 || d > 30*24*time.Hour {
			return fmt.Errorf("%q is not how long a flow is open: want a time such as 90s or 2h, at most 720h", text)
		}
		r.Open = d
	case lasts:
		r.Open = defaultOpen
	}
	return nil
}

// setNumber takes how many begin, and whether for each pod.
func (r *Rate) setNumber(text string) error {
	number, per, ok := strings.Cut(text, "/s")
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !ok || !slices.Contains([]string{"", "/node", "/pod"}, per) {
		return errors.New("want NUMBER/s, NUMBER/s/node or NUMBER/s/pod")
	}
	if !(n >= 0 && n <= 1e9) {
		return errors.New("want a number from 0 to a thousand million")
	}
	r.Second, r.PerPod = n, per == "/pod"
	return nil
}
