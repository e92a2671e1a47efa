package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlanClusterGolden plans for a cluster of files, without an agent.
func TestPlanClusterGolden(t *testing.T) {
	const f = "-f testdata/plan-cluster.yaml"
	golden(t, []goldenCase{
		{"plan-cluster", unreachableAgent(), "plan " + f, ExitOK},
		{"plan-cluster-grow", unreachableAgent(), "plan " + f + " --grow pods=30x,services=+2000,policies=+20% --rate tcp=500/s,dns=2000/s", ExitOK},
		{"plan-cluster-cilium", unreachableAgent(), "plan " + f + " --for cilium --grow services=+6000", ExitOK},
		{"plan-cluster-terway", unreachableAgent(), "plan " + f + " --for terway --grow services=+6000 --instance-types ecs.g7.2xlarge=4x15", ExitOK},
		{"plan-cluster-node", unreachableAgent(), "plan " + f + " --node node-b", ExitOK},
		{"plan-cluster-json", unreachableAgent(), "plan " + f + " --for cilium -o json", ExitOK},
		{"plan-cluster-nonode", unreachableAgent(), "plan " + f + " --node node-c", ExitFailed},
		{"plan-cluster-nofile", unreachableAgent(), "plan -f testdata/nowhere.yaml", ExitFailed},
		{"plan-cluster-badgrow", unreachableAgent(), "plan " + f + " --grow ponds=2x", ExitUsage},
		{"plan-cluster-badrate", unreachableAgent(), "plan " + f + " --rate tcp=5", ExitUsage},
		{"plan-cluster-badfor", unreachableAgent(), "plan " + f + " --for flannel", ExitUsage},
		{"plan-cluster-badtype", unreachableAgent(), "plan " + f + " --instance-types huge", ExitUsage},
		{"plan-wrongsub", unreachableAgent(), "plan size", ExitUsage},
		{"plan-service", unreachableAgent(), "plan service shop/web " + f, ExitOK},
		{"plan-service-cilium", unreachableAgent(), "plan service shop/web --for cilium " + f, ExitOK},
		{"plan-service-cilium-yaml", unreachableAgent(), "plan service shop/web --for cilium -o yaml " + f, ExitOK},
		{"plan-service-missing", unreachableAgent(), "plan service shop/nobody " + f, ExitFailed},
		{"plan-service-badname", unreachableAgent(), "plan service web " + f, ExitUsage},
		{"plan-service-noarg", unreachableAgent(), "plan service " + f, ExitUsage},
	})
}

// TestPlanReport writes the page beside the table.
func TestPlanReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plan.html")
	r := placid(t, unreachableAgent(), "", "plan", "-f", "testdata/plan-cluster.yaml", "--html", file)
	if r.code != ExitOK || !strings.Contains(r.stderr, file) || !strings.Contains(r.stdout, "First limit") {
		t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Capacity plan", "Headroom by node", "node-b", "shop/web", "v0.1.0-test"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	r = placid(t, unreachableAgent(), "", "plan", "-f", "testdata/plan-cluster.yaml", "--html", filepath.Join(file, "no"))
	if r.code != ExitFailed || !strings.Contains(r.stderr, "write report") {
		t.Errorf("a page that cannot be written: exit code %d, %s", r.code, r.stderr)
	}
}

// TestPlanStandardInput reads what kubectl writes into a pipe.
func TestPlanStandardInput(t *testing.T) {
	objects, err := os.ReadFile("testdata/plan-cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := placid(t, unreachableAgent(), string(objects), "plan", "-f", "-")
	if r.code != ExitOK || !strings.Contains(r.stdout, "2 nodes, 2 namespaces, 5 pods") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// TestPlanOfAPart: what cannot be read is told, and the plan of the rest ends with
// another exit code.
func TestPlanOfAPart(t *testing.T) {
	objects, err := os.ReadFile("testdata/plan-cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	bad := string(objects) + "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: bad, namespace: shop}\nspec: {podSelector: 7}\n"
	r := placid(t, unreachableAgent(), bad, "plan", "-f", "-")
	if r.code != ExitFailed || !strings.Contains(r.stderr, "NetworkPolicy shop/bad") || !strings.Contains(r.stdout, "First limit") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
