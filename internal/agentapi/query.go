package agentapi

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// mappedBits precede an IPv4 address in its IPv6 form.
const mappedBits = 96

// ParsePrefix parses a CIDR, or an address, which stands for itself alone. Bits
// after the prefix are cleared, and an IPv4-mapped prefix becomes the IPv4 one.
func ParsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		ip, addrErr := netip.ParseAddr(s)
		if addrErr != nil || ip.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a CIDR", s)
		}
		p = netip.PrefixFrom(ip, ip.BitLen())
	}
	if p.Addr().Is4In6() && p.Bits() >= mappedBits {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	return p.Masked(), nil
}

// IsPodName tells whether s has the form "namespace/name". No address has it,
// nor has a CIDR.
func IsPodName(s string) bool {
	namespace, name, _ := strings.Cut(s, "/")
	return isName(namespace, "-_") && isName(name, "-_.")
}

// isName tells whether s is made of letters, digits and the others.
func isName(s, others string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(others, r)
	}
	return s != "" && !strings.ContainsFunc(s, odd)
}

// Selective tells whether the filter has a condition; a limit and All are none.
func (f CTFilter) Selective() bool {
	f.Limit, f.All = 0, false
	return f != CTFilter{}
}

func (f CTFilter) query() url.Values {
	q := url.Values{}
	set := func(name, value string, given bool) {
		if given {
			q.Set(name, value)
		}
	}
	set("pod", f.Pod, f.Pod != "")
	set("addr", f.Addr.String(), f.Addr != netip.Prefix{})
	set("port", strconv.Itoa(int(f.Port)), f.Port != 0)
	set("proto", strconv.Itoa(int(f.Proto)), f.Proto != 0)
	set("state", f.State, f.State != "")
	set("limit", strconv.Itoa(f.Limit), f.Limit != 0)
	set("all", "true", f.All)
	return q
}

// query returns the request's parameters, each given once and known.
func query(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalidf("parse the query of %s: %v", r.URL.Path, err)
	}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains(known, name) {
			return nil, invalidf("parameter %q of %s is not known to this placid-agent; is the client newer?", name, r.URL.Path)
		}
		if len(q[name]) != 1 {
			return nil, invalidf("parameter %q of %s is given %d times: give it once", name, r.URL.Path, len(q[name]))
		}
	}
	return q, nil
}

func invalidf(format string, args ...any) error {
	return &Error{Code: CodeInvalid, Message: fmt.Sprintf(format, args...)}
}

func listFilter(r *http.Request) (CTFilter, error) {
	q, err := query(r, "pod", "addr", "port", "proto", "state", "limit", "all")
	if err != nil {
		return CTFilter{}, err
	}
	f := CTFilter{State: q.Get("state")}
	if f.State != "" && !slices.Contains(CTStates(), f.State) {
		return CTFilter{}, invalidf("state is %q: want one of %s", f.State, strings.Join(CTStates(), ", "))
	}
	if f.Pod, err = podParameter(q); err != nil {
		return CTFilter{}, err
	}
	if q.Has("addr") {
		if f.Addr, err = ParsePrefix(q.Get("addr")); err != nil {
			return CTFilter{}, invalidf("addr: %v", err)
		}
	}
	port, err := number(q, "port", 16)
	if err != nil {
		return CTFilter{}, err
	}
	proto, err := number(q, "proto", 8)
	if err != nil {
		return CTFilter{}, err
	}
	limit, err := number(q, "limit", 31)
	if err != nil {
		return CTFilter{}, err
	}
	f.Port, f.Proto, f.Limit = uint16(port), uint8(proto), int(limit)
	if q.Has("all") {
		if f.All, err = strconv.ParseBool(q.Get("all")); err != nil {
			return CTFilter{}, invalidf("all is %q: want true or false", q.Get("all"))
		}
	}
	return f, nil
}

// flushFilter is listFilter for what deletes: nothing may be meant by default.
func flushFilter(r *http.Request) (CTFilter, error) {
	f, err := listFilter(r)
	switch {
	case err != nil:
		return CTFilter{}, err
	case f.Limit != 0:
		return CTFilter{}, invalidf("limit is %d: a flush has no limit, give another condition", f.Limit)
	case f.All && f.Selective():
		return CTFilter{}, invalidf("all contradicts the other conditions: give one or the other")
	case !f.All && !f.Selective():
		return CTFilter{}, invalidf("a flush needs a condition, or all=true")
	}
	return f, nil
}

func topQuery(r *http.Request) (by string, limit int, err error) {
	q, err := query(r, "by", "limit")
	if err != nil {
		return "", 0, err
	}
	by = q.Get("by")
	if !slices.Contains(CTTopKinds(), by) {
		return "", 0, invalidf("by is %q: want one of %s", by, strings.Join(CTTopKinds(), ", "))
	}
	n, err := number(q, "limit", 31)
	return by, int(n), err
}

func podQuery(r *http.Request) (string, error) {
	q, err := query(r, "pod")
	if err != nil {
		return "", err
	}
	return podParameter(q)
}

func podParameter(q url.Values) (string, error) {
	pod := q.Get("pod")
	if q.Has("pod") && !IsPodName(pod) {
		return "", invalidf("pod is %q: want namespace/name", pod)
	}
	return pod, nil
}

// number is the parameter as a number of that many bits; 0 when it is absent.
func number(q url.Values, name string, bits int) (uint64, error) {
	if !q.Has(name) {
		return 0, nil
	}
	n, err := strconv.ParseUint(q.Get(name), 10, bits)
	if err != nil {
		return 0, invalidf("%s is %q: want a number from 0 to %d", name, q.Get(name), uint64(1)<<bits-1)
	}
	return n, nil
}

func (r TraceRequest) validate() error {
	for _, side := range []struct{ name, value string }{{"from", r.From}, {"to", r.To}} {
		if ip, err := netip.ParseAddr(side.value); !IsPodName(side.value) && (err != nil || ip.Zone() != "") {
			return invalidf("%s is %q: want a pod as namespace/name, or an address", side.name, side.value)
		}
	}
	if r.Protocol == 0 {
		return invalidf("protocol is missing: give its number, e.g. 6 for TCP")
	}
	return nil
}
