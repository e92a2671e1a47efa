package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/config"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

// agentEnv makes the test binary an agent: it is configured by the environment,
// like the real one.
const agentEnv = "AGENT_TEST_PROCESS"

const nodeAddr = "192.0.2.1"

func TestMain(m *testing.M) {
	if os.Getenv(agentEnv) != "" {
		if err := runAgent(); err != nil {
			fmt.Fprintln(os.Stderr, "placid-agent:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(testutil.Main(m))
}

func runAgent() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	loaded, err := config.Load(config.Sources{Env: os.Environ()})
	if err != nil {
		return err
	}
	if os.Getenv(agentEnv) == "cleanup" {
		return Cleanup(loaded.Config)
	}
	a, err := New(loaded, "v0.0.0-test", slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// testAgent is an agent's process in a namespace of its own.
type testAgent struct {
	*testutil.Netns
	api    *apiServer
	client *agentapi.Client
	conf   string // path of the CNI configuration
	dir    string
	env    []string
	cmd    *exec.Cmd
	log    *logBuffer
}

// logBuffer collects what an agent logs.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newTestAgent(t *testing.T) *testAgent {
	t.Helper()
	testutil.RequireRoot(t)
	a := &testAgent{Netns: testutil.NewNetns(t, "agent"), dir: t.TempDir(), log: &logBuffer{}}
	must(t, os.Chmod(a.dir, 0o755))
	h := a.Handle(t)
	must(t, h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0", MTU: 1500}, PeerName: "wire"}))
	for _, name := range []string{"eth0", "wire"} {
		a.MustRun(t, "ip", "link", "set", name, "up")
	}
	a.MustRun(t, "ip", "addr", "add", nodeAddr+"/24", "dev", "eth0")
	a.MustRun(t, "ip", "route", "add", "default", "via", "192.0.2.9")
	a.api = serveAPI(t, a.Netns)
	kubeconfig := filepath.Join(a.dir, "kubeconfig")
	must(t, os.WriteFile(kubeconfig, []byte("apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: a}}]\n"+
		"clusters: [{name: a, cluster: {server: '"+a.api.url+"'}}]\n"), 0o600))
	socket := filepath.Join(a.dir, "agent.sock")
	a.conf = filepath.Join(a.dir, "net.d", "05-placid.conflist")
	a.client = agentapi.NewClient(socket)
	a.env = append(os.Environ(), agentEnv+"=run", "PLACID_NODE_NAME="+testNode, "PLACID_K8S_KUBECONFIG_PATH="+kubeconfig,
		"PLACID_BPF_ROOT="+testutil.BPFFS(t), "PLACID_SOCKET_PATH="+socket, "PLACID_STATE_DIR="+filepath.Join(a.dir, "state"),
		"PLACID_WRITE_CNI_CONF_WHEN_READY="+a.conf, "PLACID_CNI_BIN_DIR=", "PLACID_RECONCILE_INTERVAL=1s", "PLACID_IPAM_ADDRESS_REUSE_DELAY=0s")
	t.Cleanup(func() {
		a.kill()
		if t.Failed() {
			t.Logf("the agent said:\n%s", a.log)
		}
	})
	return a
}

func (a *testAgent) start(t *testing.T, env ...string) {
	t.Helper()
	a.cmd = exec.Command("/proc/self/exe")
	a.cmd.Env = append(append([]string{}, a.env...), env...)
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	a.Start(t, a.cmd)
}

func (a *testAgent) kill() {
	if a.cmd != nil && a.cmd.Process != nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
		a.cmd = nil
	}
}

func (a *testAgent) waitReady(t *testing.T) {
	t.Helper()
	waitFor(t, "the agent to be ready", func() bool {
		s, err := a.client.Status(t.Context())
		return err == nil && s.Ready && exists(a.conf)
	})
}

// get asks one of the agent's ports in its namespace.
func (a *testAgent) get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	var conn net.Conn
	hostPort, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	a.Do(t, func() {
		var err error
		conn, err = net.Dial("tcp", hostPort)
		must(t, err)
	})
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	resp, err := (&http.Client{Transport: transport}).Get(url)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(b)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

const (
	healthURL  = "http://127.0.0.1:9879"
	metricsURL = "http://127.0.0.1:9962/metrics"
)

// TestAgent follows one agent from a bare node through a full pool and a
// SIGKILL to its removal.
func TestAgent(t *testing.T) {
	a := newTestAgent(t)
	a.api.set() // no pod CIDR yet
	a.start(t)
	waitFor(t, "the socket", func() bool { _, err := a.client.Status(t.Context()); return err == nil })

	t.Run("not ready without a pod CIDR", func(t *testing.T) {
		waitFor(t, "the programs to be attached", func() bool { return strings.Contains(a.log.String(), "programs attached") })
		if exists(a.conf) {
			t.Error("the CNI configuration is there before pods can be served")
		}
		checkCode(t, a.client.CNIStatus(t.Context()), agentapi.CodeNotReady)
		_, err := a.client.Add(t.Context(), agentRequest(t, 0))
		checkCode(t, err, agentapi.CodeNotReady)
		if status, body := a.get(t, healthURL+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "no pod CIDR") {
			t.Errorf("readyz says %d %q", status, body)
		}
		if status, body := a.get(t, healthURL+"/healthz"); status != http.StatusOK {
			t.Errorf("healthz says %d %q", status, body)
		}
	})

	a.api.set("10.1.1.0/30") // two addresses
	a.waitReady(t)
	t.Run("ready", func(t *testing.T) {
		must(t, a.client.CNIStatus(t.Context()))
		if status, body := a.get(t, healthURL+"/readyz"); status != http.StatusOK {
			t.Errorf("readyz says %d %q", status, body)
		}
		s, err := a.client.Status(t.Context())
		must(t, err)
		if s.CNIConf != a.conf || s.Node != testNode || s.PodMTU != 1500 || len(s.IPAM) != 1 || s.IPAM[0].Capacity != 2 {
			t.Errorf("status %+v", s)
		}
		for _, c := range s.Conditions {
			if !c.OK {
				t.Errorf("condition %+v", c)
			}
		}
		waitFor(t, "the status to be published", func() bool { _, p := a.api.seen(); return len(p) > 0 })
		if _, p := a.api.seen(); !strings.Contains(p[0], `"mtu":1500`) || !strings.Contains(p[0], `"routingMode":"native"`) {
			t.Errorf("published status %s", p[0])
		}
	})

	first, second := a.mustAdd(t, 1), a.mustAdd(t, 2)
	t.Run("full pool", func(t *testing.T) {
		_, err := a.client.Add(t.Context(), agentRequest(t, 3))
		checkCode(t, err, agentapi.CodeExhausted)
		if !strings.Contains(err.Error(), "10.1.1.0/30") {
			t.Errorf("the error does not name the pool: %v", err)
		}
		waitFor(t, "the pod's event", func() bool { e, _ := a.api.seen(); return len(e) > 0 })
		if e, _ := a.api.seen(); !strings.Contains(e[0], reasonNoAddress) || !strings.Contains(e[0], "pod-3") {
			t.Errorf("event %q", e[0])
		}
	})
	a.MustRun(t, "ping", "-n", "-c", "1", "-W", "1", first.IPv4.String())
	t.Run("metrics", func(t *testing.T) { checkMetrics(t, a) })

	t.Run("killed, with a DEL left for it", func(t *testing.T) {
		a.kill()
		if !exists(a.conf) {
			t.Error("the CNI configuration went with the agent")
		}
		a.MustRun(t, "ping", "-n", "-c", "1", "-W", "1", first.IPv4.String())
		pending := agentapi.PendingDir(filepath.Join(a.dir, "state", pendingFolder))
		must(t, pending.Put(agentapi.CNIRequest{Attachment: second.Attachment}))
		must(t, pending.Put(agentapi.CNIRequest{Attachment: state.AttachmentID{ContainerID: "never-seen", IfName: "eth0"}}))
		a.start(t)
		a.waitReady(t)
		eps, err := a.client.Endpoints(t.Context())
		must(t, err)
		if len(eps) != 1 || !reflect.DeepEqual(eps[0], first) {
			t.Errorf("endpoints %+v, want the first as it was: %+v", eps, first)
		}
		left, junk, err := pending.List()
		if err != nil || len(left)+len(junk) > 0 {
			t.Errorf("pending DELs are left: %v %v %v", left, junk, err)
		}
		must(t, a.client.Check(t.Context(), agentapi.CNIRequest{Attachment: first.Attachment}))
		a.MustRun(t, "ping", "-n", "-c", "1", "-W", "1", first.IPv4.String())
		if again := a.mustAdd(t, 4); again.IPv4 != second.IPv4 {
			t.Errorf("the pod gets %s, want %s that was given back", again.IPv4, second.IPv4)
		}
	})
	t.Run("a second agent is refused", func(t *testing.T) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = a.env
		var out bytes.Buffer
		cmd.Stderr = &out
		a.Start(t, cmd)
		if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "socket-path") {
			t.Errorf("it says %v: %s", err, out.String())
		}
		must(t, a.client.CNIStatus(t.Context()))
	})
	t.Run("a port in use", func(t *testing.T) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(append([]string{}, a.env...), "PLACID_SOCKET_PATH="+filepath.Join(a.dir, "other.sock"))
		var out bytes.Buffer
		cmd.Stderr = &out
		a.Start(t, cmd)
		if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "agent-health-port") {
			t.Errorf("it says %v: %s", err, out.String())
		}
	})
	t.Run("SIGTERM", func(t *testing.T) {
		must(t, a.cmd.Process.Signal(syscall.SIGTERM))
		if err := a.cmd.Wait(); err != nil {
			t.Errorf("the agent ends with %v", err)
		}
		a.cmd = nil
		if !exists(a.conf) {
			t.Error("the CNI configuration went with the agent")
		}
		a.MustRun(t, "ping", "-n", "-c", "1", "-W", "1", first.IPv4.String())
	})
	t.Run("cleanup", func(t *testing.T) {
		for range 2 {
			a.start(t, agentEnv+"=cleanup")
			if err := a.cmd.Wait(); err != nil {
				t.Errorf("cleanup ends with %v", err)
			}
			a.cmd = nil
			if exists(a.conf) || exists(filepath.Join(a.dir, "state")) {
				t.Error("CNI configuration or state are left")
			}
			if out := a.MustRun(t, "ip", "-br", "link"); strings.Contains(out, "plc") || strings.Contains(out, "plp") {
				t.Errorf("devices are left:\n%s", out)
			}
		}
	})
}

// agentRequest asks for an interface in a new sandbox.
func agentRequest(t *testing.T, i int) agentapi.CNIRequest {
	t.Helper()
	req := request(i)
	req.Netns = testutil.NewNetns(t, "pod").Path
	return req
}

func (a *testAgent) mustAdd(t *testing.T, i int) state.Endpoint {
	t.Helper()
	res, err := a.client.Add(t.Context(), agentRequest(t, i))
	must(t, err)
	return res.Endpoint
}

// checkMetrics reads the exposition as Prometheus does.
func checkMetrics(t *testing.T, a *testAgent) {
	_, err := a.client.CTCollect(t.Context())
	must(t, err)
	_, body := a.get(t, metricsURL)
	series := parseSeries(t, body)
	for _, want := range []struct {
		name   string
		labels []string // "name=value", of one of its series; "name=" is any value
		least  float64
	}{
		{"cilium_version", []string{"version=v0.0.0-test", "revision=", "arch="}, 1},
		{"cilium_endpoint", nil, 2},
		{"cilium_forward_count_total", []string{"direction=INGRESS"}, 0},
		{"cilium_forward_count_total", []string{"direction=EGRESS"}, 1}, // the echo's answer
		{"cilium_forward_bytes_total", []string{"direction=EGRESS"}, 98},
		{"cilium_ip_addresses", []string{"family=ipv4"}, 2},
		{"cilium_ip_addresses", []string{"family=ipv6"}, 0},
		{"cilium_ipam_capacity", []string{"family=ipv4", "cidr=10.1.1.0/30"}, 2},
		{"placid_ipam_quarantined_addresses", []string{"family=ipv4"}, 0},
		{"placid_cni_duration_seconds_count", []string{"operation=ADD", "outcome=success"}, 2},
		{"placid_cni_duration_seconds_count", []string{"operation=ADD", "outcome=fail"}, 1},
		{"placid_datapath_packets_total", []string{"program=from_pod", "reason=To stack"}, 1},
		{"placid_datapath_bytes_total", []string{"program=from_pod", "reason=To stack"}, 98},
		{"placid_reconcile_desired_rows", []string{"controller=pod-routes"}, 2},
		{"placid_reconcile_failing_rows", []string{"controller=links"}, 0},
		{"placid_reconcile_repaired_total", []string{"controller=endpoints"}, 0},
		{"placid_bpf_map_entries", []string{"map_name=endpoint"}, 3},
		{"placid_bpf_map_max_entries", []string{"map_name=endpoint"}, 16384},
		{"cilium_bpf_map_pressure", []string{"map_name=endpoint"}, 3.0 / 16384},
		{"cilium_bpf_map_pressure", []string{"map_name=ct_any"}, 0},
		{"placid_bpf_map_memory_bytes", []string{"map_name=ct_tcp"}, 131072 * 208},
		{"placid_bpf_map_memory_budget_bytes", nil, 128 << 20},
		{"placid_bpf_map_insert_failures_total", []string{"map_name=ct_tcp", "cause=full"}, 0},
		{"placid_bpf_map_insert_failures_total", []string{"map_name=policy", "cause=other"}, 0},
		{"placid_bpf_map_resizes_total", []string{"map_name=ct_tcp", "result=success"}, 0},
		{"placid_bpf_map_resizes_total", []string{"map_name=ct_tcp", "result=failed"}, 0},
		{"placid_bpf_map_autosize_at_budget", []string{"map_name=ct_tcp"}, 0},
		{"cilium_policy", nil, 0},
		{"cilium_identity", []string{"type=cluster_local"}, 0},
		{"cilium_identity", []string{"type=reserved"}, 8},
		{"cilium_policy_endpoint_enforcement_status", []string{"enforcement=none"}, 2},
		{"cilium_policy_endpoint_enforcement_status", []string{"enforcement=ingress"}, 0},
		{"cilium_policy_implementation_delay_count", []string{"source=k8s"}, 0},
		{"placid_policy_sets", nil, 0},
		{"placid_policy_refused_sets", nil, 0},
		{"placid_policy_staged", nil, 0},
		{"placid_endpoints_without_identity", nil, 2},
		{"placid_identity_propagation_seconds_count", nil, 0},
		{"placid_endpoint_identity_seconds_count", nil, 0},
		{"cilium_datapath_conntrack_gc_interval_seconds", []string{"global=global"}, 1},
		{"cilium_datapath_conntrack_gc_entries", []string{"family=ipv4", "protocol=TCP", "status=alive"}, 0},
		{"cilium_datapath_conntrack_gc_runs_total", []string{"family=ipv6", "protocol=non-TCP", "status=completed"}, 1},
		{"cilium_datapath_conntrack_gc_duration_seconds_count", []string{"family=ipv4", "protocol=TCP", "status=completed"}, 1},
		{"cilium_datapath_conntrack_gc_key_fallbacks_total", []string{"family=ipv4", "protocol=TCP"}, 0},
		{"cilium_datapath_conntrack_dump_resets_total", []string{"area=conntrack", "name=dump_interrupts", "family=ipv4"}, 0},
		{"cilium_services_events_total", []string{"action=add"}, 0},
		{"cilium_services_events_total", []string{"action=delete"}, 0},
		{"cilium_service_implementation_delay_count", []string{"action=service-updated"}, 0},
		{"cilium_service_implementation_delay_count", []string{"action=service-deleted"}, 0},
		{"placid_services", nil, 0},
		{"placid_services_host_port_pods", nil, 0},
		{"placid_services_ports", nil, 0},
		{"placid_services_frontends", nil, 0},
		{"placid_services_backends", nil, 0},
		{"placid_services_refused_ports", nil, 0},
		{"placid_services_problems", nil, 0},
		{"placid_services_failing", nil, 0},
		{"placid_services_repaired_total", nil, 0},
		{"placid_services_table_entries", []string{"table=frontend"}, 0},
		{"placid_services_table_max_entries", []string{"table=backend"}, 65536},
		{"go_goroutines", nil, 1},
		{"process_resident_memory_bytes", nil, 1},
	} {
		got, ok := valueOf(series, want.name, want.labels)
		if !ok || got < want.least {
			t.Errorf("%s%v is %v (present: %t), want at least %v", want.name, want.labels, got, ok, want.least)
		}
	}
}

// series is one line of the text format: a name, its labels, a value.
type series struct {
	name   string
	labels map[string]string
	value  float64
}

// parseSeries reads the text format, and wants a help line for every family.
func parseSeries(t *testing.T, body string) []series {
	t.Helper()
	line := regexp.MustCompile(`^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$`)
	label := regexp.MustCompile(`([a-z_0-9]+)="([^"]*)"`)
	help := map[string]bool{}
	var out []series
	for text := range strings.Lines(body) {
		text = strings.TrimSuffix(text, "\n")
		if rest, ok := strings.CutPrefix(text, "# HELP "); ok {
			name, words, _ := strings.Cut(rest, " ")
			help[name] = words != ""
		}
		if strings.HasPrefix(text, "#") {
			continue
		}
		m := line.FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("not a line of the text format: %q", text)
		}
		value, err := strconv.ParseFloat(m[3], 64)
		must(t, err)
		s := series{name: m[1], labels: map[string]string{}, value: value}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			s.labels[l[1]] = l[2]
		}
		family := s.name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(s.name, suffix); ok && help[base] {
				family = base
			}
		}
		if !help[family] {
			t.Errorf("%s has no help", family)
		}
		out = append(out, s)
	}
	return out
}

func valueOf(all []series, name string, labels []string) (value float64, ok bool) {
	for _, s := range all {
		match := s.name == name && len(s.labels) == len(labels)
		for _, l := range labels {
			label, want, _ := strings.Cut(l, "=")
			got, has := s.labels[label]
			match = match && has && (want == "" || got == want)
		}
		if match {
			return s.value, true
		}
	}
	return 0, false
}
