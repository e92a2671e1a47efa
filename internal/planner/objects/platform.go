package objects

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// The ConfigMaps that are read: the settings of a network. No other is.
const (
	ciliumConfig = "cilium-config"
	placidConfig = "placid-config"
	terwayConfig = "eni-config"
)

func configNames() []string { return []string{ciliumConfig, placidConfig, terwayConfig} }

// The keys of Terway's ConfigMap that are read. Its others may hold credentials.
const (
	terwayPlugin  = "10-terway.conf"
	terwayPlugins = "10-terway.conflist"
	terwayNoRules = "disable_network_policy"
)

// config is one of the ConfigMaps.
type config struct {
	ref  snapshot.Object
	data map[string]string
}

func readConfigMap(r *reading, raw []byte) {
	if r.nameFrom(raw); !slices.Contains(configNames(), r.ref.Name) {
		return
	}
	var obj struct {
		meta
		Data map[string]string `json:"data"`
	}
	if !r.decode(raw, &obj) {
		return
	}
	if r.ref.Name == terwayConfig {
		maps.DeleteFunc(obj.Data, func(key, _ string) bool {
			return !slices.Contains([]string{terwayPlugin, terwayPlugins, terwayNoRules}, key)
		})
	}
	r.keep(config{ref: r.ref, data: obj.Data})
}

// setPlatform fills in what the cluster is seen to run: the network whose settings
// are there; of several, Terway's (which has Cilium in it) and that which has
// objects of its own for the nodes.
func setPlatform(s *snapshot.Snapshot, configs []config, ranges []nodeRanges) []snapshot.Problem {
	slices.SortFunc(configs, func(a, b config) int {
		return cmp.Or(strings.Compare(a.ref.Name, b.ref.Name), strings.Compare(a.ref.Namespace, b.ref.Namespace))
	})
	found := map[snapshot.Platform]config{}
	var doubts []snapshot.Problem
	for _, c := range configs {
		platform := map[string]snapshot.Platform{ciliumConfig: snapshot.Cilium, placidConfig: snapshot.Placid, terwayConfig: snapshot.Terway}[c.ref.Name]
		if other, again := found[platform]; again {
			doubts = append(doubts, doubtOf(s, c, fmt.Sprintf("there is also %s, which is used", other.ref)))
			continue
		}
		found[platform] = c
	}
	s.Platform = choosePlatform(found, ranges)
	if c, ok := found[s.Platform]; ok {
		var more []snapshot.Problem
		s.Settings, more = settingsOf(s, c)
		doubts = append(doubts, more...)
	} else if len(found) > 1 {
		doubts = append(doubts, snapshot.Problem{
			Severity: snapshot.Doubt,
			Message:  "there are settings of Placid and of another network, so that it cannot be told which of them runs; say which one is meant",
		})
	}
	s.ClusterName = cmp.Or(s.Settings["cluster-name"], "default")
	return doubts
}

func doubtOf(s *snapshot.Snapshot, c config, message string) snapshot.Problem {
	return snapshot.Problem{Severity: snapshot.Doubt, Origin: s.Origins[c.ref], Object: c.ref, Message: message}
}

func choosePlatform(found map[snapshot.Platform]config, ranges []nodeRanges) snapshot.Platform {
	has := func(p snapshot.Platform) bool { _, ok := found[p]; return ok }
	nodesOf := map[snapshot.Platform]bool{}
	for _, r := range ranges {
		nodesOf[r.platform] = true
	}
	other := snapshot.Platform("")
	switch {
	case has(snapshot.Terway):
		other = snapshot.Terway
	case has(snapshot.Cilium):
		other = snapshot.Cilium
	}
	switch {
	case has(snapshot.Placid) && other == "":
		return snapshot.Placid
	case has(snapshot.Placid):
		if nodesOf[snapshot.Placid] != nodesOf[snapshot.Cilium] {
			if nodesOf[snapshot.Placid] {
				return snapshot.Placid
			}
			return other
		}
		return ""
	case other != "":
		return other
	case nodesOf[snapshot.Placid] != nodesOf[snapshot.Cilium]:
		if nodesOf[snapshot.Placid] {
			return snapshot.Placid
		}
		return snapshot.Cilium
	}
	return ""
}

func settingsOf(s *snapshot.Snapshot, c config) (map[string]string, []snapshot.Problem) {
	if c.ref.Name != terwayConfig {
		return maps.Clone(c.data), nil
	}
	settings, complaints := terwaySettings(c.data)
	var doubts []snapshot.Problem
	for _, text := range complaints {
		doubts = append(doubts, doubtOf(s, c, text))
	}
	return settings, doubts
}

// terwayConf is what is read of Terway's plugin configuration.
type terwayConf struct {
	Type        string `json:"type"`
	VirtualType string `json:"eniip_virtual_type"`
	Provider    string `json:"network_policy_provider"`
	CiliumArgs  string `json:"cilium_args"`
}

// terwaySettings gives the settings of the Cilium in Terway as Terway puts its
// command line together: what it always sets, what follows from whether policies
// are on, and the user's flags last, so that they win. complaints say what is not
// understood.
func terwaySettings(data map[string]string) (settings map[string]string, complaints []string) {
	conf, err := terwayPluginOf(data)
	if err != nil {
		return nil, []string{err.Error()}
	}
	settings = terwayForced()
	// Unless the key says so, policies are off.
	off, err := strconv.ParseBool(strings.TrimSpace(data[terwayNoRules]))
	policies := err == nil && !off
	if policies {
		settings["enable-policy"] = "default"
	} else {
		settings["enable-policy"] = "never"
		settings["labels"] = `k8s:io\.kubernetes\.pod\.namespace`
	}
	switch virtual := strings.ToLower(conf.VirtualType); {
	case virtual == "datapathv2", virtual == "ipvlan":
	case (virtual == "" || virtual == "veth") && strings.EqualFold(conf.Provider, "ebpf") && policies:
	default:
		complaints = append(complaints, fmt.Sprintf(
			"eniip_virtual_type is %q: Terway runs without Cilium there, and its tables and limits do not apply", conf.VirtualType))
	}
	for piece := range strings.SplitSeq(conf.CiliumArgs, "--") { // as Terway does: it knows no quotes
		key, value, found := strings.Cut(strings.TrimSpace(piece), "=")
		if !found {
			key, value, found = strings.Cut(key, " ")
		}
		if !found {
			value = "true"
		}
		if key = strings.TrimSpace(key); key != "" {
			settings[key] = strings.TrimSpace(value)
		}
	}
	return settings, complaints
}

// terwayForced are the settings that Terway gives to Cilium whatever the user says
// elsewhere.
func terwayForced() map[string]string {
	return map[string]string{
		"routing-mode": "native", "cni-chaining-mode": "terway-chainer", "ipam": "delegated-plugin", "datapath-mode": "veth",
		"enable-ipv4-masquerade": "false", "enable-ipv6-masquerade": "false", "enable-local-node-route": "false",
		"enable-endpoint-health-checking": "false", "enable-health-checking": "false", "enable-service-topology": "true",
		"enable-session-affinity": "true", "enable-l7-proxy": "false", "enable-bandwidth-manager": "true", "enable-tcx": "false",
		"enable-endpoint-routes": "true", "enable-l2-neigh-discovery": "false", "k8s-heartbeat-timeout": "0",
	}
}

// terwayPluginOf takes Terway's own plugin out of the configuration, which is one
// plugin or a list of them.
func terwayPluginOf(data map[string]string) (terwayConf, error) {
	text := cmp.Or(data[terwayPlugin], data[terwayPlugins])
	if text == "" {
		return terwayConf{}, fmt.Errorf("it has neither %s nor %s, so Terway's settings are not known", terwayPlugin, terwayPlugins)
	}
	var list struct {
		terwayConf
		Plugins []terwayConf `json:"plugins"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return terwayConf{}, fmt.Errorf("%s is no JSON that can be read, so Terway's settings are not known: %w", terwayPlugin, err)
	}
	for _, p := range list.Plugins {
		if p.Type == "terway" {
			return p, nil
		}
	}
	return list.terwayConf, nil
}
