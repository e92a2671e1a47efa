package arch

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// part is the unit of the rules: a folder of internal/, or one at the top.
func part(importPath string) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
	rel = strings.TrimPrefix(rel, "internal/")
	first, _, _ := strings.Cut(rel, "/")
	return first
}

// allowed says what each part may import of the project. Imports point one
// way: cmd → roots → {k8s, datapath, flow, reconcile} → {policy, loadbalance,
// ipam, identity} → state.
func allowed() map[string][]string {
	state := []string{"state"}
	pure := []string{"policy", "loadbalance", "ipam", "identity", "sizing", "autosize"}
	contracts := []string{"agentapi", "config"}                             // what programs say to each other, and are told
	objects := []string{"api", "deploy"}                                    // Kubernetes objects, as types and as files
	middle := slices.Concat(pure, contracts[:1], state, []string{"timing"}) // what the middle layer sees
	root := slices.Concat([]string{"k8s", "datapath", "flow", "reconcile", "timing"}, pure, contracts, objects, state)
	return map[string][]string{
		"cmd":      slices.Concat([]string{"agent", "operator", "cni", "cli"}, contracts),
		"agent":    append(slices.Clone(root), "cni"), // installs the plugin and its configuration
		"operator": root,
		"cli":      append(slices.Clone(root), "planner"),
		"cni":      {"agentapi", "state"},

		"k8s":       slices.Concat(middle, objects),
		"datapath":  append(slices.Clone(middle), "reconcile"), // runs loops over its maps, links and routes
		"flow":      append(slices.Clone(middle), "datapath"),  // reads the datapath's events
		"planner":   slices.Concat(middle, objects, []string{"k8s", "config"}),
		"reconcile": middle,

		"policy":      state,
		"loadbalance": state,
		"ipam":        state,
		"identity":    state,
		"sizing":      nil,
		"autosize":    {"sizing"},

		"agentapi": state,
		"config":   {"agentapi", "state", "sizing"},
		"state":    nil,
		"timing":   nil,
		"api":      nil,
		"deploy":   nil,

		"testutil": {"state"},
		"arch":     nil,
		"test":     slices.Concat([]string{"testutil", "cli", "planner"}, root),
		"bench":    slices.Concat([]string{"testutil", "cni", "agent", "planner"}, root), // runs parts of the agent
	}
}

// owners lists the libraries that belong to some parts, which hide them from
// all others. Tests may use them anywhere.
func owners() map[string][]string {
	return map[string][]string{
		"github.com/cilium/ebpf":         {"datapath", "testutil", "bench", "test"},
		"github.com/vishvananda/netlink": {"datapath", "testutil", "bench", "test"},
		"k8s.io/client-go":               {"k8s", "operator", "planner", "test"},
		"sigs.k8s.io/controller-runtime": {"operator"},
		"github.com/hashicorp/go-memdb":  {"state"},
	}
}

func TestImportDirection(t *testing.T) {
	rules := allowed()
	for _, p := range packages(t) {
		from := part(p.ImportPath)
		may, known := rules[from]
		if !known {
			t.Errorf("%s: part %q is not in the table of allowed imports: say there what it may import", p.ImportPath, from)
			continue
		}
		for _, imp := range p.Imports {
			to := part(imp)
			if isOurs(imp) && to != from && !slices.Contains(may, to) {
				t.Errorf("%s imports %s: %s may import %s", p.ImportPath, imp, from, strings.Join(may, ", "))
			}
		}
	}
}

// leaves lists packages that others of their part stand on, and all that each may
// import of the project.
func leaves() map[string][]string {
	return map[string][]string{
		"internal/datapath/abi":      nil,
		"internal/datapath/netorder": {"internal/datapath/abi"},
	}
}

func TestLeavesStandAlone(t *testing.T) {
	found := 0
	for _, p := range packages(t) {
		may, ok := leaves()[strings.TrimPrefix(p.ImportPath, module+"/")]
		if !ok {
			continue
		}
		found++
		for _, imp := range p.Imports {
			if isOurs(imp) && !slices.Contains(may, strings.TrimPrefix(imp, module+"/")) {
				t.Errorf("%s imports %s: it may import %v", p.ImportPath, imp, may)
			}
		}
	}
	if found != len(leaves()) {
		t.Errorf("%d of %d leaves are there: strike out those that are gone", found, len(leaves()))
	}
}

func TestLibrariesHaveOwners(t *testing.T) {
	libs := owners()
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			for _, lib := range slices.Sorted(maps.Keys(libs)) {
				if within(imp, lib) && !slices.Contains(libs[lib], part(p.ImportPath)) {
					t.Errorf("%s imports %s: only %s may use it", p.ImportPath, imp, strings.Join(libs[lib], ", "))
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package doc: say in doc.go what it is and what always holds in it", p.ImportPath)
		}
	}
}

// TestRulesBite checks the rules themselves: they must refuse what they are
// there to refuse.
func TestRulesBite(t *testing.T) {
	rules := allowed()
	for _, bad := range [][2]string{
		{"state", "agentapi"},
		{"ipam", "datapath"},
		{"policy", "ipam"},
		{"reconcile", "datapath"},
		{"k8s", "datapath"},
		{"datapath", "agent"},
		{"agentapi", "config"},
		{"cni", "datapath"},
		{"agent", "operator"},
	} {
		if slices.Contains(rules[bad[0]], bad[1]) {
			t.Errorf("the table lets %s import %s", bad[0], bad[1])
		}
	}
	for path, want := range map[string]string{
		module + "/internal/datapath/abi": "datapath", module + "/cmd/placid-cni": "cmd", module + "/api/v1alpha1": "api",
	} {
		if got := part(path); got != want {
			t.Errorf("part(%s) = %q, want %q", path, got, want)
		}
	}
	if within("k8s.io/client-gone/x", "k8s.io/client-go") || !within("k8s.io/client-go/rest", "k8s.io/client-go") {
		t.Error("within does not compare whole path elements")
	}
	// Every part that a rule names is a part that the table describes.
	for from, may := range rules {
		for _, to := range may {
			if _, ok := rules[to]; !ok {
				t.Errorf("%s may import %s, which the table does not describe", from, to)
			}
		}
	}
}

func within(importPath, prefix string) bool {
	return importPath == prefix || strings.HasPrefix(importPath, prefix+"/")
}

func isOurs(importPath string) bool { return within(importPath, module) }
