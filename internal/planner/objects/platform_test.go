package objects

import (
	"fmt"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

func configMap(name, data string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: kube-system}\ndata:\n%s", name, data)
}

const (
	ciliumNode = "---\napiVersion: cilium.io/v2\nkind: CiliumNode\nmetadata: {name: n1}\n"
	placidNode = "---\napiVersion: placid.io/v1alpha1\nkind: PlacidNode\nmetadata: {name: n1}\nspec: {addresses: [192.0.2.1], podCIDRs: [10.1.0.0/24]}\n"
)

func TestPlatform(t *testing.T) {
	cilium := configMap("cilium-config", "  cluster-name: blue\n  enable-policy: default\n")
	placid := configMap("placid-config", "  cluster-name: green\n")
	terway := configMap("eni-config", `  10-terway.conf: '{"type": "terway", "eniip_virtual_type": "datapathv2"}'`+"\n")
	const undecided = "warning: there are settings of Placid and of another network, so that it cannot be told which of them runs; say which one is meant"
	for name, c := range map[string]struct {
		text     string
		platform snapshot.Platform
		cluster  string
		problems []string
	}{
		"nothing":                    {deny, "", "default", nil},
		"Cilium":                     {cilium, snapshot.Cilium, "blue", nil},
		"Cilium without settings":    {ciliumNode, snapshot.Cilium, "default", nil},
		"Placid":                     {placid, snapshot.Placid, "green", nil},
		"Placid without settings":    {placidNode, snapshot.Placid, "default", nil},
		"Terway":                     {terway, snapshot.Terway, "default", nil},
		"Terway with what Cilium's":  {terway + ciliumNode + cilium, snapshot.Terway, "default", nil},
		"Placid beside what is left": {placid + cilium + placidNode, snapshot.Placid, "green", nil},
		"Cilium beside what comes":   {placid + cilium + ciliumNode, snapshot.Cilium, "blue", nil},
		"both":                       {placid + cilium + placidNode + ciliumNode, "", "default", []string{undecided}},
		"neither has nodes":          {placid + cilium, "", "default", []string{undecided}},
		"twice": {cilium + strings.NewReplacer("kube-system", "other", "blue", "red").Replace(cilium), snapshot.Cilium, "blue", []string{
			"warning in.yaml, document 2: ConfigMap other/cilium-config: there is also ConfigMap kube-system/cilium-config, which is used",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, problems := read(t, tree(t, map[string]string{"in.yaml": c.text}))
			wantLines(t, problems, c.problems...)
			if s.Platform != c.platform || s.ClusterName != c.cluster {
				t.Errorf("platform %q, cluster %q; want %q and %q", s.Platform, s.ClusterName, c.platform, c.cluster)
			}
		})
	}
}

func TestTerwaySettings(t *testing.T) {
	for name, c := range map[string]struct {
		data      map[string]string
		want      map[string]string
		complaint string
	}{
		"policies off": {
			map[string]string{terwayPlugin: `{"type": "terway", "eniip_virtual_type": "IPvlan"}`, terwayNoRules: "true"},
			map[string]string{"enable-policy": "never", "labels": `k8s:io\.kubernetes\.pod\.namespace`, "routing-mode": "native"},
			"",
		},
		"not told": {
			map[string]string{terwayPlugin: `{"type": "terway", "eniip_virtual_type": "datapathv2"}`},
			map[string]string{"enable-policy": "never"},
			"",
		},
		"policies on, with flags": {
			map[string]string{
				terwayPlugin: `{"type": "terway", "eniip_virtual_type": "datapathv2", "cilium_args": ` +
					`"--bpf-map-dynamic-size-ratio=0.01 --labels=k8s:app k8s:!team --enable-tcx --monitor-aggregation none --routing-mode=tunnel"}`,
				terwayNoRules: "false",
			},
			map[string]string{
				"enable-policy": "default", "labels": "k8s:app k8s:!team", "bpf-map-dynamic-size-ratio": "0.01", "enable-tcx": "true",
				"monitor-aggregation": "none", "routing-mode": "tunnel",
			},
			"",
		},
		"list of plugins": {
			map[string]string{terwayPlugins: `{"plugins": [{"type": "portmap"}, {"type": "terway", "eniip_virtual_type": "veth", "network_policy_provider": "ebpf", "cilium_args": "--x=1"}]}`, terwayNoRules: "false"},
			map[string]string{"x": "1", "enable-policy": "default"},
			"",
		},
		"without Cilium": {
			map[string]string{terwayPlugin: `{"type": "terway", "eniip_virtual_type": "veth"}`},
			nil,
			`eniip_virtual_type is "veth": Terway runs without Cilium there, and its tables and limits do not apply`,
		},
		"no configuration": {map[string]string{}, nil, "it has neither 10-terway.conf nor 10-terway.conflist, so Terway's settings are not known"},
		"broken":           {map[string]string{terwayPlugin: "{"}, nil, "10-terway.conf is no JSON that can be read, so Terway's settings are not known: unexpected end of JSON input"},
	} {
		t.Run(name, func(t *testing.T) {
			got, complaints := terwaySettings(c.data)
			for key, value := range c.want {
				if got[key] != value {
					t.Errorf("%s is %q, want %q", key, got[key], value)
				}
			}
			if all := strings.Join(complaints, "; "); all != c.complaint {
				t.Errorf("complaints %q, want %q", all, c.complaint)
			}
			if _, ok := got["labels"]; ok && got["enable-policy"] == "default" && c.want["labels"] == "" {
				t.Errorf("labels are %q though policies are on", got["labels"])
			}
		})
	}
}
