package preflight

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/config"
	"github.com/placid-net/placid/internal/planner/snapshot"
)

// oldKey is a key of Cilium, or a value of one, that current versions do not read.
type oldKey struct {
	key     string
	values  []string // empty: all
	removed string   // the version that did
	instead string
	source  string
}

// oldKeys are those that are known, by the notes of the changes that removed them.
func oldKeys() []oldKey {
	return []oldKey{
		{"tunnel", nil, "1.15", "set routing-mode to tunnel and tunnel-protocol to vxlan or geneve, or routing-mode to native for tunnel: disabled", "github.com/cilium/cilium/pull/29053"},
		{"kube-proxy-replacement", []string{"probe"}, "1.13", "write true or false", "github.com/cilium/cilium/pull/22083"},
		{"kube-proxy-replacement", []string{"strict", "partial", "disabled"}, "1.15", "write true for strict, and false for disabled and partial", "github.com/cilium/cilium/pull/26577"},
		{"host-reachable-services-protos", nil, "1.13", "remove it; bpf-lb-sock serves all protocols", "github.com/cilium/cilium/pull/22083"},
		{"endpoint-interface-name-prefix", nil, "1.13", "remove it; it had no effect", "github.com/cilium/cilium/pull/22083"},
		{"disable-conntrack", nil, "1.13", "remove it; it had no effect", "github.com/cilium/cilium/pull/22083"},
		{"enable-remote-node-identity", nil, "1.16", "remove it; other nodes always have the identity remote-node", "github.com/cilium/cilium/pull/31228"},
	}
}

// checkSettings tells of keys of the platform's ConfigMap that are not known, old,
// or that the network that is meant takes otherwise.
func (s *scene) checkSettings() {
	object := s.settingsObject()
	at := func(code, key, message string) {
		s.add(Finding{Code: code, Object: Object(object), Origin: s.in.Origins[object], Field: key, Message: message})
	}
	if s.in.Settings["enable-policy"] == "never" && len(s.in.Policies) > 0 {
		at(NeverEnforced, "enable-policy", "enable-policy is never, so none of the policies has any effect; set it to default to enforce them")
	}
	if s.in.Platform == "" {
		return
	}
	known := map[string]bool{}
	for _, k := range config.Keys() {
		known[k.Name] = true
	}
	for _, k := range config.ForeignKeys() {
		known[k.Name] = true
	}
	for _, key := range slices.Sorted(maps.Keys(s.in.Settings)) {
		old := s.oldKey(key)
		switch {
		case old != nil:
			at(OldKey, key, fmt.Sprintf("Cilium %s removed %s: %s (%s)", old.removed, whatIsOld(old, s.in.Settings[key]), old.instead, old.source))
		case !known[key] && s.in.Platform == snapshot.Placid:
			// Told by checkForPlacid, with what was probably meant.
		case !known[key]:
			at(UnknownKey, key, "the key is not known; see whether its name is right, or whether a newer version has it")
		}
	}
	if s.options.For == snapshot.Placid {
		s.checkForPlacid(at)
	}
}

func whatIsOld(o *oldKey, value string) string {
	if len(o.values) > 0 {
		return "the value " + value
	}
	return "the key"
}

// settingsObject is the ConfigMap that the settings are from.
func (s *scene) settingsObject() snapshot.Object {
	name := map[snapshot.Platform]string{snapshot.Cilium: "cilium-config", snapshot.Placid: "placid-config", snapshot.Terway: "eni-config"}[s.in.Platform]
	for o := range s.in.Origins {
		if o.Kind == "ConfigMap" && o.Name == name {
			return o
		}
	}
	if name == "" {
		return snapshot.Object{}
	}
	return snapshot.Object{Kind: "ConfigMap", Namespace: "kube-system", Name: name}
}

func (s *scene) oldKey(key string) *oldKey {
	if s.in.Platform == snapshot.Placid {
		return nil
	}
	value := strings.ToLower(s.in.Settings[key])
	for _, o := range oldKeys() {
		if o.key == key && (len(o.values) == 0 || slices.Contains(o.values, value)) {
			return &o
		}
	}
	return nil
}

// checkForPlacid tells what Placid makes of the settings: its own, or those of the
// network that it would take the place of.
func (s *scene) checkForPlacid(at func(code, key, message string)) {
	own, foreign := map[string]bool{}, map[string]config.ForeignKey{}
	for _, k := range config.Keys() {
		own[k.Name] = true
	}
	for _, k := range config.ForeignKeys() {
		foreign[k.Name] = k
	}
	var good []string // variables that are accepted one by one
	instead := map[string][]string{}
	for _, key := range slices.Sorted(maps.Keys(s.in.Settings)) {
		without, isForeign := foreign[key]
		if !own[key] && !isForeign && s.in.Platform != snapshot.Placid {
			continue // of the other network, told as unknown
		}
		variable := variableOf(key) + "=" + s.in.Settings[key]
		switch _, err := config.Load(config.Sources{Env: []string{variable}}); {
		case err != nil:
			at(RefusedValue, key, fmt.Sprintf("Placid does not take %s=%q: %s", key, s.in.Settings[key], reason(err)))
		case isForeign:
			instead[without.Instead] = append(instead[without.Instead], key)
		default:
			good = append(good, variable)
		}
	}
	for _, text := range slices.Sorted(maps.Keys(instead)) {
		keys := instead[text]
		at(UnusedKey, keys[0], fmt.Sprintf("Placid does without %s: %s", strings.Join(keys, ", "), text))
	}
	if _, err := config.Load(config.Sources{Env: good}); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			at(RefusedValue, "", "Placid does not take these together: "+asKeys(line))
		}
	}
}

// variableOf gives the variable of the environment that sets a key.
func variableOf(key string) string {
	return "PLACID_" + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// reason gives what is wrong with one setting, without its place.
func reason(err error) string {
	_, why, found := strings.Cut(err.Error(), "): ")
	if !found {
		why = err.Error()
	}
	return asKeys(strings.ReplaceAll(why, "\n", "; "))
}

// asKeys writes variables of the environment as the keys that they set.
func asKeys(text string) string {
	text = regexp.MustCompile(` \(env PLACID_[A-Z0-9_]+\)`).ReplaceAllString(text, "")
	return regexp.MustCompile(`PLACID_[A-Z0-9_]+`).ReplaceAllStringFunc(text, func(name string) string {
		return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "PLACID_"), "_", "-"))
	})
}
