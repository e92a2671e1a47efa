package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/agentapi/agentapitest"
	"github.com/placid-net/placid/internal/state"
)

// buildPlugin builds the real binary and returns its folder.
func buildPlugin(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-ldflags=-X main.version=v9.8.7", "-o", filepath.Join(dir, pluginType), "../../cmd/placid-cni")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return dir
}

// TestBinary starts the built plugin as a container runtime does, with the
// configuration of WriteConf, through the life of one pod.
func TestBinary(t *testing.T) {
	bin := buildPlugin(t)
	t.Run("by hand", func(t *testing.T) { byHand(t, filepath.Join(bin, pluginType)) })
	t.Run("life of a pod", func(t *testing.T) { lifeOfAPod(t, bin) })
}

func byHand(t *testing.T, path string) {
	run := func(stdin string, env ...string) (stdout, stderr string, err error) {
		cmd := exec.Command(path)
		cmd.Env = env
		cmd.Stdin = strings.NewReader(stdin)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		err = cmd.Run()
		return out.String(), errOut.String(), err
	}

	out, _, err := run("", "CNI_COMMAND=VERSION")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		CNIVersion        string   `json:"cniVersion"`
		SupportedVersions []string `json:"supportedVersions"`
	}
	if err = json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"0.4.0", "1.0.0", "1.1.0"}, v.SupportedVersions); d != "" || v.CNIVersion != "1.1.0" {
		t.Errorf("VERSION answers %s", out)
	}

	out, errOut, err := run("")
	if err != nil || out != "" || !strings.Contains(errOut, "placid-cni v9.8.7") {
		t.Errorf("started by hand: %q, %q, %v", out, errOut, err)
	}

	out, _, err = run(`{"cniVersion":"1.1.0","name":"placid","mtu":"x"}`, "CNI_COMMAND=STATUS", "CNI_PATH=/x")
	var exit *exec.ExitError
	var cniErr types.Error
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || json.Unmarshal([]byte(out), &cniErr) != nil || cniErr.Code != types.ErrDecodingFailure {
		t.Errorf("bad configuration: %q, %v, want exit code 1 and error 6", out, err)
	}
}

func lifeOfAPod(t *testing.T, bin string) {
	e := newEnv(t)
	confPath := filepath.Join(t.TempDir(), "05-placid.conflist")
	if err := WriteConf(confPath, ConfOptions{SocketPath: e.socket, PendingDir: e.pending, Exclusive: true}); err != nil {
		t.Fatal(err)
	}
	rt := &runtime{bin: filepath.Join(bin, pluginType), env: e, list: readConfList(t, confPath)}
	bandwidth := map[string]any{"bandwidth": map[string]uint64{"ingressRate": 1000, "ingressBurst": 2000}}

	// Before the agent runs.
	_, cniErr := rt.exec(t, "STATUS", nil)
	wantError(t, cniErr, types.ErrPluginNotAvailable, "placid-agent")
	_, cniErr = rt.exec(t, "ADD", map[string]any{"runtimeConfig": bandwidth})
	wantError(t, cniErr, types.ErrTryAgainLater, "placid-agent")

	svc := &agentapitest.Service{AddResult: answer()}
	stop := agentapitest.Serve(t, e.socket, svc)
	rt.must(t, "STATUS", nil)
	out := rt.must(t, "ADD", map[string]any{"runtimeConfig": bandwidth})
	res, err := types100.NewResult(out)
	if err != nil {
		t.Fatal(err)
	}
	if r := res.(*types100.Result); len(r.Interfaces) != 2 || r.Interfaces[1].Sandbox != e.netns || len(r.IPs) != 2 || *r.IPs[0].Interface != 1 || len(r.Routes) != 2 {
		t.Errorf("result %s", out)
	}
	prev := map[string]any{"prevResult": json.RawMessage(out)}
	rt.must(t, "CHECK", prev)
	rt.must(t, "GC", map[string]any{"cni.dev/valid-attachments": []types.GCAttachment{{ContainerID: "c0ffee", IfName: "eth0"}}})
	rt.must(t, "DEL", prev)
	if d := cmp.Diff([]string{"CNIStatus", "Add", "Check", "GC", "Del"}, svc.Methods()); d != "" {
		t.Fatalf("calls (-want +got):\n%s", d)
	}
	add := svc.Calls()[1].Request.(agentapi.CNIRequest)
	if add.Pod.String() != "shop/cart-0" || add.Bandwidth != (state.Bandwidth{IngressRate: 1000, IngressBurst: 2000}) {
		t.Errorf("ADD asked for %+v", add)
	}
	check := svc.Calls()[2].Request.(agentapi.CNIRequest)
	if d := cmp.Diff([]netip.Addr{answer().Endpoint.IPv4, answer().Endpoint.IPv6}, check.Expect, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("CHECK expects (-want +got):\n%s", d)
	}

	// A pod that goes while the agent is away.
	rt.must(t, "ADD", nil)
	stop()
	if err = os.Remove(e.netns); err != nil {
		t.Fatal(err)
	}
	rt.must(t, "DEL", prev)
	reqs, junk, err := agentapi.PendingDir(e.pending).List()
	if err != nil || len(junk) != 0 || len(reqs) != 1 || reqs[0].Attachment != add.Attachment {
		t.Errorf("queue %+v, %v, %v", reqs, junk, err)
	}
}

// runtime starts the binary as container runtimes do: the plugin's member of
// the list, with the list's name and version and what the command adds.
type runtime struct {
	bin  string
	env  *env
	list map[string]any
}

func readConfList(t *testing.T, path string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list map[string]any
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func (r *runtime) exec(t *testing.T, command string, extra map[string]any) ([]byte, *types.Error) {
	t.Helper()
	conf := map[string]any{"name": r.list["name"], "cniVersion": r.list["cniVersion"]}
	maps.Copy(conf, r.list["plugins"].([]any)[0].(map[string]any))
	delete(conf, "capabilities")
	maps.Copy(conf, extra)
	stdin, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(r.bin)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command)
	for k, v := range r.env.vars {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	cniErr := &types.Error{}
	if jsonErr := json.Unmarshal(out, cniErr); jsonErr != nil {
		t.Fatalf("%s: %v with %q", command, err, out)
	}
	return nil, cniErr
}

func (r *runtime) must(t *testing.T, command string, extra map[string]any) []byte {
	t.Helper()
	out, cniErr := r.exec(t, command, extra)
	if cniErr != nil {
		t.Fatalf("%s: %v", command, cniErr)
	}
	return out
}

// TestLeanBinary keeps what would slow every pod's start out of the plugin.
func TestLeanBinary(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../../cmd/placid-cni").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, heavy := range []string{"k8s.io/", "sigs.k8s.io/", "github.com/spf13/", "github.com/prometheus/", "github.com/cilium/", "github.com/vishvananda/netlink"} {
			if strings.HasPrefix(dep, heavy) {
				t.Errorf("placid-cni imports %s", dep)
			}
		}
	}
}
