package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// The types of keys, as Key.Type names them.
const (
	typeBool     = "bool"
	typeInt      = "int"
	typeFloat    = "float"
	typeDuration = "duration"
	typeString   = "string"
	typeStrings  = "strings"
	typeCIDR     = "cidr"
	typeCIDRs    = "cidrs"
	typePorts    = "ports"
	typeBytes    = "bytes"
)

// liveDoc ends the sentence about a key that is followed without a restart.
const liveDoc = "; a change takes effect without a restart"

// Key is the declaration of one configuration key, read from the tags of Config.
type Key struct {
	// Name is the key as it is written in a ConfigMap and, after "--", as a flag.
	Name string
	// Type is one of bool, int, float, duration, string, strings, cidr, cidrs, ports
	// (a range) and bytes (a size of memory).
	Type string
	// Default is the default as text, not in canonical form.
	Default string
	// OneOf lists the values of a string or whole number that has a fixed set of
	// them, NotYet those that a later version will have.
	OneOf, NotYet []string
	// Min and Max are the range of a number or a duration; empty is no limit.
	Min, Max string
	// Unset is a value outside the range that is allowed too; empty if none.
	Unset string
	// Format names the rule for a string, Family (ipv4, ipv6) the one for a CIDR.
	Format, Family string
	// Later names the part of Placid that will use the key; empty if one does now.
	Later string
	// Live is true when a change is followed without a restart.
	Live bool
	// Doc is one sentence for people, which says so too.
	Doc string

	emptyOK bool
	field   int // index in Config
}

// Keys returns the declaration of every key, sorted by name.
func Keys() []Key {
	t := reflect.TypeFor[Config]()
	keys := make([]Key, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		live := f.Tag.Get("live") == "true"
		doc := f.Tag.Get("doc")
		if live {
			doc += liveDoc
		}
		keys = append(keys, Key{
			Name:    f.Tag.Get("key"),
			Type:    typeName(f.Type),
			Default: f.Tag.Get("default"),
			OneOf:   strings.Fields(f.Tag.Get("oneof")),
			NotYet:  strings.Fields(f.Tag.Get("notyet")),
			Min:     f.Tag.Get("min"),
			Max:     f.Tag.Get("max"),
			Unset:   f.Tag.Get("unset"),
			Format:  f.Tag.Get("format"),
			Family:  f.Tag.Get("family"),
			Later:   f.Tag.Get("later"),
			Live:    live,
			Doc:     doc,
			emptyOK: f.Tag.Get("empty") == "ok",
			field:   i,
		})
	}
	slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	return keys
}

// typeName gives the type of a key whose field has type t, "" if there is none.
func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[bool]():
		return typeBool
	case reflect.TypeFor[int]():
		return typeInt
	case reflect.TypeFor[float64]():
		return typeFloat
	case reflect.TypeFor[time.Duration]():
		return typeDuration
	case reflect.TypeFor[string]():
		return typeString
	case reflect.TypeFor[[]string]():
		return typeStrings
	case reflect.TypeFor[netip.Prefix]():
		return typeCIDR
	case reflect.TypeFor[[]netip.Prefix]():
		return typeCIDRs
	case reflect.TypeFor[PortRange]():
		return typePorts
	case reflect.TypeFor[Bytes]():
		return typeBytes
	}
	return ""
}

// EnvName gives the environment variable that sets the key.
func (k Key) EnvName() string { return envName(envPrefix, k.Name) }

// Allowed says in words which values the key can have.
func (k Key) Allowed() string {
	text := k.allowedValue()
	if k.mayBeEmpty() {
		text += ", or empty"
	}
	return text
}

func (k Key) allowedValue() string {
	if len(k.OneOf) > 0 {
		return strings.Join(k.OneOf, " or ")
	}
	switch k.Type {
	case typeBool:
		return "true or false"
	case typeInt:
		return k.withRange("a whole number")
	case typeFloat:
		return k.withRange("a number")
	case typeDuration:
		return k.withRange("a duration such as 90s or 1h30m")
	case typeStrings:
		return "a list separated by commas or spaces, each " + formatOf(k.Format).allowed
	case typeCIDR:
		return k.cidrText()
	case typeCIDRs:
		return "a list separated by commas or spaces, each " + k.cidrText()
	case typePorts:
		return "two ports from 1 to 65535 such as 30000-32767, the first not above the last"
	case typeBytes:
		return "a size in bytes such as 256MiB, or 0"
	}
	return formatOf(k.Format).allowed
}

func (k Key) withRange(what string) string {
	switch {
	case k.Min != "" && k.Max != "":
		what = fmt.Sprintf("%s from %s to %s", what, k.Min, k.Max)
	case k.Min != "":
		what = fmt.Sprintf("%s of at least %s", what, k.Min)
	case k.Max != "":
		what = fmt.Sprintf("%s of at most %s", what, k.Max)
	}
	if k.Unset != "" {
		what = k.Unset + ", or " + what
	}
	return what
}

func (k Key) cidrText() string {
	switch k.Family {
	case familyIPv4:
		return "an IPv4 CIDR such as 10.0.0.0/8"
	case familyIPv6:
		return "an IPv6 CIDR such as fd00::/104"
	}
	return "a CIDR such as 10.0.0.0/8"
}

// mayBeEmpty tells whether the empty text is a value of the key.
func (k Key) mayBeEmpty() bool {
	switch k.Type {
	case typeStrings, typeCIDR, typeCIDRs:
		return true
	case typeString:
		return k.emptyOK || (k.Default == "" && len(k.OneOf) == 0)
	}
	return false
}

// isList tells whether the key holds several values.
func (k Key) isList() bool { return k.Type == typeStrings || k.Type == typeCIDRs }
