package cli

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/agentapi/agentapitest"
	"github.com/placid-net/placid/internal/state"
)

// traced is an agent that answers a trace so.
func traced(res agentapi.TraceResult) *fakeAgent {
	f := healthyAgent()
	f.TraceResult = res
	return f
}

func TestPolicyGolden(t *testing.T) {
	open := agentapi.TraceStep{Direction: agentapi.DirectionEgress, Pod: "default/client", Allowed: true, Reason: "No policy isolates its egress."}
	closed := agentapi.TraceStep{
		Direction: agentapi.DirectionIngress, Pod: "default/web-0", Reason: "It is isolated, and no rule allows 10.0.0.9 on 81/TCP.",
		Isolated: []string{"default/allow-web", "default/deny-all"},
	}
	denied := agentapi.TraceResult{Steps: []agentapi.TraceStep{open, closed}}
	atEgress := agentapi.TraceResult{Steps: []agentapi.TraceStep{{
		Direction: agentapi.DirectionEgress, Pod: "default/client", Reason: "It is isolated, and nothing is allowed.", Isolated: []string{"default/deny-all"},
	}}}
	audited := agentapi.TraceResult{Allowed: true, Audited: true, Steps: []agentapi.TraceStep{open, closed}}
	remote := agentapi.TraceResult{Allowed: true, Steps: []agentapi.TraceStep{open}}
	golden(t, []goldenCase{
		{"identity-list", healthyAgent(), "identity list", ExitOK},
		{"identity-list-json", healthyAgent(), "identity list -o json", ExitOK},
		{"identity-list-none-json", &fakeAgent{}, "identity list -o json", ExitOK},
		{"identity-get", healthyAgent(), "identity get 4711", ExitOK},
		{"identity-get-reserved", healthyAgent(), "identity get 1", ExitOK},
		{"identity-get-yaml", healthyAgent(), "identity get 4711 -o yaml", ExitOK},
		{"identity-get-missing", healthyAgent(), "identity get 4712", ExitFailed},
		{"identity-get-bad", healthyAgent(), "identity get web", ExitUsage},
		{"identity-get-noarg", healthyAgent(), "identity get", ExitUsage},
		{"policy-get", healthyAgent(), "policy get", ExitOK},
		{"policy-get-json", healthyAgent(), "policy get default/web-0 -o json", ExitOK},
		{"policy-get-none-json", &fakeAgent{}, "policy get -o json", ExitOK},
		{"policy-get-pod", healthyAgent(), "policy get default/web-0", ExitOK},
		{"policy-get-refused", healthyAgent(), "policy get kube-system/dns-x", ExitOK},
		{"policy-get-full", healthyAgent(), "policy get default/web-1", ExitOK},
		{"policy-get-missing", healthyAgent(), "policy get default/absent", ExitFailed},
		{"policy-get-bad", healthyAgent(), "policy get web-0", ExitUsage},
		{"policy-get-two", healthyAgent(), "policy get a/b c/d", ExitUsage},
		{"policy-selectors", healthyAgent(), "policy selectors", ExitOK},
		{"policy-selectors-yaml", healthyAgent(), "policy selectors -o yaml", ExitOK},
		{"policy-trace-allowed", healthyAgent(), "policy trace --from default/client --to default/web-0:80/tcp --exit-code", ExitOK},
		{"policy-trace-denied", traced(denied), "policy trace --from default/client --to default/web-0:81/tcp", ExitOK},
		{"policy-trace-denied-code", traced(denied), "policy trace --from default/client --to default/web-0:81/tcp --exit-code", ExitFailed},
		{"policy-trace-denied-json", traced(denied), "policy trace --from default/client --to default/web-0:81/tcp --exit-code -o json", ExitFailed},
		{"policy-trace-egress", traced(atEgress), "policy trace --from default/client --to default/web-0 --to-port 53/udp", ExitOK},
		{"policy-trace-audited", traced(audited), "policy trace --from default/client --to default/web-0:81 --exit-code", ExitOK},
		{"policy-trace-remote", traced(remote), "policy trace --from default/client --to default/far:80/tcp", ExitOK},
		{"policy-trace-ping", healthyAgent(), "policy trace --from [fd00::9] --to [fd00::5]/icmp", ExitOK},
		{"policy-trace-half", healthyAgent(), "policy trace --from default/client", ExitUsage},
		{"policy-trace-noport", healthyAgent(), "policy trace --from default/client --to default/web-0", ExitUsage},
		{"policy-trace-twice", healthyAgent(), "policy trace --from default/client --to default/web-0:80 --to-port 80/tcp", ExitUsage},
		{"policy-trace-pingport", healthyAgent(), "policy trace --from default/client --to default/web-0:80/icmp", ExitUsage},
		{"policy-trace-bad-from", healthyAgent(), "policy trace --from client --to default/web-0:80", ExitUsage},
		{"policy-trace-bad-to", healthyAgent(), "policy trace --from default/client --to default/web-0:http/tcp", ExitUsage},
		{"policy-nosub", healthyAgent(), "policy", ExitUsage},
	})
}

// TestPolicyRequests checks what each command asks of the agent.
func TestPolicyRequests(t *testing.T) {
	trace := func(from, to string, port uint16, proto state.Protocol) agentapitest.Call {
		return agentapitest.Call{Method: "PolicyTrace", Request: agentapi.TraceRequest{From: from, To: to, Port: port, Protocol: proto}}
	}
	for args, want := range map[string]agentapitest.Call{
		"identity list":    {Method: "Identities"},
		"identity get 1":   {Method: "Identities"},
		"policy get":       {Method: "Policy", Request: ""},
		"policy get a/b":   {Method: "Policy", Request: "a/b"},
		"policy selectors": {Method: "Selectors"},
		"policy trace --from a/b --to c/d:80/tcp":                 trace("a/b", "c/d", 80, 6),
		"policy trace --from a/b --to c/d:80":                     trace("a/b", "c/d", 80, 6),
		"policy trace --from a/b --to c/d --to-port 53/udp":       trace("a/b", "c/d", 53, 17),
		"policy trace --from a/b --to c/d --to-port 53":           trace("a/b", "c/d", 53, 6),
		"policy trace --from a/b --to c/d --to-port icmp":         trace("a/b", "c/d", 0, 1),
		"policy trace --from [fd00::1] --to [fd00::2]:5/sctp":     trace("fd00::1", "fd00::2", 5, 132),
		"policy trace --from ::ffff:10.0.0.1 --to 10.0.0.2:53/17": trace("10.0.0.1", "10.0.0.2", 53, 17),
		"policy trace --from a/b --to fd00::2/icmp":               trace("a/b", "fd00::2", 0, 58),
	} {
		t.Run(args, func(t *testing.T) {
			f := healthyAgent()
			placid(t, f, "", strings.Fields(args)...)
			if diff := cmp.Diff([]agentapitest.Call{want}, f.Calls()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]target{
		"default/web-0:80/tcp":   {"default/web-0", 80, 6},
		"default/web-0:80":       {"default/web-0", 80, 0},
		"default/web-0":          {"default/web-0", 0, 0},
		"default/web-0/icmp":     {"default/web-0", 0, 1},
		"default/tcp":            {"default/tcp", 0, 0}, // a pod of that name
		"default/tcp/udp":        {"default/tcp", 0, 17},
		"default/6:6/6":          {"default/6", 6, 6},
		"10.0.0.1:443/UDP":       {"10.0.0.1", 443, 17},
		"10.0.0.1/icmp":          {"10.0.0.1", 0, 1},
		"[fd00::1]:443/sctp":     {"fd00::1", 443, 132},
		"[fd00::1]/tcp":          {"fd00::1", 0, 6},
		"[fd00::1]":              {"fd00::1", 0, 0},
		"fd00::1":                {"fd00::1", 0, 0},
		"fd00::1:80":             {"fd00::1:80", 0, 0}, // an address: brackets tell a port apart
		"[::ffff:10.0.0.1]:1/47": {"10.0.0.1", 1, 47},
	} {
		if got, err := parseTarget(in); err != nil || got != want {
			t.Errorf("parseTarget(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for in, part := range map[string]string{
		"":                        `""`,
		"web-0":                   `"web-0" is neither`,
		"web-0:80/tcp":            `"web-0" is neither`,
		"default/web-0:0/tcp":     `port "0"`,
		"default/web-0:65536":     `port "65536"`,
		"default/web-0:http/tcp":  `port "http"`,
		"default/web-0:80/foo":    `protocol "foo"`,
		"default/web-0:80/0":      `protocol "0"`,
		"default/web-0:80/tcp/x":  "want a number",
		"default/a/b/c":           "neither",
		"[fd00::1":                "neither",
		"fd00::1]:80/tcp":         "neither",
		"[default/web-0]:80":      "neither",
		"10.0.0.0/8":              "CIDR", // and not protocol 8 of a host
		"fd00::1/58":              "CIDR",
		"fe80::1%eth0":            "neither",
		"[fe80::1%eth0]:80/tcp":   "neither",
		"default/web-0:80:90/tcp": "neither",
	} {
		if got, err := parseTarget(in); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("parseTarget(%q) = %+v, %v; want an error with %q", in, got, err, part)
		}
	}
}

func TestParseTargetPort(t *testing.T) {
	for in, want := range map[string]target{
		"80": {port: 80}, "80/tcp": {port: 80, proto: 6}, "53/UDP": {port: 53, proto: 17}, "icmp": {proto: 1}, "gre": {proto: 47},
	} {
		if got, err := parseTargetPort(in); err != nil || got != want {
			t.Errorf("parseTargetPort(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "tcp", "0", "70000", "80/", "/tcp", "80/foo", "http/tcp", "80/tcp/x"} {
		if got, err := parseTargetPort(in); err == nil {
			t.Errorf("parseTargetPort(%q) = %+v, want an error", in, got)
		}
	}
}

func TestParseSide(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1:80", "10.0.0.1": "10.0.0.1:0", "[fd00::1]:80": "[fd00::1]:80", "[fd00::1]": "[fd00::1]:0",
		"fd00::1": "[fd00::1]:0", "[::ffff:10.0.0.1]:80": "10.0.0.1:80", "::ffff:10.0.0.1": "10.0.0.1:0",
		"": "", "web:80": "", "10.0.0.1:": "", "10.0.0.1:65536": "", "[fe80::1%eth0]:80": "", "fe80::1%eth0": "", "[]": "",
	} {
		got, err := parseSide(in)
		if (err != nil) != (want == "") || err == nil && got != netip.MustParseAddrPort(want) {
			t.Errorf("parseSide(%q) = %v, %v; want %q", in, got, err, want)
		}
	}
}

// FuzzParseTarget checks that what is accepted is a side that an agent accepts,
// and that its own text means the same.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"default/web-0:80/tcp", "[fd00::1]:80/udp", "10.0.0.1/icmp", "default/tcp", "fd00::1:80", "a/b/c", "[a/b]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseTarget(s)
		if err != nil {
			return
		}
		if _, err := netip.ParseAddr(got.side); err != nil && !agentapi.IsPodName(got.side) {
			t.Fatalf("%q gives the side %q", s, got.side)
		}
		text := got.side
		if !agentapi.IsPodName(text) {
			text = "[" + text + "]"
		}
		if got.port != 0 {
			text = joinPort(got.side, strconv.Itoa(int(got.port)))
		}
		if got.proto != 0 {
			text += "/" + protocolName(got.proto)
		}
		if again, err := parseTarget(text); err != nil || again != got {
			t.Errorf("%q is %+v; as %q it is %+v, %v", s, got, text, again, err)
		}
	})
}
