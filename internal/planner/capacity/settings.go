package capacity

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// Setting is a key to set, and why.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Now   string `json:"now"`
	Why   string `json:"why"`
}

// Configuration is what to set, and the same as text to paste.
type Configuration struct {
	Settings []Setting `json:"settings"`
	// Text is the part of a ConfigMap, or of 10-terway.conf.
	Text  string `json:"text,omitempty"`
	Where string `json:"where,omitempty"`
	// Advice is what no key can do.
	Advice []string `json:"advice,omitempty"`
}

// roomFor is how full a table should be at most.
const roomFor = 0.8

// configure says what to set so that every table has room for its need.
func (p *planner) configure(tables []Table) Configuration {
	out := Configuration{Settings: []Setting{}}
	byKey := map[string]*Setting{}
	want := map[string]int{}
	for _, t := range tables {
		if t.Limit == 0 || float64(t.After) <= roomFor*float64(t.Limit) {
			continue
		}
		if t.Kind == KindMemory && t.After <= t.most {
			value := strconv.Itoa(roundTo(float64(t.After)/roomFor, 64)) + "MiB"
			byKey[t.Key] = &Setting{Key: t.Key, Value: value, Now: strconv.Itoa(t.Size) + "MiB", Why: fmt.Sprintf("tables of %s take %d MiB", t.Where(), t.After)}
			continue
		}
		needs := fmt.Sprintf("%s of %s: %d of %d", t.Name, t.Where(), t.After, t.Limit)
		if t.Kind != KindTable || t.most == 0 {
			out.Advice = append(out.Advice, advice(t, needs))
			continue
		}
		n := roundTo(float64(t.After)/roomFor, 1024)
		if n > t.most {
			out.Advice = append(out.Advice, fmt.Sprintf("%s: %s, and its largest size is %d.", t.Key, needs, t.most))
			n = t.most
		}
		if n > want[t.Key] && n > t.Size {
			want[t.Key] = n
			byKey[t.Key] = &Setting{Key: t.Key, Value: strconv.Itoa(n), Now: strconv.Itoa(t.Size), Why: needs}
		}
	}
	for _, key := range sortedKeys(byKey) {
		out.Settings = append(out.Settings, *byKey[key])
	}
	slices.Sort(out.Advice)
	out.Advice = slices.Compact(out.Advice)
	out.Text, out.Where = p.paste(out.Settings)
	return out
}

// advice says what helps against a limit that no key moves.
func advice(t Table, needs string) string {
	switch {
	case t.Kind == KindIdentities:
		return needs + ": leave labels out of identities that differ from pod to pod (key labels; placid identity what-if says which)."
	case t.Kind == KindMemory:
		return needs + " MiB, more than a quarter of the node's memory: take larger nodes, or more of them."
	case t.Kind == KindAddresses && t.Key == "kubelet maxPods":
		return needs + ": add nodes, or raise maxPods of the kubelet together with the node's addresses."
	case t.Kind == KindAddresses && t.Key == "instance type":
		return needs + ": take nodes of a larger type, add nodes, or let interfaces have prefixes (aws-enable-prefix-delegation; enable_ip_prefix of Terway)."
	case t.Kind == KindAddresses:
		return needs + ": it is set by " + t.Key + ", for nodes that are added; add nodes, or pools."
	case strings.HasSuffix(t.Name, "frontend numbers"):
		return needs + ": no key moves this limit; merge Services, or leave out node ports (allocateLoadBalancerNodePorts: false)."
	}
	return needs + ": the size is fixed."
}

// roundTo rounds up to a multiple, so that people see that the number was chosen.
func roundTo(n float64, multiple int) int {
	return max(int(math.Ceil(n/float64(multiple)))*multiple, multiple)
}

// paste writes the settings as they are set on a platform.
func (p *planner) paste(settings []Setting) (text, where string) {
	if len(settings) == 0 {
		return "", ""
	}
	var b strings.Builder
	switch p.settings.platform {
	case snapshot.Terway:
		for i, s := range settings {
			if i > 0 {
				b.WriteString(" ")
			}
			fmt.Fprintf(&b, "--%s=%s", s.Key, s.Value)
		}
		return fmt.Sprintf("\"cilium_args\": %q\n", b.String()), "ConfigMap kube-system/eni-config, key 10-terway.conf; add to what cilium_args has already"
	case snapshot.Cilium:
		where = "ConfigMap kube-system/cilium-config, data; agents take it when they start, and lose what is in a table that gets another size"
	default:
		where = "ConfigMap kube-system/placid-config, data; takes effect without a restart"
	}
	for _, s := range settings {
		fmt.Fprintf(&b, "%s: %q\n", s.Key, s.Value)
	}
	return b.String(), where
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
