package policy

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// requirement is one condition on labels.
type requirement struct {
	key    string
	op     state.Operator
	values []string // In, NotIn: sorted, each once
}

// conjunction is a label selector in canonical form: all requirements must hold.
// The empty one holds for all labels. Equal selectors have equal conjunctions.
type conjunction []requirement

// requirements gives those of a selector, with prefix before every key. It is
// false when a requirement is not valid: nothing matches it.
func requirements(prefix string, s state.Selector) (conjunction, bool) {
	c := make(conjunction, 0, len(s.MatchLabels)+len(s.Expressions))
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		c = append(c, requirement{prefix + key, state.OperatorIn, []string{s.MatchLabels[key]}})
	}
	for _, x := range s.Expressions {
		r := requirement{key: prefix + x.Key, op: x.Operator}
		switch x.Operator {
		case state.OperatorIn, state.OperatorNotIn:
			if len(x.Values) == 0 {
				return nil, false
			}
			r.values = slices.Compact(slices.Sorted(slices.Values(x.Values)))
		case state.OperatorExists, state.OperatorDoesNotExist:
		default:
			return nil, false
		}
		c = append(c, r)
	}
	return c, true
}

// canonical sorts the requirements and leaves out repeated ones.
func (c conjunction) canonical() conjunction {
	slices.SortFunc(c, requirement.compare)
	return slices.CompactFunc(c, requirement.equal)
}

func (r requirement) compare(o requirement) int {
	return cmp.Or(strings.Compare(r.key, o.key), cmp.Compare(r.op, o.op), slices.Compare(r.values, o.values))
}

func (r requirement) equal(o requirement) bool { return r.compare(o) == 0 }

func (r requirement) matches(labels map[string]string) bool {
	value, ok := labels[r.key]
	return r.op.Holds(r.values, value, ok)
}

func (c conjunction) matches(labels map[string]string) bool {
	for _, r := range c {
		if !r.matches(labels) {
			return false
		}
	}
	return true
}

// covers tells whether everything that o selects is selected by c too, as far as
// the requirements show it: c has none that o lacks.
func (c conjunction) covers(o conjunction) bool {
	for _, r := range c {
		if !slices.ContainsFunc(o, r.equal) {
			return false
		}
	}
	return true
}

// single gives the value that the key must have, when there is just one.
func (c conjunction) single(key string) (string, bool) {
	for _, r := range c {
		if r.key == key && r.op == state.OperatorIn && len(r.values) == 1 {
			return r.values[0], true
		}
	}
	return "", false
}

// everyPod is the text of the empty conjunction.
const everyPod = "every pod"

// String gives e.g. "k8s:app=web,k8s:tier in (a,b),!k8s:old". Different
// conjunctions have different texts.
func (c conjunction) String() string {
	if len(c) == 0 {
		return everyPod
	}
	parts := make([]string, len(c))
	for i, r := range c {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

// String gives the requirement as kubectl writes it.
func (r requirement) String() string {
	key := plain(r.key)
	switch r.op {
	case state.OperatorExists:
		return key
	case state.OperatorDoesNotExist:
		return "!" + key
	case state.OperatorNotIn:
		return key + " notin (" + plainList(r.values) + ")"
	case state.OperatorIn:
		if len(r.values) == 1 {
			return key + "=" + plain(r.values[0])
		}
	}
	return key + " in (" + plainList(r.values) + ")"
}

func plainList(values []string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = plain(v)
	}
	return strings.Join(out, ",")
}

// plain gives s, quoted unless it consists of what Kubernetes lets labels consist
// of.
func plain(s string) string {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./:", r)
	}
	if s == "" || strings.ContainsFunc(s, odd) {
		return strconv.Quote(s)
	}
	return s
}
