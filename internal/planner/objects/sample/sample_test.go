package sample

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/planner/objects"
	"github.com/placid-net/placid/internal/planner/snapshot"
)

var update = flag.Bool("update", false, "write the files of the sample cluster anew")

// dir is where the files are.
const dir = "../../../../examples/cluster"

func TestFiles(t *testing.T) {
	files, err := Files()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for name, text := range files {
		total += len(text)
		path := filepath.Join(dir, name)
		if *update {
			if err = os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		committed, missing := os.ReadFile(path)
		if missing != nil {
			t.Fatal(missing)
		}
		if diff := cmp.Diff(strings.Split(string(committed), "\n"), strings.Split(string(text), "\n")); diff != "" {
			t.Errorf("%s is not what the generator writes (go test ./internal/planner/objects/sample -update writes it):\n%.2000s", name, diff)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".yaml" {
			got = append(got, e.Name())
		}
	}
	if want := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("%s has %v, the generator writes %v", dir, got, want)
	}
	if total > 1_500_000 {
		t.Errorf("the files take %d bytes", total)
	}
}

func TestCluster(t *testing.T) {
	s, err := objects.Load(t.Context(), objects.Options{Paths: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Problems {
		t.Errorf("%s %+v %s %s: %s", p.Severity, p.Origin, p.Object, p.Field, p.Message)
	}
	names := map[string]bool{}
	for _, p := range s.Policies {
		name, _, _ := strings.Cut(p.Key(), "#")
		names[name] = true
	}
	got := map[string]int{
		"nodes": len(s.Nodes), "namespaces": len(s.Namespaces), "services": len(s.PolicyServices), "policies": len(names), "groups": len(s.CIDRGroups),
	}
	t.Log(got, len(s.Pods))
	want := map[string]int{"nodes": 12, "namespaces": 60, "services": 43, "policies": 80, "groups": 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if len(s.Pods) < 500 || s.Platform != snapshot.Cilium || s.ClusterName != "fernhill-prod" {
		t.Errorf("%d pods, platform %q, cluster %q", len(s.Pods), s.Platform, s.ClusterName)
	}
}

// TestPods checks what a real cluster could not have otherwise.
func TestPods(t *testing.T) {
	nodes := nodes()
	addrs, names, perNode := map[string]string{}, map[string]bool{}, map[string]int{}
	for _, p := range place(workloads(namespaces()), nodes) {
		name := p.namespace + "/" + p.podName
		if names[name] {
			t.Errorf("pod %s twice", name)
		}
		names[name] = true
		perNode[p.node.name]++
		if p.hostNetwork {
			continue
		}
		if other, taken := addrs[p.addr.String()]; taken {
			t.Errorf("pods %s and %s have the address %s", name, other, p.addr)
		}
		addrs[p.addr.String()] = name
		if !p.node.podCIDR.Contains(p.addr) {
			t.Errorf("pod %s has the address %s, of another node than %s", name, p.addr, p.node.name)
		}
	}
	for _, n := range nodes {
		if perNode[n.name] > n.pods {
			t.Errorf("node %s has %d pods, more than %d", n.name, perNode[n.name], n.pods)
		}
	}
}

// TestServices checks that every Service of pods has some.
func TestServices(t *testing.T) {
	pods := place(workloads(namespaces()), nodes())
	for _, s := range allServices() {
		if (len(s.selector) > 0 || len(s.addrs) > 0) && s.slice(pods) == nil {
			t.Errorf("service %s/%s has no backend", s.namespace, s.name)
		}
	}
}
