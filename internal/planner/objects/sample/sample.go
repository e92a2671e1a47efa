package sample

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"sigs.k8s.io/yaml"
)

// created is when everything was made.
const created = "2026-11-02T08:00:00Z"

// object is one object of the API.
type object = map[string]any

// labels are labels of an object.
type labels = map[string]string

// Files returns the cluster, a file for each kind by its name.
func Files() (map[string][]byte, error) {
	namespaces := namespaces()
	nodes := nodes()
	pods := place(workloads(namespaces), nodes)
	services, slices := services(pods)
	out := map[string][]byte{
		"networkpolicies.yaml":                  []byte(networkPolicies()),
		"ciliumnetworkpolicies.yaml":            []byte(ciliumPolicies()),
		"ciliumclusterwidenetworkpolicies.yaml": []byte(clusterwidePolicies()),
		"ciliumcidrgroups.yaml":                 []byte(cidrGroups()),
		"configmaps.yaml":                       []byte(configMaps()),
	}
	lists := map[string][]object{
		"nodes.yaml": nodeObjects(nodes), "namespaces.yaml": namespaceObjects(namespaces), "pods.yaml": podObjects(pods),
		"services.yaml": services, "endpointslices.yaml": slices,
	}
	for name, objects := range lists {
		text, err := list(objects)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		out[name] = text
	}
	return out, nil
}

// list writes objects as kubectl does.
func list(objects []object) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("apiVersion: v1\nitems:\n")
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return nil, err
		}
		lead := "- "
		for line := range strings.Lines(string(text)) {
			b.WriteString(lead + line)
			lead = "  "
		}
	}
	b.WriteString("kind: List\n")
	return b.Bytes(), nil
}

// hash gives n hexadecimal digits that belong to a name.
func hash(n int, parts ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(parts...)))
	return hex.EncodeToString(sum[:])[:n]
}

// suffix gives the five characters that end the name of a pod.
func suffix(parts ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(parts...)))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:5]
}

// number gives a number from 0 to below that belongs to a name.
func number(below int, parts ...any) int {
	sum := sha256.Sum256([]byte(fmt.Sprint(parts...)))
	return (int(sum[0])<<16 | int(sum[1])<<8 | int(sum[2])) % below
}

// node is a machine.
type node struct {
	name, zone, instance string
	cpus, memory, pods   int // memory in GiB
	addr                 netip.Addr
	podCIDR              netip.Prefix
}

func nodes() []node {
	var out []node
	for i := range 12 {
		addr := netip.AddrFrom4([4]byte{10, 20, byte(i % 3), byte(11 + i)})
		n := node{
			name: fmt.Sprintf("ip-%s.eu-central-1.compute.internal", strings.ReplaceAll(addr.String(), ".", "-")),
			zone: "eu-central-1" + string(rune('a'+i%3)), instance: "m6i.2xlarge", cpus: 8, memory: 32, pods: 110,
			addr: addr, podCIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24),
		}
		if i >= 9 {
			n.instance, n.cpus, n.memory = "r6i.xlarge", 4, 32
		}
		out = append(out, n)
	}
	return out
}

func nodeObjects(nodes []node) []object {
	var out []object
	for _, n := range nodes {
		amounts := object{"cpu": fmt.Sprint(n.cpus), "memory": fmt.Sprintf("%dKi", n.memory*1024*1024-131072), "pods": fmt.Sprint(n.pods)}
		out = append(out, object{
			"apiVersion": "v1", "kind": "Node",
			"metadata": object{"name": n.name, "creationTimestamp": created, "labels": labels{
				"kubernetes.io/hostname": n.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
				"topology.kubernetes.io/zone": n.zone, "topology.kubernetes.io/region": "eu-central-1",
				"node.kubernetes.io/instance-type": n.instance,
			}},
			"spec": object{"podCIDR": n.podCIDR.String(), "podCIDRs": []string{n.podCIDR.String()}},
			"status": object{
				"addresses": []object{{"type": "InternalIP", "address": n.addr.String()}, {"type": "Hostname", "address": n.name}},
				"capacity":  amounts, "allocatable": amounts,
			},
		})
	}
	return out
}

// namespace is one with the team that owns it; the team is a label on some only.
type namespace struct {
	name, team, environment string
	labelled                bool // says which team owns it
}

func namespaces() []namespace {
	var out []namespace
	add := func(environment, team, names string) {
		for name := range strings.FieldsSeq(names) {
			out = append(out, namespace{name: name, team: team, environment: environment, labelled: number(5, name) < 3})
		}
	}
	add("prod", "platform", "default kube-system kafka redis databases vault")
	add("prod", "observability", "monitoring logging tracing")
	add("prod", "edge", "ingress-nginx cert-manager storefront mobile-api partner-api")
	add("prod", "delivery", "argocd ci-jobs gitlab-runner")
	add("prod", "buying", "checkout cart orders pricing promotions tax")
	add("prod", "money", "payments billing invoices fraud")
	add("prod", "goods", "catalog search inventory shipping warehouse reviews media")
	add("prod", "people", "accounts auth notifications email support admin")
	add("prod", "data", "analytics events batch-reports notebooks ml-features ml-serving recommendations")
	add("staging", "buying", "checkout-staging cart-staging orders-staging")
	add("staging", "money", "payments-staging billing-staging")
	add("staging", "goods", "catalog-staging search-staging")
	add("preview", "delivery", "preview-pr-4807 preview-pr-4821 preview-pr-4822 preview-pr-4830 preview-pr-4835 preview-pr-4841")
	return out
}

func namespaceObjects(namespaces []namespace) []object {
	var out []object
	for _, n := range namespaces {
		l := labels{"kubernetes.io/metadata.name": n.name, "environment": n.environment}
		if n.labelled {
			l["team"] = n.team
		}
		if number, isPreview := strings.CutPrefix(n.name, "preview-pr-"); isPreview {
			l["pull-request"] = number // one more identity for each pull request
		}
		out = append(out, object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": n.name, "creationTimestamp": created, "labels": l}})
	}
	return out
}
