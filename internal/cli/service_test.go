package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
)

func TestGoldenServices(t *testing.T) {
	golden(t, []goldenCase{
		{"service-list", healthyAgent(), "service list", ExitOK},
		{"service-list-namespace", healthyAgent(), "service list -n kube-system", ExitOK},
		{"service-list-json", healthyAgent(), "service list -n kube-system -o json", ExitOK},
		{"service-list-none", &fakeAgent{}, "service list", ExitOK},
		{"service-list-none-json", healthyAgent(), "service list -n empty -o json", ExitOK},
		{"service-list-bad", healthyAgent(), "service list -n a/b", ExitUsage},
		{"service-get", healthyAgent(), "service get default/web", ExitOK},
		{"service-get-yaml", healthyAgent(), "service get default/web -o yaml", ExitOK},
		{"service-get-refused", healthyAgent(), "service get default/large", ExitOK},
		{"service-get-pod", healthyAgent(), "service get kube-system/dns-x", ExitOK},
		{"service-get-both", bothAgent(), "service get default/web", ExitOK},
		{"service-get-missing", healthyAgent(), "service get default/none", ExitFailed},
		{"service-get-bad", healthyAgent(), "service get web", ExitUsage},
		{"service-get-noarg", healthyAgent(), "service get", ExitUsage},
		{"service-nosub", healthyAgent(), "service", ExitUsage},
		{"lb-list", healthyAgent(), "bpf lb list", ExitOK},
		{"lb-list-frontends", healthyAgent(), "bpf lb list --frontends", ExitOK},
		{"lb-list-backends", healthyAgent(), "bpf lb list --backends", ExitOK},
		{"lb-list-backends-json", healthyAgent(), "bpf lb list --backends -o json", ExitOK},
		{"lb-list-both", healthyAgent(), "bpf lb list --backends --frontends", ExitUsage},
		{"lb-list-none", &fakeAgent{}, "bpf lb list", ExitOK},
		{"lb-list-none-json", &fakeAgent{}, "bpf lb list -o json", ExitOK},
		{"lb-nosub", healthyAgent(), "bpf lb", ExitUsage},
		{"status-many-refused", refusingAgent(12), "status", ExitFailed},
		{"status-no-services", withoutServices(), "status", ExitOK},
	})
}

// bothAgent has a pod with the name of a service.
func bothAgent() *fakeAgent {
	f := healthyAgent()
	f.ServicesResult[3].Service = f.ServicesResult[1].Service
	return f
}

func refusingAgent(n int) *fakeAgent {
	f := healthyAgent()
	for i := range n {
		f.status.Services.Refused = append(f.status.Services.Refused,
			fmt.Sprintf("port 80/TCP of default/large-%d is not in force: it needs 5000 entries of table backend, 12 are free", i))
	}
	return f
}

func withoutServices() *fakeAgent {
	f := healthyAgent()
	f.status.Services, f.status.Masquerade = &agentapi.ServicesStatus{}, nil
	return f
}

// TestServicesMachineOutput checks that JSON is what the agent said.
func TestServicesMachineOutput(t *testing.T) {
	f := healthyAgent()
	addrs := cmp.Comparer(func(a, b fmt.Stringer) bool { return a.String() == b.String() })
	var tables agentapi.LBTables
	if err := json.Unmarshal([]byte(placid(t, f, "", "bpf", "lb", "list", "-o", "json").stdout), &tables); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.LBResult, tables, addrs); diff != "" {
		t.Errorf("lb -want +got:\n%s", diff)
	}
	var services []agentapi.ServiceInfo
	if err := json.Unmarshal([]byte(placid(t, f, "", "service", "get", "default/web", "-o", "json").stdout), &services); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.ServicesResult[1:2], services, addrs); diff != "" {
		t.Errorf("service -want +got:\n%s", diff)
	}
}

// TestStatusRefusedIsUnhealthy checks that what does not fit is the node's
// problem, and that a Service that makes no sense is not.
func TestStatusRefusedIsUnhealthy(t *testing.T) {
	if r := placid(t, healthyAgent(), "", "status"); r.code != ExitOK || !strings.Contains(r.stdout, "default/odd: spec.ports[0]") {
		t.Errorf("exit code %d, %s", r.code, r.stdout)
	}
	if r := placid(t, refusingAgent(1), "", "status", "--brief"); r.code != ExitFailed || !strings.HasPrefix(r.stdout, "services: port 80/TCP of default/large-0") {
		t.Errorf("exit code %d, %s", r.code, r.stdout)
	}
}
