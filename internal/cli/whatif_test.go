package cli

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/planner/whatif"
)

const (
	shopCluster = "testdata/shop/cluster.yaml"
	shopOld     = "testdata/shop/old.yaml"
	shopNew     = "testdata/shop/new.yaml"
)

func TestWhatIfGolden(t *testing.T) {
	files := " -f " + shopCluster + " -f " + shopOld
	golden(t, []goldenCase{
		{"what-if-propose", &fakeAgent{}, "identity what-if --propose" + files, ExitOK},
		{"what-if-broken", &fakeAgent{}, "identity what-if --labels k8s:tier$" + files, ExitFailed},
		{"what-if-force", &fakeAgent{}, "identity what-if --labels k8s:tier$ --force --limit 1" + files, ExitOK},
		{"what-if-cilium", &fakeAgent{}, "identity what-if --labels !app --force --for cilium" + files, ExitOK},
		{"what-if-auto", &fakeAgent{}, "identity what-if --auto --for terway -o yaml --limit 2" + files, ExitOK},
		{"what-if-none", &fakeAgent{}, "identity what-if" + files, ExitUsage},
		{"what-if-two", &fakeAgent{}, "identity what-if --auto --propose" + files, ExitUsage},
		{"what-if-bad", &fakeAgent{}, "identity what-if --labels k8s:(" + files, ExitUsage},
		{"what-if-unread", &fakeAgent{}, "identity what-if --auto -f testdata/shop/broken.yaml -f " + shopCluster, ExitUnjudged},
		{"what-if-nofile", &fakeAgent{}, "identity what-if --auto -f testdata/shop/absent", ExitUnjudged},
	})
}

// TestWhatIfJSON checks that scripts get what the library says.
func TestWhatIfJSON(t *testing.T) {
	r := placid(t, &fakeAgent{}, "", strings.Fields("identity what-if --propose -o json -f "+shopCluster+" -f "+shopOld)...)
	var res struct {
		Now, Then struct{ Identities whatif.Count }
		Proposal  whatif.Proposal
	}
	if err := json.Unmarshal([]byte(r.stdout), &res); err != nil {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	if res.Now.Identities.Total != 9 || res.Then.Identities.Total != 3 || res.Proposal.Labels != "k8s:app$" || r.code != ExitOK {
		t.Errorf("exit code %d, %+v", r.code, res)
	}
}

func TestPolicyDiffGolden(t *testing.T) {
	diff := "policy diff " + shopOld + " " + shopNew + " --cluster " + shopCluster
	golden(t, []goldenCase{
		{"policy-diff", &fakeAgent{}, diff, ExitFailed},
		{"policy-diff-limit", &fakeAgent{}, diff + " --limit 1", ExitFailed},
		{"policy-diff-markdown", &fakeAgent{}, diff + " --output markdown", ExitFailed},
		{"policy-diff-yaml", &fakeAgent{}, diff + " -o yaml --limit 1", ExitFailed},
		{"policy-diff-same", &fakeAgent{}, "policy diff " + shopOld + " " + shopOld + " --cluster " + shopCluster, ExitOK},
		{"policy-diff-opened", &fakeAgent{}, "policy diff none " + shopOld + " --cluster " + shopCluster + " --fail-on opened", ExitOK},
		{"policy-diff-closed", &fakeAgent{}, "policy diff none " + shopOld + " --cluster " + shopCluster + " --fail-on closed --limit 1", ExitFailed},
		{"policy-diff-none", &fakeAgent{}, "policy diff " + shopOld + " none --cluster " + shopCluster + " --limit 1", ExitFailed},
		{"policy-diff-l7", &fakeAgent{}, "policy diff none testdata/shop/l7.yaml --cluster " + shopCluster + " --limit 1", ExitFailed},
		{"policy-diff-unread", &fakeAgent{}, "policy diff " + shopOld + " testdata/shop/broken.yaml --cluster " + shopCluster, ExitUnjudged},
		{"policy-diff-nofile", &fakeAgent{}, "policy diff " + shopOld + " testdata/shop/absent --cluster " + shopCluster, ExitUnjudged},
		{"policy-diff-one", &fakeAgent{}, "policy diff " + shopOld, ExitUsage},
		{"policy-diff-bad-output", &fakeAgent{}, diff + " -o html", ExitUsage},
		{"policy-diff-bad-fail", &fakeAgent{}, diff + " --fail-on all", ExitUsage},
		{"policy-diff-stdin", &fakeAgent{}, "policy diff - - --cluster " + shopCluster, ExitUsage},
		{"policy-diff-connections", shopAgent(), diff + " --connections", ExitFailed},
		{"policy-diff-connections-markdown", shopAgent(), diff + " --connections -o markdown", ExitFailed},
		{"policy-diff-connections-json", shopAgent(), diff + " --connections -o json --limit 1", ExitFailed},
		{"policy-diff-connections-none", &fakeAgent{}, diff + " --connections", ExitFailed},
		{"policy-diff-connections-down", unreachableAgent(), diff + " --connections", ExitUnreachable},
	})
}

// shopAgent is an agent with flows of the pods of testdata/shop: one that the new
// policies allow, and those from the front to the port 80 of another pod, directly
// and through a service, that they deny.
func shopAgent() *fakeAgent {
	flow := func(proto uint8, from, to string) agentapi.CTEntry {
		return agentapi.CTEntry{Proto: proto, Source: netip.MustParseAddrPort(from), Destination: netip.MustParseAddrPort(to)}
	}
	direct, service, ping := flow(6, "10.0.0.11:4000", "10.0.0.21:80"), flow(6, "10.0.0.11:4001", "10.96.0.1:8080"), flow(1, "10.0.0.11:7", "10.1.2.3:7")
	direct.SourcePod = "shop/web-1"
	service.TranslatedFrom = service.Source
	service.Translated = [2]netip.AddrPort{service.Source, netip.MustParseAddrPort("10.0.0.21:80")}
	ping.DestinationIdentity = 2
	f := &fakeAgent{}
	f.CTListResult = agentapi.CTList{Total: 4, Entries: []agentapi.CTEntry{direct, service, ping, flow(6, "10.0.0.11:4002", "10.0.0.21:443")}}
	return f
}

// TestDiffReadsStdin gives one side on the standard input.
func TestDiffReadsStdin(t *testing.T) {
	policy := "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: all, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Egress]}\n"
	r := placid(t, &fakeAgent{}, policy, strings.Fields("policy diff none - --limit 1 --cluster "+shopCluster)...)
	if r.code != ExitFailed || !strings.Contains(r.stdout, "egress: isolated now by shop/all") {
		t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
}

// TestMark checks that names cannot break out of a table of Markdown.
func TestMark(t *testing.T) {
	for in, want := range map[string]string{
		"shop/app=web":       "shop/app=web",
		"a|b\nc":             `a\|b c`,
		"<script>&":          "&lt;script>&amp;",
		"`x` *y* [z](w) @me": "\\`x\\` \\*y\\* \\[z\\](w) \\@me",
	} {
		if got := mark(in); got != want {
			t.Errorf("mark(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"a b": "`a b`", "a\n`b`": "`` a `b` ``"} {
		if got := code(in); got != want {
			t.Errorf("code(%q) = %q, want %q", in, got, want)
		}
	}
}
