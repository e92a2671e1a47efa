package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The address families that the tag `family` can name.
const (
	familyIPv4 = "ipv4"
	familyIPv6 = "ipv6"
)

// maxShown is how many bytes of a value an error message shows.
const maxShown = 80

// parse turns text into a value of the key's type and checks it against what the
// key allows. The error says only what is wrong; Allowed says what would be right.
func (k Key) parse(text string) (any, error) {
	if text == "" && !k.mayBeEmpty() {
		return nil, errors.New("is empty")
	}
	if !k.isList() {
		if err := checkText(text); err != nil {
			return nil, err
		}
	}
	switch k.Type {
	case typeBool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return nil, errors.New("is not a boolean")
		}
		return v, nil
	case typeInt, typeFloat, typeDuration:
		return k.parseNumber(text)
	case typeString:
		return text, k.checkString(text)
	case typeStrings:
		return parseList(text, func(s string) (string, error) { return s, formatOf(k.Format).check(s) })
	case typeCIDR:
		if text == "" {
			return netip.Prefix{}, nil
		}
		return k.parseCIDR(text)
	case typeCIDRs:
		return parseList(text, k.parseCIDR)
	case typePorts:
		return parsePorts(text)
	case typeBytes:
		return parseBytes(text)
	}
	return nil, fmt.Errorf("has the unknown type %q", k.Type)
}

// parseNumber handles whole numbers, numbers and durations alike.
func (k Key) parseNumber(text string) (any, error) {
	v, size, err := k.number(text)
	if err != nil {
		return nil, err
	}
	if len(k.OneOf) > 0 {
		return v, k.checkOneOf(formatValue(v))
	}
	if k.Unset != "" {
		if u, _, err := k.number(k.Unset); err == nil && u == v {
			return v, nil
		}
	}
	for _, limit := range []struct {
		text string
		ok   func(bound float64) bool
	}{
		{k.Min, func(b float64) bool { return size >= b }},
		{k.Max, func(b float64) bool { return size <= b }},
	} {
		if limit.text == "" {
			continue
		}
		_, bound, err := k.number(limit.text)
		if err != nil {
			return nil, fmt.Errorf("has the bad limit %q: %w", limit.text, err)
		}
		if !limit.ok(bound) { // also true for NaN
			return nil, errors.New("is out of range")
		}
	}
	return v, nil
}

// number gives the typed value of text and its size for comparing.
func (k Key) number(text string) (v any, size float64, err error) {
	switch k.Type {
	case typeInt:
		n, intErr := strconv.Atoi(text)
		if errors.Is(intErr, strconv.ErrRange) {
			return nil, 0, errors.New("is out of range")
		}
		if intErr != nil {
			return nil, 0, errors.New("is not a whole number")
		}
		return n, float64(n), nil
	case typeDuration:
		d, durationErr := time.ParseDuration(text)
		if durationErr != nil {
			return nil, 0, errors.New("is not a duration (a number needs a unit)")
		}
		return d, float64(d), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, 0, errors.New("is not a number")
	}
	return f, f, nil
}

func (k Key) checkString(text string) error {
	if len(k.OneOf) > 0 {
		return k.checkOneOf(text)
	}
	if text == "" {
		return nil
	}
	return formatOf(k.Format).check(text)
}

func (k Key) checkOneOf(text string) error {
	switch {
	case slices.Contains(k.OneOf, text):
		return nil
	case slices.Contains(k.NotYet, text):
		return errors.New("is not part of this version")
	}
	return errors.New("is not in the list")
}

func (k Key) parseCIDR(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, fmt.Errorf("is not a CIDR: %s", quote(text))
	case p.Addr().Is4In6():
		return p, fmt.Errorf("is an IPv4 address in IPv6 form: %s", text)
	case k.Family == familyIPv4 && !p.Addr().Is4(), k.Family == familyIPv6 && !p.Addr().Is6():
		return p, fmt.Errorf("is of the wrong address family: %s", text)
	case p != p.Masked():
		return p, fmt.Errorf("has bits set after its prefix: %s should be %s", text, p.Masked())
	}
	return p, nil
}

// parseList splits text at commas and white space and parses each part.
func parseList[T comparable](text string, parse func(string) (T, error)) ([]T, error) {
	var out []T
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }) {
		if err := checkText(part); err != nil {
			return nil, err
		}
		v, err := parse(part)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, v) {
			return nil, fmt.Errorf("names %s twice", part)
		}
		out = append(out, v)
	}
	return out, nil
}

// checkText refuses what cannot be meant as the value of a key.
func checkText(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("is not text (no valid UTF-8)")
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("has control characters or several lines")
	}
	return nil
}

// formatValue gives the canonical text of a value that parse returned.
func formatValue(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []string:
		return strings.Join(v, ",")
	case netip.Prefix:
		if !v.IsValid() {
			return ""
		}
		return v.String()
	case []netip.Prefix:
		parts := make([]string, len(v))
		for i, p := range v {
			parts[i] = p.String()
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}

// quote gives text in quotes for a message, cut when it is long.
func quote(text string) string {
	if len(text) > maxShown {
		return fmt.Sprintf("%q… (%d bytes)", text[:maxShown], len(text))
	}
	return strconv.Quote(text)
}
