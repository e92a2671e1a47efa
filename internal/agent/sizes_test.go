package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/placid-net/placid/internal/agent/sizes"
	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/config"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/resize"
	"github.com/placid-net/placid/internal/sizing"
)

func configured(t *testing.T, keys ...string) config.Config {
	t.Helper()
	dir := t.TempDir()
	for _, k := range keys {
		name, value, _ := strings.Cut(k, "=")
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600))
	}
	loaded, err := config.Load(config.Sources{Dir: dir})
	must(t, err)
	return loaded.Config
}

// TestPlanSizes checks what the keys of sizes come to on a machine.
func TestPlanSizes(t *testing.T) {
	const memory = 16 << 30
	all := strings.Fields("ct_tcp_map ct_any_map ct_new_map sock_map frontend_map backend_map maglev_map affinity_map source_range_map " +
		"policy_map port_map identity_map ipcache_map cidr_map endpoint_map native_map fragment_map")
	standard := datapath.TableSizes{
		TCP: 151765, Any: 75882, Embryonic: 65536, Policy: 1048576, Service: 65536, Backend: 65536, Maglev: 65536, Affinity: 65536, SourceRange: 65536, Sock: 75882,
	}
	with := func(change func(*datapath.TableSizes)) datapath.TableSizes {
		out := standard
		change(&out)
		return out
	}
	for _, tt := range []struct {
		keys   string
		want   datapath.TableSizes
		fixed  []string
		budget uint64
	}{
		{"", standard, nil, 256 << 20},
		{"bpf-policy-map-max=16384", standard, nil, 256 << 20}, // Cilium's default, of one endpoint
		{"bpf-map-memory-budget=1GiB", standard, nil, 1 << 30},
		{"bpf-map-autosize=false bpf-map-memory-budget=1", standard, all, 1},
		{"bpf-map-dynamic-size-ratio=0", with(func(s *datapath.TableSizes) { s.TCP, s.Any, s.Sock = 524288, 262144, 262144 }), nil, 501 << 20},
		{
			"bpf-ct-global-tcp-max=1024 bpf-policy-map-max=20000",
			with(func(s *datapath.TableSizes) { s.TCP, s.Policy = 1024, 20000 }),
			strings.Fields("ct_tcp_map policy_map"), 256 << 20,
		},
		{
			"bpf-lb-map-max=1000 bpf-lb-service-backend-map-max=5000",
			with(func(s *datapath.TableSizes) {
				s.Service, s.Backend, s.Maglev, s.Affinity, s.SourceRange = 1000, 5000, 1000, 1000, 1000
			}),
			strings.Fields("frontend_map backend_map maglev_map affinity_map source_range_map"), 256 << 20,
		},
		{
			"bpf-ct-embryonic-max=2048 bpf-sock-rev-map-max=4096 bpf-ct-global-any-max=8192",
			with(func(s *datapath.TableSizes) { s.Embryonic, s.Sock, s.Any = 2048, 4096, 8192 }),
			strings.Fields("ct_any_map ct_new_map sock_map"), 256 << 20,
		},
	} {
		s, err := planSizes(configured(t, strings.Fields(tt.keys)...), memory)
		must(t, err)
		if diff := cmp.Diff(tt.want, tableEntries(s)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.keys, diff)
		}
		if !slices.Equal(s.Fixed(), tt.fixed) || s.Budget>>20 != tt.budget>>20 {
			t.Errorf("%q: fixed %v, budget %d MiB", tt.keys, s.Fixed(), s.Budget>>20)
		}
	}
}

// TestPlanSizesThatContradict: an error says what would be accepted.
func TestPlanSizesThatContradict(t *testing.T) {
	for _, tt := range []struct {
		keys   string
		memory uint64
		err    error
		want   string
	}{
		{"bpf-nat-global-max=300000", 16 << 30, sizing.ErrSize, "bpf-nat-global-max = 300000: want at most 227647, which is bpf-ct-global-tcp-max + bpf-ct-global-any-max"},
		{"bpf-map-memory-budget=64MiB", 16 << 30, errSmallBudget, "set at least that"},
		{"", 0, sizing.ErrSize, "the memory is unknown; set bpf-map-dynamic-size-ratio=0"},
	} {
		if _, err := planSizes(configured(t, strings.Fields(tt.keys)...), tt.memory); !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.keys, err, tt.want)
		}
	}
}

// TestTotalMemory: the machine has some, and the plan for it works.
func TestTotalMemory(t *testing.T) {
	memory, err := totalMemory()
	must(t, err)
	if memory < 64<<20 {
		t.Errorf("the machine has %d bytes", memory)
	}
	_, err = tableSizes(configured(t))
	must(t, err)
}

func TestResizeErrors(t *testing.T) {
	for err, code := range map[error]string{
		resize.ErrUnknown: agentapi.CodeNotFound, resize.ErrSize: agentapi.CodeInvalid, resize.ErrEntries: agentapi.CodeTooSmall,
		resize.ErrMemory: agentapi.CodeNoMemory, resize.ErrBusy: agentapi.CodeBusy,
	} {
		got := resizeError(fmt.Errorf("resize ct_tcp_map: %w: so and so", err))
		checkCode(t, got, code)
		if !strings.Contains(got.Error(), "so and so") {
			t.Errorf("%v lost its words", got)
		}
	}
	if plain := net.ErrClosed; resizeError(plain) != plain || resizeError(nil) != nil { //nolint:errorlint // it must be the very same
		t.Error("other errors are changed")
	}
}

// tableSeries are the series of two tables, by name and labels.
func tableSeries(t agentapi.Tables, tally sizes.Tally) map[string]float64 {
	out := map[string]float64{}
	name := regexp.MustCompile(`fqName: "(.+?)"`)
	emit := func(d *prometheus.Desc, v float64, labels ...string) {
		out[strings.Join(append([]string{name.FindStringSubmatch(d.String())[1]}, labels...), " ")] = v
	}
	collectTables(t, tally, emit, emit)
	return out
}

func TestTableMetrics(t *testing.T) {
	got := tableSeries(agentapi.Tables{Budget: 1 << 28, Tables: []agentapi.TableInfo{
		{
			Name: "ct_tcp", Pressure: 0.25, Memory: 4096, Peak: 7, Waiting: 3, Fixed: true, Limit: agentapi.LimitBudget,
			Inserts: agentapi.TableInserts{Inserted: 10, Full: 1, Busy: 2, Other: 3},
		},
		{Name: "policy", Limit: agentapi.LimitMaximum},
	}}, sizes.Tally{"ct_tcp": {Success: 5, Waiting: 4, Failed: 3, Refused: 2, Entries: 1}})
	want := map[string]float64{
		"placid_bpf_map_memory_budget_bytes": 1 << 28,
		"cilium_bpf_map_pressure ct_tcp":     0.25, "cilium_bpf_map_pressure policy": 0,
		"placid_bpf_map_memory_bytes ct_tcp": 4096, "placid_bpf_map_memory_bytes policy": 0,
		"placid_bpf_map_peak_entries ct_tcp": 7, "placid_bpf_map_peak_entries policy": 0,
		"placid_bpf_map_waiting_entries ct_tcp": 3, "placid_bpf_map_waiting_entries policy": 0,
		"placid_bpf_map_fixed ct_tcp": 1, "placid_bpf_map_fixed policy": 0,
		"placid_bpf_map_autosize_at_budget ct_tcp": 1, "placid_bpf_map_autosize_at_budget policy": 0,
		"placid_bpf_map_inserts_total ct_tcp": 10, "placid_bpf_map_inserts_total policy": 0,
		"placid_bpf_map_insert_failures_total ct_tcp full": 1, "placid_bpf_map_insert_failures_total ct_tcp busy": 2, "placid_bpf_map_insert_failures_total ct_tcp other": 3,
		"placid_bpf_map_insert_failures_total policy full": 0, "placid_bpf_map_insert_failures_total policy busy": 0, "placid_bpf_map_insert_failures_total policy other": 0,
		"placid_bpf_map_resizes_total ct_tcp success": 5, "placid_bpf_map_resizes_total ct_tcp waiting": 4,
		"placid_bpf_map_resizes_total ct_tcp failed": 3, "placid_bpf_map_resizes_total ct_tcp refused": 2,
		"placid_bpf_map_resizes_total policy success": 0, "placid_bpf_map_resizes_total policy waiting": 0,
		"placid_bpf_map_resizes_total policy failed": 0, "placid_bpf_map_resizes_total policy refused": 0,
		"placid_bpf_map_resize_entries_total ct_tcp": 1, "placid_bpf_map_resize_entries_total policy": 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

// TestAlertsNameSeries checks that the alerts speak of series that there are.
func TestAlertsNameSeries(t *testing.T) {
	rules, err := os.ReadFile("../../deploy/alerts/placid.rules.yaml")
	must(t, err)
	have := map[string]bool{"placid_bpf_map_entries": true, "placid_bpf_map_max_entries": true} // of all maps: see collectMaps
	for series := range tableSeries(agentapi.Tables{Tables: []agentapi.TableInfo{{Name: "x"}}}, nil) {
		name, _, _ := strings.Cut(series, " ")
		have[name] = true
	}
	names := regexp.MustCompile(`(?:cilium|placid)_bpf_map_[a-z_]+`).FindAllString(string(rules), -1)
	if len(names) == 0 {
		t.Fatal("the alerts name no series")
	}
	for _, name := range names {
		if !have[name] {
			t.Errorf("no series %s", name)
		}
	}
}

// TestAgentTables resizes tables of a running agent by hand and by configuration,
// with what people and Prometheus see of it.
func TestAgentTables(t *testing.T) {
	a := newTestAgent(t)
	a.api.set("10.1.1.0/24")
	a.start(t, "PLACID_BPF_MAP_AUTOSIZE=false", "PLACID_BPF_CT_GLOBAL_ANY_MAX=30000")
	a.waitReady(t)
	info := func(name string) agentapi.TableInfo {
		t.Helper()
		tables, err := a.client.Tables(t.Context())
		must(t, err)
		i := slices.IndexFunc(tables.Tables, func(i agentapi.TableInfo) bool { return i.Name == name })
		if i < 0 {
			t.Fatalf("no table %s in %+v", name, tables)
		}
		return tables.Tables[i]
	}
	before := info("ct_tcp")
	if n := info("ct_any"); n.Size != 30000 || !n.Fixed || before.Size < 131072 || before.Memory < 208*before.Size {
		t.Fatalf("tables %+v, %+v", before, n)
	}
	for _, name := range []string{"ct_tcp", "ct_new_map", "backend", "ipcache", "sock", "policy"} {
		move, err := a.client.ResizeTable(t.Context(), agentapi.ResizeRequest{Name: name, Entries: 40000})
		must(t, err)
		if got := info(strings.TrimSuffix(name, "_map")); got.Size != 40000 || got.Old != 0 || move.State != agentapi.MoveDone || move.To != 40000 || got.Move == nil || got.Move.Why != "asked for" {
			t.Errorf("%s: %+v after %+v", name, got, move)
		}
	}
	for name, tt := range map[string]struct {
		entries uint32
		code    string
	}{
		"nat": {1024, agentapi.CodeNotFound}, "ct_any": {3, agentapi.CodeInvalid}, "endpoint": {1 << 25, agentapi.CodeInvalid},
	} {
		_, err := a.client.ResizeTable(t.Context(), agentapi.ResizeRequest{Name: name, Entries: tt.entries})
		checkCode(t, err, tt.code)
	}
	status, err := a.client.Status(t.Context())
	must(t, err)
	if status.Tables == nil || len(status.Tables.Tables) < 16 || status.Tables.Autosize {
		t.Errorf("status has %+v", status.Tables)
	}
	_, body := a.get(t, metricsURL)
	series := parseSeries(t, body)
	for name, want := range map[string]float64{"placid_bpf_map_max_entries": 40000, "placid_bpf_map_fixed": 1, "cilium_bpf_map_pressure": 0, "placid_bpf_map_insert_failures_total": 0} {
		if got, ok := valueOf(series, name, []string{"map_name=ct_new"}); !ok && !strings.Contains(name, "failures") || ok && got < want {
			t.Errorf("%s is %v (present: %t)", name, got, ok)
		}
	}
	if got, ok := valueOf(series, "placid_bpf_map_resizes_total", []string{"map_name=ct_tcp", "result=success"}); !ok || got != 1 {
		t.Errorf("%v resizes (present: %t)", got, ok)
	}
	a.kill()
	dir := filepath.Join(a.dir, "config")
	must(t, os.Mkdir(dir, 0o755))
	key := filepath.Join(dir, "bpf-ct-global-tcp-max")
	must(t, os.WriteFile(key, []byte("50000"), 0o600))
	a.start(t, "PLACID_CONFIG_DIR="+dir)
	a.waitReady(t)
	waitFor(t, "the configured size", func() bool { return info("ct_tcp").Size == 50000 })
	if n := info("ct_any"); n.Size != 30000 || n.Fixed {
		t.Errorf("what is tuned has %+v after a restart, want it as it was", n)
	}
	must(t, os.WriteFile(key, []byte("60000"), 0o600))
	waitFor(t, "the changed size", func() bool { return info("ct_tcp").Size == 60000 })
	waitFor(t, "the event", func() bool {
		events, _ := a.api.seen()
		return slices.ContainsFunc(events, func(e string) bool {
			return strings.Contains(e, "TableGrown") && strings.Contains(e, "tables{ct_tcp}") && strings.Contains(e, "50000 → 60000, as it is configured")
		})
	})
}
