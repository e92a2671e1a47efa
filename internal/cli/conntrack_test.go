package cli

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/agentapi/agentapitest"
)

func TestConntrackGolden(t *testing.T) {
	full := healthyAgent()
	full.CTListResult.Total = 52310
	denied := &fakeAgent{err: &agentapi.Error{Code: agentapi.CodeNotFound, Message: "no pod default/absent on this node"}}
	golden(t, []goldenCase{
		{"ct-nosub", healthyAgent(), "bpf ct", ExitUsage},
		{"ct-list", healthyAgent(), "bpf ct list", ExitOK},
		{"ct-list-json", healthyAgent(), "bpf ct list -o json", ExitOK},
		{"ct-list-yaml", healthyAgent(), "bpf ct list -o yaml", ExitOK},
		{"ct-list-more", full, "bpf ct list --limit 7", ExitOK},
		{"ct-list-none", &fakeAgent{}, "bpf ct list", ExitOK},
		{"ct-list-none-json", &fakeAgent{}, "bpf ct list -o json", ExitOK},
		{"ct-list-absent-pod", denied, "bpf ct list --pod default/absent", ExitFailed},
		{"ct-list-bad-pod", healthyAgent(), "bpf ct list --pod web-0", ExitUsage},
		{"ct-list-bad-addr", healthyAgent(), "bpf ct list --addr 10.0.0.0/33", ExitUsage},
		{"ct-list-bad-port", healthyAgent(), "bpf ct list --port 0", ExitUsage},
		{"ct-list-bad-proto", healthyAgent(), "bpf ct list --proto tpc", ExitUsage},
		{"ct-list-bad-state", healthyAgent(), "bpf ct list --state open", ExitUsage},
		{"ct-list-bad-limit", healthyAgent(), "bpf ct list --limit -1", ExitUsage},
		{"ct-list-help", healthyAgent(), "bpf ct list --help", ExitOK},
		{"ct-get", healthyAgent(), "bpf ct get --from 10.244.0.5:43210 --to 10.244.1.7:80", ExitOK},
		{"ct-get-json", healthyAgent(), "bpf ct get --from [2001:db8::9]:53 --to [fd00::5]:5353 --proto UDP -o json", ExitOK},
		{"ct-get-missing", healthyAgent(), "bpf ct get --from 10.244.0.5:43210 --to [::ffff:10.244.1.7]:81", ExitFailed},
		{"ct-get-ambiguous", healthyAgent(), "bpf ct get --from 10.244.0.5 --to 10.244.1.7 --proto icmp", ExitFailed},
		{"ct-get-half", healthyAgent(), "bpf ct get --from 10.244.0.5:43210", ExitUsage},
		{"ct-get-noport", healthyAgent(), "bpf ct get --from 10.244.0.5:43210 --to 10.244.1.7", ExitUsage},
		{"ct-get-families", healthyAgent(), "bpf ct get --from 10.244.0.5:43210 --to [fd00::7]:80", ExitUsage},
		{"ct-get-bad", healthyAgent(), "bpf ct get --from web-0:80 --to 10.244.1.7:80", ExitUsage},
		{"ct-top", healthyAgent(), "bpf ct top --by pod", ExitOK},
		{"ct-top-json", healthyAgent(), "bpf ct top -o json", ExitOK},
		{"ct-top-none-json", &fakeAgent{}, "bpf ct top -o json", ExitOK},
		{"ct-top-bad", healthyAgent(), "bpf ct top --by node", ExitUsage},
		{"ct-flush-nothing", healthyAgent(), "bpf ct flush", ExitUsage},
		{"ct-flush-both", healthyAgent(), "bpf ct flush --all --port 80", ExitUsage},
		{"ct-flush-all", healthyAgent(), "bpf ct flush --all", ExitOK},
		{"ct-flush-json", healthyAgent(), "bpf ct flush --pod default/web-0 -o json", ExitOK},
		{"ct-gc", healthyAgent(), "bpf ct gc", ExitOK},
		{"ct-gc-yaml", healthyAgent(), "bpf ct gc -o yaml", ExitOK},
	})
}

// TestConntrackRequests checks what each command asks of the agent.
func TestConntrackRequests(t *testing.T) {
	prefix := netip.MustParsePrefix
	for args, want := range map[string]agentapitest.Call{
		"list":                                 {Method: "CTList", Request: agentapi.CTFilter{Limit: listLimit}},
		"list --limit 0":                       {Method: "CTList", Request: agentapi.CTFilter{}},
		"list --pod a/b --state closing":       {Method: "CTList", Request: agentapi.CTFilter{Pod: "a/b", State: "closing", Limit: listLimit}},
		"list --addr 10.1.2.3/16 --port 65535": {Method: "CTList", Request: agentapi.CTFilter{Addr: prefix("10.1.0.0/16"), Port: 65535, Limit: listLimit}},
		"list --proto sctp --limit 3":          {Method: "CTList", Request: agentapi.CTFilter{Proto: 132, Limit: 3}},
		"list --proto 255":                     {Method: "CTList", Request: agentapi.CTFilter{Proto: 255, Limit: listLimit}},
		"list --proto icmp":                    {Method: "CTList", Request: agentapi.CTFilter{Proto: 1, Limit: listLimit}},
		"list --proto icmp --addr fd00::1":     {Method: "CTList", Request: agentapi.CTFilter{Proto: 58, Addr: prefix("fd00::1/128"), Limit: listLimit}},
		"get --from 10.0.0.1:1 --to 10.0.0.2:2": {
			Method: "CTList", Request: agentapi.CTFilter{Addr: prefix("10.0.0.1/32"), Port: 1, Proto: 6},
		},
		"get --from fd00::1 --to [fd00::2]:9 --proto icmp": {
			Method: "CTList", Request: agentapi.CTFilter{Addr: prefix("fd00::2/128"), Port: 9, Proto: 58},
		},
		"get --from [fd00::1] --to fd00::2 --proto 47": {
			Method: "CTList", Request: agentapi.CTFilter{Addr: prefix("fd00::2/128"), Proto: 47},
		},
		"top":                                    {Method: "CTTop", Request: agentapitest.TopRequest{By: "source", Limit: topLimit}},
		"top --by destination --limit 0":         {Method: "CTTop", Request: agentapitest.TopRequest{By: "destination"}},
		"flush --all":                            {Method: "CTFlush", Request: agentapi.CTFilter{All: true}},
		"flush --addr 0.0.0.0/0 --proto tcp":     {Method: "CTFlush", Request: agentapi.CTFilter{Addr: prefix("0.0.0.0/0"), Proto: 6}},
		"flush --state new --port 53 --pod ns/p": {Method: "CTFlush", Request: agentapi.CTFilter{State: "new", Port: 53, Pod: "ns/p"}},
		"gc":                                     {Method: "CTCollect"},
	} {
		t.Run(args, func(t *testing.T) {
			f := healthyAgent()
			placid(t, f, "", strings.Fields("bpf ct "+args)...)
			if diff := cmp.Diff([]agentapitest.Call{want}, f.Calls(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestFlushRefused checks that a refused command does not reach the agent.
func TestFlushRefused(t *testing.T) {
	for _, args := range []string{"flush", "flush --all --port 80", "flush --port 0", "flush --addr 10.0.0.0/99", "flush now", "flush --limit 3"} {
		f := healthyAgent()
		if r := placid(t, f, "", strings.Fields("bpf ct "+args)...); r.code != ExitUsage || len(f.Calls()) != 0 {
			t.Errorf("%s: exit code %d, the agent was asked %v; want %d and nothing", args, r.code, f.Methods(), ExitUsage)
		}
	}
}

func TestFlowKeyPick(t *testing.T) {
	flows := testFlows().Entries
	for _, tc := range []struct {
		name, from, to string
		proto          uint8
		want           []int
	}{
		{"as it began", "10.244.0.5:43210", "10.244.1.7:80", 6, []int{0}},
		{"the other way round", "10.244.1.7:80", "10.244.0.5:43210", 6, []int{0}},
		{"another protocol", "10.244.0.5:43210", "10.244.1.7:80", 17, nil},
		{"another port", "10.244.0.5:43211", "10.244.1.7:80", 6, nil},
		{"ports exchanged", "10.244.0.5:80", "10.244.1.7:43210", 6, nil},
		{"in two tables", "192.0.2.9:999", "10.244.0.5:80", 6, []int{3}},
		{"two pings", "10.244.0.5", "10.244.1.7", 1, []int{4, 5}},
		{"one ping", "10.244.1.7", "10.244.0.5:78", 1, []int{5}},
		{"no ports at all", "192.0.2.1", "10.244.0.5", 99, []int{6}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			from, err := parseSide(tc.from)
			if err != nil {
				t.Fatal(err)
			}
			to, err := parseSide(tc.to)
			if err != nil {
				t.Fatal(err)
			}
			var want []agentapi.CTEntry
			for _, i := range tc.want {
				want = append(want, flows[i])
			}
			got := flowKey{from: from, to: to, proto: tc.proto}.pick(flows)
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestWalksArePatient checks that what walks whole tables is not given up after
// the time that other requests have.
func TestWalksArePatient(t *testing.T) {
	for args, want := range map[string]time.Duration{
		"bpf ct gc":                       walkTimeout,
		"bpf ct flush --all":              walkTimeout,
		"bpf ct gc --timeout 7s":          7 * time.Second,
		"bpf ct flush --all --timeout 1h": time.Hour,
		"bpf ct list":                     defaultTimeout,
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			if r := placid(t, &fakeAgent{hang: true}, "", strings.Fields(args)...); r.code != ExitUnreachable {
				t.Errorf("%s: exit code is %d, want %d", args, r.code, ExitUnreachable)
			}
			if got := time.Since(start); got != want {
				t.Errorf("%s gave up after %s, want %s", args, got, want)
			}
		})
	}
}

func TestSpent(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 999: "999ns", 340123: "340µs", 12345678: "12.3ms", 1234567890: "1.23s", 5 * time.Minute: "5m0s", 999999: "1ms",
	} {
		if got := spent(d); got != want {
			t.Errorf("spent(%d) is %s, want %s", d, got, want)
		}
	}
}
