package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ForeignKey is a key of Cilium, or of the Cilium in Terway, that Placid
// deliberately does without.
type ForeignKey struct {
	Name string
	// Accept lists the only values that are accepted, because ignoring any other
	// would weaken security or break what pods rely on. Empty: every value is
	// accepted, since ignoring it costs no more than Instead says.
	Accept []string
	// Instead is one sentence that says what Placid does instead.
	Instead string
}

// ForeignKeys returns the named list of keys that Placid does without, sorted by
// name.
func ForeignKeys() []ForeignKey {
	var out []ForeignKey
	for _, group := range slices.Concat(guardedForeignKeys(), freeForeignKeys(), freeFeatureKeys(), freeServiceKeys(), freeProcessKeys()) {
		for name := range strings.FieldsSeq(group.names) {
			out = append(out, ForeignKey{Name: name, Accept: group.accept, Instead: group.instead})
		}
	}
	slices.SortFunc(out, func(a, b ForeignKey) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// foreignGroup declares keys that share what is accepted and what happens
// instead; names are separated by white space.
type foreignGroup struct {
	accept  []string
	instead string
	names   string
}

// check tells whether the value is accepted.
func (f ForeignKey) check(value string) error {
	if len(f.Accept) == 0 {
		return nil
	}
	for _, a := range f.Accept {
		if strings.EqualFold(a, value) || sameBool(a, value) {
			return nil
		}
	}
	quoted := make([]string, len(f.Accept))
	for i, a := range f.Accept {
		quoted[i] = strconv.Quote(a)
	}
	return fmt.Errorf("%s; accepted only as %s", f.Instead, strings.Join(quoted, " or "))
}

// isSwitch tells whether Cilium's key is a boolean, so that its flag needs no value.
func (f ForeignKey) isSwitch() bool {
	return slices.Contains(f.Accept, "true") || slices.Contains(f.Accept, "false") ||
		strings.HasPrefix(f.Name, "enable-") || strings.HasPrefix(f.Name, "disable-") ||
		slices.Contains([]string{
			"annotate-k8s-node", "auto-create-cilium-node-resource", "bpf-distributed-lru",
			"bpf-lb-enable-wildcard-entries", "bpf-lb-sock-terminate-pod-connections", "install-iptables-rules",
			"lb-sock-terminate-all-protos", "node-port-bind-protection", "preallocate-bpf-maps", "trace-sock",
		}, f.Name)
}

func sameBool(a, b string) bool {
	x, errA := strconv.ParseBool(a)
	y, errB := strconv.ParseBool(b)
	return errA == nil && errB == nil && x == y
}
