package browser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/cli"
	"github.com/placid-net/placid/internal/planner/report"
)

const (
	shots = "../../bin/browser"
	// patience is how long one run of the browser may take on a busy machine.
	patience = 2 * time.Minute
)

// browser finds chromium.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no chromium in PATH: reports are looked at in a real browser; install it (Debian: apt-get install chromium)")
	return ""
}

// run opens a file in a browser with a profile of its own, and gives what it prints
// and what it logs.
func run(t *testing.T, file string, args ...string) (out, log string) {
	t.Helper()
	args = append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--enable-logging=stderr", "--user-data-dir=" + t.TempDir(), "--virtual-time-budget=5000",
	}, append(args, "file://"+file)...)
	cmd := exec.CommandContext(t.Context(), browser(t), args...)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Run(); err != nil {
		t.Fatalf("run the browser: %v\n%s", err, stderr.String())
	}
	return stdout.String(), stderr.String()
}

// measured is what a page is like in a window.
type measured struct {
	Width    int      // of the window
	Content  int      // as far as anything reaches
	Beyond   []string // elements that reach beyond the window
	Bars     int
	Flat     int // bars without a size
	Sections int
	Hidden   int // sections without a height
	Small    int // texts below 11 pixels
}

// probe measures the page in the frame.
const probe = `
const frame = document.querySelector('iframe');
frame.onload = () => {
  const d = frame.contentDocument, w = frame.contentWindow.innerWidth, size = e => e.getBoundingClientRect();
  const scrolls = e => e.closest('pre') !== null || e.closest('.sr') !== null;
  const all = [...d.body.querySelectorAll('*')];
  const bars = [...d.querySelectorAll('.bar svg, .mini')], flat = e => size(e).width < 20 || size(e).height < 3;
  const now = [...d.querySelectorAll('rect.now')].filter(e => e.getAttribute('width') !== '0');
  const sections = [...d.querySelectorAll('section')];
  document.getElementById('out').textContent = JSON.stringify({
    Width: w, Content: d.documentElement.scrollWidth,
    Beyond: all.filter(e => size(e).right > w + 1 && !scrolls(e)).slice(0, 5).map(e => e.tagName + '.' + e.getAttribute('class') + ' ' + e.textContent.slice(0, 40)),
    Bars: bars.length, Flat: bars.filter(flat).length + now.filter(e => size(e).width <= 0 || size(e).height <= 0).length,
    Sections: sections.length, Hidden: sections.filter(e => size(e).height < 10).length,
    Small: all.filter(e => e.children.length === 0 && e.textContent.trim() && parseFloat(frame.contentWindow.getComputedStyle(e).fontSize) < 11).length,
  });
};
frame.srcdoc = document.getElementById('page').content.textContent;`

// measure shows a page in a window of that width. The page is put into a frame, which
// may be narrower than the least window of the browser.
func measure(t *testing.T, page []byte, width int) measured {
	t.Helper()
	file := filepath.Join(t.TempDir(), "probe.html")
	text := fmt.Sprintf(`<!DOCTYPE html><meta charset="utf-8"><iframe style="width:%dpx;height:900px;border:0"></iframe>
<template id="page">%s</template><pre id="out"></pre><script>%s</script>`, width, html.EscapeString(string(page)), probe)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	dom, log := run(t, file, "--dump-dom", "--window-size=1400,1000")
	noErrors(t, log)
	found := regexp.MustCompile(`(?s)<pre id="out">(.*?)</pre>`).FindStringSubmatch(dom)
	var m measured
	if found == nil || json.Unmarshal([]byte(html.UnescapeString(found[1])), &m) != nil {
		t.Fatalf("the page was not measured:\n%.2000s\n%s", dom, log)
	}
	return m
}

// noErrors looks for what the page logged.
func noErrors(t *testing.T, log string) {
	t.Helper()
	for line := range strings.Lines(log) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("the browser's console says: %s", line)
		}
	}
}

// screenshot leaves a picture of a page.
func screenshot(t *testing.T, page []byte, name string, width, height int, args ...string) {
	t.Helper()
	dir, err := filepath.Abs(shots)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name+".html")
	if err := os.WriteFile(file, page, 0o644); err != nil {
		t.Fatal(err)
	}
	picture := filepath.Join(dir, name+".png")
	_ = os.Remove(picture)
	_, log := run(t, file, append(args, fmt.Sprintf("--window-size=%d,%d", width, height), "--screenshot="+picture)...)
	noErrors(t, log)
	if info, err := os.Stat(picture); err != nil || info.Size() < 10_000 {
		t.Errorf("the screenshot %s is not one: %v", picture, err)
	}
}

// check looks at one page from all sides.
func check(t *testing.T, page []byte, name string) {
	t.Helper()
	for _, width := range []int{1280, 390} {
		m := measure(t, page, width)
		if m.Width != width {
			t.Fatalf("the window is %d wide, want %d", m.Width, width)
		}
		if m.Content > width || len(m.Beyond) > 0 {
			t.Errorf("at %d pixels the page is %d wide: %q", width, m.Content, m.Beyond)
		}
		if m.Bars == 0 || m.Flat > 0 {
			t.Errorf("at %d pixels %d of %d bars have no size", width, m.Flat, m.Bars)
		}
		if m.Sections < 3 || m.Hidden > 0 {
			t.Errorf("at %d pixels %d of %d sections are not to be seen", width, m.Hidden, m.Sections)
		}
		if m.Small > 0 {
			t.Errorf("at %d pixels %d texts are smaller than 11 pixels", width, m.Small)
		}
	}
	screenshot(t, page, name, 1280, 2600)
	screenshot(t, page, name+"-dark", 1280, 2600, "--blink-settings=preferredColorScheme=0")
}

// cluster writes the objects of a cluster as kubectl does.
func cluster(t *testing.T) string {
	t.Helper()
	var items []any
	add := func(kind, api, namespace, name string, rest map[string]any) {
		meta := map[string]any{"name": name}
		if namespace != "" {
			meta["namespace"] = namespace
		}
		maps.Copy(meta, rest["metadata"].(map[string]any))
		rest["kind"], rest["apiVersion"], rest["metadata"] = kind, api, meta
		items = append(items, rest)
	}
	const nodes = 6
	for i := range nodes {
		add("Node", "v1", "", fmt.Sprintf("node-%d", i), map[string]any{
			"metadata": map[string]any{}, "spec": map[string]any{"podCIDRs": []string{fmt.Sprintf("10.0.%d.0/24", i)}},
			"status": map[string]any{
				"addresses": []any{map[string]any{"type": "InternalIP", "address": fmt.Sprintf("192.168.0.%d", i+1)}},
				"capacity":  map[string]any{"memory": "16Gi", "cpu": "4"}, "allocatable": map[string]any{"pods": "110"},
			},
		})
	}
	for n := range 14 {
		namespace := fmt.Sprintf("a-team-with-a-rather-long-name-%d", n)
		add("Namespace", "v1", "", namespace, map[string]any{"metadata": map[string]any{}})
		endpoints := []any{}
		for i := range 20 {
			at := netip.AddrFrom4([4]byte{10, 0, byte(i % nodes), byte(2 + n*4 + i/nodes)}).String()
			add("Pod", "v1", namespace, fmt.Sprintf("web-%d", i), map[string]any{
				"metadata": map[string]any{
					"labels":          map[string]any{"app": "web", "build-id": fmt.Sprint(i % 7)},
					"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u", "controller": true}},
				},
				"spec":   map[string]any{"nodeName": fmt.Sprintf("node-%d", i%nodes), "containers": []any{}},
				"status": map[string]any{"phase": "Running", "podIPs": []any{map[string]any{"ip": at}}},
			})
			endpoints = append(endpoints, map[string]any{"addresses": []string{at}, "nodeName": fmt.Sprintf("node-%d", i%nodes), "conditions": map[string]any{"ready": true}})
		}
		add("Service", "v1", namespace, "web", map[string]any{
			"metadata": map[string]any{},
			"spec": map[string]any{
				"type": "LoadBalancer", "clusterIPs": []string{fmt.Sprintf("10.96.0.%d", n+10)}, "clusterIP": fmt.Sprintf("10.96.0.%d", n+10),
				"ports": []any{map[string]any{"port": 80, "protocol": "TCP", "nodePort": 30000 + n}}, "selector": map[string]any{"app": "web"},
			},
			"status": map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": fmt.Sprintf("198.51.100.%d", n+1)}}}},
		})
		add("EndpointSlice", "discovery.k8s.io/v1", namespace, "web-x", map[string]any{
			"metadata":    map[string]any{"labels": map[string]any{"kubernetes.io/service-name": "web"}},
			"addressType": "IPv4", "ports": []any{map[string]any{"port": 8080, "protocol": "TCP", "name": ""}}, "endpoints": endpoints,
		})
		add("NetworkPolicy", "networking.k8s.io/v1", namespace, "web", map[string]any{
			"metadata": map[string]any{},
			"spec":     map[string]any{"podSelector": map[string]any{}, "policyTypes": []string{"Ingress"}, "ingress": []any{map[string]any{"from": []any{map[string]any{"podSelector": map[string]any{}}}}}},
		})
	}
	data, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cluster.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// pageOf runs a command that writes a page.
func pageOf(t *testing.T, args ...string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.html")
	var stdout, stderr bytes.Buffer
	code := cli.Run(t.Context(), cli.Env{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" },
		Now: func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }, Version: "test",
	}, append(args, "--html", file))
	if code != cli.ExitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// TestPlanReport looks at the report of a plan.
func TestPlanReport(t *testing.T) {
	input := cluster(t)
	for _, platform := range []string{"cilium", "placid"} {
		t.Run(platform, func(t *testing.T) {
			check(t, pageOf(t, "plan", "-f", input, "--for", platform, "--grow", "pods=3x,services=+900,policies=+50%"), "plan-"+platform)
		})
	}
}

// TestWhatIfReport looks at the report of another label filter: one that changes
// verdicts, and one that does not.
func TestWhatIfReport(t *testing.T) {
	const sample = "../../examples/cluster"
	check(t, pageOf(t, "identity", "what-if", "-f", sample, "--for", "placid", "--propose"), "what-if")
	check(t, pageOf(t, "identity", "what-if", "-f", sample, "--for", "cilium", "--labels", "k8s:app$", "--force"), "what-if-changes")
}

// TestHostileReport has names that want to be more than names. What would run, logs.
func TestHostileReport(t *testing.T) {
	name := `</style></title><script>console.error("ran")</script><img src=x onerror="console.error('ran')">` + strings.Repeat("long", 60)
	bar := report.Bar{Label: name, Detail: name, Now: 10, After: 120, Limit: 100, Text: name, Mark: name}
	page, err := report.Page(report.Report{
		Title: name, Subject: name, Version: name, Verdict: report.Verdict{Tone: report.Bad, Label: name, Title: name, Text: name},
		Figures: []report.Figure{{Label: name, Now: "1", After: "2"}},
		Sections: []report.Section{
			{ID: name, Title: name, Bars: []report.Bar{bar, bar}, Cards: []report.Card{{Title: name, Detail: name, Bars: []report.Bar{bar}}}},
			{
				Title: name, Shares: []report.ShareList{{Title: name, Now: "now", After: "then", Shares: []report.Share{{Name: name, Now: 1, After: 2}}}},
				Findings: []report.Finding{{Tone: report.Warn, Title: name, Text: name}}, Pastes: []report.Paste{{Where: name, Text: name}}, Notes: []string{name},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	check(t, page, "hostile")
}
