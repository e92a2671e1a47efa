package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
)

// refusing is an agent that refuses every resize.
func refusing(code, message string) *fakeAgent {
	f := healthyAgent()
	f.refusal = &agentapi.Error{Code: code, Message: message}
	return f
}

// withTables adds maps of tables to those of the agent.
func withTables(f *fakeAgent) *fakeAgent {
	for i, name := range []string{"ct_tcp", "ct_any", "policy"} {
		f.dumps = append(f.dumps, agentapi.MapDump{Info: agentapi.MapInfo{Name: name, Type: "Hash", ID: uint32(50 + i), MaxEntries: 7, Entries: 6, KeySize: 40, ValueSize: 120}})
	}
	f.TablesResult.Tables[9].Old, f.TablesResult.Tables[9].Move = 16384, nil
	return f
}

// resizingTo is an agent that answers a resize so.
func resizingTo(move agentapi.TableMove) *fakeAgent {
	f := healthyAgent()
	f.ResizeResult = move
	return f
}

func TestTablesGolden(t *testing.T) {
	sizeless := healthyAgent()
	sizeless.status.Tables = nil
	fixed := healthyAgent()
	fixed.TablesResult.Ratio, fixed.TablesResult.Autosize = 0, false
	golden(t, []goldenCase{
		{"map-list", withTables(healthyAgent()), "bpf map list", ExitOK},
		{"map-list-sick", withTables(sickAgent()), "bpf map list", ExitOK},
		{"map-list-json", healthyAgent(), "bpf map list -o json", ExitOK},
		{"map-list-none-json", &fakeAgent{}, "bpf map list -o json", ExitOK},
		{"map-nosub", healthyAgent(), "bpf map", ExitUsage},
		{"map-resize", healthyAgent(), "bpf map resize ct_tcp 262144", ExitOK},
		{"map-resize-json", healthyAgent(), "bpf map resize ct_tcp 262,144 --why Monday -o json", ExitOK},
		{"map-resize-same", resizingTo(agentapi.TableMove{Name: "ct_tcp", From: 131072, To: 131072}), "bpf map resize ct_tcp 131072", ExitOK},
		{"map-resize-waiting", resizingTo(agentapi.TableMove{
			Name: "ct_tcp", From: 131072, To: 1024, State: agentapi.MoveWaiting, Took: time.Second, Total: 1000, Passed: 1030, Moved: 1024, Left: 6, Rate: 1030, Memory: 1 << 18,
			Problem: "conntrack table tcp: 6 entries left",
		}), "bpf map resize ct_tcp 1024", ExitOK},
		{"map-resize-unknown", refusing(agentapi.CodeNotFound, "resize nat: no table that can be resized: there are [affinity_map]"), "bpf map resize nat 1024", ExitFailed},
		{"map-resize-small", refusing(agentapi.CodeTooSmall, "resize ct_tcp_map from 131072 to 1024 entries: too small for its entries: it has 13107: the least size is 14745"), "bpf map resize ct_tcp 1024", ExitFailed},
		{"map-resize-memory", refusing(agentapi.CodeNoMemory, "resize ct_tcp_map from 131072 to 16777216 entries: not enough memory: the new table needs 3584 MiB beside the old one, and 900 MiB are available"), "bpf map resize ct_tcp 16777216", ExitFailed},
		{"map-resize-busy", refusing(agentapi.CodeBusy, "resize ct_tcp: a table moves already"), "bpf map resize ct_tcp 1024", ExitFailed},
		{"map-resize-impossible", refusing(agentapi.CodeInvalid, "resize ct_tcp_map from 131072 to 3 entries: impossible size: allowed are 16 to 16777216 entries"), "bpf map resize ct_tcp 3", ExitFailed},
		{"map-resize-noarg", healthyAgent(), "bpf map resize ct_tcp", ExitUsage},
		{"map-resize-badsize", healthyAgent(), "bpf map resize ct_tcp 256Ki", ExitUsage},
		{"map-resize-zero", healthyAgent(), "bpf map resize ct_tcp 0", ExitUsage},
		{"map-resize-unreachable", unreachableAgent(), "bpf map resize ct_tcp 1024", ExitUnreachable},
		{"status-tables-old-agent", sizeless, "status --verbose", ExitOK},
		{"status-tables-fixed", fixed, "status --verbose", ExitOK},
	})
}

// TestMapsHeading holds the line that operators grep for.
func TestMapsHeading(t *testing.T) {
	r := placid(t, healthyAgent(), "", "status", "--verbose")
	for _, line := range []string{"BPF Maps:   dynamic sizing: on (ratio: 0.002500)\n", "\n  Name                             Size   Occupancy     Peak   Headroom\n", "\n  TCP connection tracking        131072       10.0%    16384     117965\n"} {
		if !strings.Contains(r.stdout, line) {
			t.Errorf("no %q in:\n%s", line, r.stdout)
		}
	}
}

// TestProgress shows how far a move has come on a terminal, and nothing elsewhere.
func TestProgress(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := healthyAgent()
			f.takes = 450 * time.Millisecond
			var stdout, stderr bytes.Buffer
			code := Run(t.Context(), Env{
				Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, terminal: terminal,
				Getenv: func(string) string { return "" }, Now: func() time.Time { return testNow }, dial: func(string) agent { return f },
			}, strings.Fields("bpf map resize ct_tcp_map 262144 --timeout 100ms"))
			line := "\r\x1b[Kct_tcp: 131072 → 262144: 45000 of 90000 entries moved, 1,234,567/s, 36ms left"
			want := ""
			if terminal {
				want = line + line + "\r\x1b[K"
			}
			if code != ExitOK || stderr.String() != want {
				t.Errorf("terminal %t: exit %d, %q, want %q", terminal, code, stderr.String(), want)
			}
			if got := stdout.String(); got != "ct_tcp: 131072 → 262144: done in 84ms: 89988 entries moved, 12 had expired (1,071,428/s), 58 MiB\n" {
				t.Errorf("result %q", got)
			}
		})
	}
}

func TestProgressText(t *testing.T) {
	for want, m := range map[string]agentapi.TableMove{
		"x: 16 → 32: making the new table":                                   {Name: "x", From: 16, To: 32, Total: 9},
		"x: 16 → 32: 3 of 9 entries moved, 1,500/s, 4ms left":                {Name: "x", From: 16, To: 32, Total: 9, Passed: 3, Rate: 1500, Remaining: 4 * time.Millisecond},
		"x: 0 → 32: 3 of 3 entries moved, 1,500/s":                           {Name: "x", To: 32, Passed: 3, Rate: 1500}, // an earlier agent began
		"x: 16 → 1000000: 2000000 of 2000000 entries moved, 1,500,000,000/s": {Name: "x", From: 16, To: 1000000, Total: 1999999, Passed: 2000000, Rate: 1.5e9},
	} {
		if got := progressText(m); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestResizeBrokenOff says that the agent goes on.
func TestResizeBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := healthyAgent()
		f.takes = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var stdout, stderr bytes.Buffer
		code := Run(ctx, Env{
			Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
			Getenv: func(string) string { return "" }, Now: func() time.Time { return testNow }, dial: func(string) agent { return f },
		}, strings.Fields("bpf map resize ct_tcp 262144"))
		if code != ExitFailed || !strings.Contains(stderr.String(), "the agent goes on") || stdout.Len() > 0 {
			t.Errorf("exit %d, %q, %q", code, stdout.String(), stderr.String())
		}
	})
}

// TestIsTerminal: a file and a buffer are none.
func TestIsTerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	device, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if isTerminal(file) || isTerminal(new(bytes.Buffer)) || !isTerminal(device) {
		t.Error("a terminal is taken for none, or the other way round")
	}
}
