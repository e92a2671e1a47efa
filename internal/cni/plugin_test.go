package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/agentapi/agentapitest"
	"github.com/placid-net/placid/internal/state"
)

// env is one CNI request on a node of its own: a socket, a queue, a sandbox.
type env struct {
	socket, pending, netns string
	vars                   map[string]string
}

func newEnv(t *testing.T) *env {
	t.Helper()
	socket := agentapitest.SocketPath(t)
	dir := filepath.Dir(socket)
	e := &env{socket: socket, pending: filepath.Join(dir, "pending"), netns: filepath.Join(dir, "netns")}
	// For the plugin, any file that is not its own namespace is a sandbox.
	if err := os.WriteFile(e.netns, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e.vars = map[string]string{
		"CNI_CONTAINERID": "c0ffee",
		"CNI_NETNS":       e.netns,
		"CNI_IFNAME":      "eth0",
		"CNI_ARGS":        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=11-22;K8S_POD_INFRA_CONTAINER_ID=c0ffee",
		"CNI_PATH":        "/opt/cni/bin",
	}
	return e
}

// conf is a network configuration for version with the extra members, which
// start with a comma.
func (e *env) conf(version, extra string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"placid","type":"placid-cni","socketPath":%q,"pendingDir":%q%s}`,
		version, e.socket, e.pending, extra)
}

// run lets the plugin carry out one command through skel's dispatcher, which
// reads the process's environment and standard input.
func (e *env) run(t *testing.T, command, stdin string) (stdout string, cniErr *types.Error) {
	t.Helper()
	t.Setenv("CNI_COMMAND", command)
	for _, k := range []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH", "CNI_NETNS_OVERRIDE"} {
		t.Setenv(k, e.vars[k])
	}
	in := filepath.Join(t.TempDir(), "stdin")
	if err := os.WriteFile(in, []byte(stdin), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	realStdin := os.Stdin
	os.Stdin = f
	defer func() { os.Stdin = realStdin }()

	var out, errOut bytes.Buffer
	code := Run("test", &out, &errOut)
	if code == 0 {
		return out.String(), nil
	}
	cniErr = &types.Error{}
	if err := json.Unmarshal(out.Bytes(), cniErr); err != nil || cniErr.Code == 0 || cniErr.Msg == "" {
		t.Fatalf("exit code %d with %q (%v), want a CNI error", code, out.String(), err)
	}
	return "", cniErr
}

func wantError(t *testing.T, got *types.Error, code uint, part string) {
	t.Helper()
	if got == nil {
		t.Fatalf("success, want error %d", code)
	}
	if got.Code != code || !strings.Contains(got.Msg+"; "+got.Details, part) {
		t.Errorf("got error %d %q (%s), want %d with %q", got.Code, got.Msg, got.Details, code, part)
	}
}

// answer is what the fake agent says to an ADD.
func answer() agentapi.CNIResult {
	return agentapi.CNIResult{
		Endpoint: state.Endpoint{
			ID:         1,
			Attachment: state.AttachmentID{ContainerID: "c0ffee", IfName: "eth0"},
			IPv4:       netip.MustParseAddr("10.1.0.7"),
			IPv6:       netip.MustParseAddr("fd00:1::7"),
			MAC:        state.MAC{2, 0, 0, 0, 0, 7},
			HostIfName: "plc0007",
			MTU:        1450,
		},
		HostMAC:  state.MAC{2, 0, 0, 0, 0, 1},
		Gateway4: netip.MustParseAddr("10.1.0.1"),
		Gateway6: netip.MustParseAddr("fe80::1"),
	}
}

func TestAddRequest(t *testing.T) {
	e := newEnv(t)
	svc := &agentapitest.Service{AddResult: answer()}
	agentapitest.Serve(t, e.socket, svc)
	_, err := e.run(t, "ADD", e.conf("1.1.0", `,"mtu":1400,"capabilities":{"bandwidth":true},"somethingNew":{"a":1},
		"runtimeConfig":{"bandwidth":{"ingressRate":1000000,"ingressBurst":2147483647,"egressRate":2000000,"egressBurst":0},"portMappings":[
			{"hostPort":8080,"containerPort":80,"protocol":"tcp"},{"hostPort":8080,"containerPort":53,"protocol":"UDP","hostIP":"0.0.0.0"},
			{"hostPort":65535,"containerPort":1,"protocol":"sctp","hostIP":"::ffff:192.0.2.1"},{"hostPort":9,"containerPort":9,"hostIP":"fd00::1"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []agentapitest.Call{{Method: "Add", Request: agentapi.CNIRequest{
		Attachment: state.AttachmentID{ContainerID: "c0ffee", IfName: "eth0"},
		Netns:      e.netns,
		Pod:        state.PodRef{Namespace: "shop", Name: "cart-0", UID: "11-22"},
		Bandwidth:  state.Bandwidth{IngressRate: 1000000, IngressBurst: 2147483647, EgressRate: 2000000},
		HostPorts: []state.HostPort{
			{Protocol: state.ProtocolTCP, HostPort: 8080, ContainerPort: 80},
			{HostIP: netip.IPv4Unspecified(), Protocol: state.ProtocolUDP, HostPort: 8080, ContainerPort: 53},
			{HostIP: netip.MustParseAddr("192.0.2.1"), Protocol: state.ProtocolSCTP, HostPort: 65535, ContainerPort: 1},
			{HostIP: netip.MustParseAddr("fd00::1"), Protocol: state.ProtocolTCP, HostPort: 9, ContainerPort: 9},
		},
		MTU: 1400,
	}}}
	if d := cmp.Diff(want, svc.Calls(), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("calls (-want +got):\n%s", d)
	}
}

// Without Kubernetes' CNI_ARGS the pod is empty.
func TestAddWithoutKubernetes(t *testing.T) {
	for _, args := range []string{"", "IgnoreUnknown=true;FOO=bar"} {
		e := newEnv(t)
		e.vars["CNI_ARGS"] = args
		svc := &agentapitest.Service{AddResult: answer()}
		agentapitest.Serve(t, e.socket, svc)
		if _, err := e.run(t, "ADD", e.conf("1.0.0", "")); err != nil {
			t.Fatal(err)
		}
		if got := svc.Calls()[0].Request.(agentapi.CNIRequest).Pod; got != (state.PodRef{}) {
			t.Errorf("CNI_ARGS %q: pod %v, want none", args, got)
		}
	}
}

func TestAddResults(t *testing.T) {
	both := answer()
	v4 := answer()
	v4.Endpoint.IPv6, v4.Gateway6 = netip.Addr{}, netip.Addr{}
	v6 := answer()
	v6.Endpoint.IPv4, v6.Gateway4 = netip.Addr{}, netip.Addr{}
	const dns = `,"dns":{"nameservers":["10.96.0.10"],"domain":"cluster.local","search":["svc"],"options":["ndots:5"]}`
	for _, tc := range []struct {
		name, version, extra string
		answer               agentapi.CNIResult
		want                 string
	}{
		{"1.1.0", "1.1.0", "", both, `{"cniVersion":"1.1.0","interfaces":[
			{"name":"plc0007","mac":"02:00:00:00:00:01","mtu":1450},
			{"name":"eth0","mac":"02:00:00:00:00:07","mtu":1450,"sandbox":"NETNS"}],
			"ips":[{"interface":1,"address":"10.1.0.7/32","gateway":"10.1.0.1"},{"interface":1,"address":"fd00:1::7/128","gateway":"fe80::1"}],
			"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1450},{"dst":"::/0","gw":"fe80::1","mtu":1450}]}`},
		{"1.0.0 has no mtu", "1.0.0", dns, both, `{"cniVersion":"1.0.0","interfaces":[
			{"name":"plc0007","mac":"02:00:00:00:00:01"},
			{"name":"eth0","mac":"02:00:00:00:00:07","sandbox":"NETNS"}],
			"ips":[{"interface":1,"address":"10.1.0.7/32","gateway":"10.1.0.1"},{"interface":1,"address":"fd00:1::7/128","gateway":"fe80::1"}],
			"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"::/0","gw":"fe80::1"}],
			"dns":{"nameservers":["10.96.0.10"],"domain":"cluster.local","search":["svc"],"options":["ndots:5"]}}`},
		{"0.4.0 names the family", "0.4.0", dns, both, `{"cniVersion":"0.4.0","interfaces":[
			{"name":"plc0007","mac":"02:00:00:00:00:01"},
			{"name":"eth0","mac":"02:00:00:00:00:07","sandbox":"NETNS"}],
			"ips":[{"version":"4","interface":1,"address":"10.1.0.7/32","gateway":"10.1.0.1"},{"version":"6","interface":1,"address":"fd00:1::7/128","gateway":"fe80::1"}],
			"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"::/0","gw":"fe80::1"}],
			"dns":{"nameservers":["10.96.0.10"],"domain":"cluster.local","search":["svc"],"options":["ndots:5"]}}`},
		{"IPv4 only", "1.1.0", "", v4, `{"cniVersion":"1.1.0","interfaces":[
			{"name":"plc0007","mac":"02:00:00:00:00:01","mtu":1450},
			{"name":"eth0","mac":"02:00:00:00:00:07","mtu":1450,"sandbox":"NETNS"}],
			"ips":[{"interface":1,"address":"10.1.0.7/32","gateway":"10.1.0.1"}],
			"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1450}]}`},
		{"IPv6 only", "1.1.0", "", v6, `{"cniVersion":"1.1.0","interfaces":[
			{"name":"plc0007","mac":"02:00:00:00:00:01","mtu":1450},
			{"name":"eth0","mac":"02:00:00:00:00:07","mtu":1450,"sandbox":"NETNS"}],
			"ips":[{"interface":1,"address":"fd00:1::7/128","gateway":"fe80::1"}],
			"routes":[{"dst":"::/0","gw":"fe80::1","mtu":1450}]}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			agentapitest.Serve(t, e.socket, &agentapitest.Service{AddResult: tc.answer})
			out, cniErr := e.run(t, "ADD", e.conf(tc.version, tc.extra))
			if cniErr != nil {
				t.Fatal(cniErr)
			}
			var got, want map[string]any
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(strings.ReplaceAll(tc.want, "NETNS", e.netns)), &want); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("result (-want +got):\n%s", d)
			}
		})
	}
}

func TestAddAgentGivesNoAddress(t *testing.T) {
	e := newEnv(t)
	agentapitest.Serve(t, e.socket, &agentapitest.Service{})
	_, err := e.run(t, "ADD", e.conf("1.1.0", ""))
	wantError(t, err, types.ErrInternal, "no address")
}

func TestAgentErrors(t *testing.T) {
	for _, tc := range []struct {
		command, agentCode string
		code               uint
	}{
		{"ADD", agentapi.CodeInvalid, 7},
		{"ADD", agentapi.CodeNotReady, 11},
		{"ADD", agentapi.CodeExhausted, 11},
		{"ADD", agentapi.CodeInternal, 999},
		{"ADD", "ofTheFuture", 999},
		{"DEL", agentapi.CodeInvalid, 7},
		{"DEL", agentapi.CodeInternal, 999},
		{"CHECK", agentapi.CodeNotFound, 100},
		{"CHECK", agentapi.CodeConflict, 100},
		{"CHECK", agentapi.CodeNotReady, 11},
		{"GC", agentapi.CodeNotReady, 11},
		{"GC", agentapi.CodeInternal, 999},
		{"STATUS", agentapi.CodeNotReady, 50},
		{"STATUS", agentapi.CodeInternal, 50},
	} {
		t.Run(tc.command+"/"+tc.agentCode, func(t *testing.T) {
			e := newEnv(t)
			agentapitest.Serve(t, e.socket, &agentapitest.Service{Err: func(string) error {
				return &agentapi.Error{Code: tc.agentCode, Message: "pool 10.1.0.0/24 says no"}
			}})
			_, err := e.run(t, tc.command, e.conf("1.1.0", validFor(tc.command)))
			wantError(t, err, tc.code, "pool 10.1.0.0/24 says no")
			if _, err := os.Stat(e.pending); !os.IsNotExist(err) {
				t.Errorf("queued although the agent answered: %v", err)
			}
		})
	}
}

const prevResultConf = `,"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"plc0007"},{"name":"eth0","sandbox":"/run/netns/x"}],
	"ips":[{"interface":1,"address":"10.1.0.7/32"},{"interface":1,"address":"fd00:1::7/128"}]}`

// validFor is what a command needs in its configuration beyond the common part.
func validFor(command string) string {
	switch command {
	case "CHECK":
		return prevResultConf
	case "GC":
		return `,"cni.dev/valid-attachments":[]`
	default:
		return ""
	}
}

func TestAgentAway(t *testing.T) {
	for _, tc := range []struct {
		command string
		code    uint
	}{{"ADD", 11}, {"CHECK", 11}, {"GC", 11}, {"STATUS", 50}} {
		t.Run(tc.command, func(t *testing.T) {
			e := newEnv(t)
			_, err := e.run(t, tc.command, e.conf("1.1.0", validFor(tc.command)))
			wantError(t, err, tc.code, e.socket)
			wantError(t, err, tc.code, "placid-agent pod runs on this node")
		})
	}
}

func TestDel(t *testing.T) {
	want := agentapi.CNIRequest{Attachment: state.AttachmentID{ContainerID: "c0ffee", IfName: "eth0"}}
	for _, tc := range []struct {
		name, netns, args, extra string
		agentCode                string
	}{
		{name: "plain", netns: "SANDBOX"},
		{name: "nothing there", agentCode: agentapi.CodeNotFound},
		{name: "no netns"},
		{name: "netns is gone", netns: "/run/netns/gone"},
		{name: "CNI_ARGS are junk", args: "=;=;x"},
		{name: "prevResult is junk", extra: `,"prevResult":{"ips":7}`},
		{name: "values are out of range", extra: `,"mtu":5,"logLevel":"loud","ipam":{"type":"x"},"runtimeConfig":{"bandwidth":{"ingressRate":-1}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			svc := &agentapitest.Service{}
			if tc.agentCode != "" {
				svc.Err = func(string) error { return &agentapi.Error{Code: tc.agentCode, Message: "m"} }
			}
			agentapitest.Serve(t, e.socket, svc)
			e.vars["CNI_NETNS"] = strings.Replace(tc.netns, "SANDBOX", e.netns, 1)
			e.vars["CNI_ARGS"] = tc.args
			if out, err := e.run(t, "DEL", e.conf("0.4.0", tc.extra)); err != nil || out != "" {
				t.Fatalf("%q, %v", out, err)
			}
			req := want
			req.Netns = e.vars["CNI_NETNS"]
			if d := cmp.Diff([]agentapitest.Call{{Method: "Del", Request: req}}, svc.Calls()); d != "" {
				t.Errorf("calls (-want +got):\n%s", d)
			}
		})
	}
}

func TestDelIsQueuedWhileTheAgentIsAway(t *testing.T) {
	e := newEnv(t)
	for range 2 { // runtimes repeat a DEL
		if _, err := e.run(t, "DEL", e.conf("1.1.0", "")); err != nil {
			t.Fatal(err)
		}
	}
	queue := agentapi.PendingDir(e.pending)
	got, junk, err := queue.List()
	if err != nil || len(junk) != 0 {
		t.Fatal(err, junk)
	}
	want := []agentapi.CNIRequest{{
		Attachment: state.AttachmentID{ContainerID: "c0ffee", IfName: "eth0"},
		Netns:      e.netns,
		Pod:        state.PodRef{Namespace: "shop", Name: "cart-0", UID: "11-22"},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("queue (-want +got):\n%s", d)
	}
}

// An agent that drained the queue just before the DEL got into it is asked once
// more, and the DEL does not stay behind.
func TestDelWhileTheAgentStarts(t *testing.T) {
	e := newEnv(t)
	asked := 0
	svc := &agentapitest.Service{Err: func(string) error {
		asked++
		if asked == 1 {
			return &agentapi.Error{Code: agentapi.CodeNotReady, Message: "starting"}
		}
		return nil
	}}
	agentapitest.Serve(t, e.socket, svc)
	if _, err := e.run(t, "DEL", e.conf("1.1.0", "")); err != nil {
		t.Fatal(err)
	}
	if asked != 2 {
		t.Errorf("asked %d times, want 2", asked)
	}
	if reqs, _, err := agentapi.PendingDir(e.pending).List(); err != nil || len(reqs) != 0 {
		t.Errorf("queue %v, %v, want none", reqs, err)
	}
}

func TestDelThatCannotBeQueuedFails(t *testing.T) {
	e := newEnv(t)
	if err := os.WriteFile(e.pending, nil, 0o600); err != nil { // no folder can be made here
		t.Fatal(err)
	}
	_, err := e.run(t, "DEL", e.conf("1.1.0", ""))
	wantError(t, err, types.ErrIOFailure, e.pending)
}

// An ADD that uses an attachment again does not fall victim to its queued DEL.
func TestAddAfterAQueuedDel(t *testing.T) {
	e := newEnv(t)
	if _, err := e.run(t, "DEL", e.conf("1.1.0", "")); err != nil {
		t.Fatal(err)
	}
	queue := agentapi.PendingDir(e.pending)
	id := state.AttachmentID{ContainerID: "c0ffee", IfName: "eth0"}

	_, cniErr := e.run(t, "ADD", e.conf("1.1.0", ""))
	wantError(t, cniErr, 11, "placid-agent")
	if has, err := queue.Has(id); err != nil || !has {
		t.Errorf("queued: %v, %v; the DEL was never carried out", has, err)
	}

	svc := &agentapitest.Service{AddResult: answer()}
	agentapitest.Serve(t, e.socket, svc)
	if _, err := e.run(t, "ADD", e.conf("1.1.0", "")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"Del", "Add"}, svc.Methods()); d != "" {
		t.Errorf("calls (-want +got):\n%s", d)
	}
	if has, err := queue.Has(id); err != nil || has {
		t.Errorf("still queued: %v, %v", has, err)
	}
}

func TestCheckExpectsThePreviousAddresses(t *testing.T) {
	want := []netip.Addr{netip.MustParseAddr("10.1.0.7"), netip.MustParseAddr("fd00:1::7")}
	for _, tc := range []struct{ name, version, prev string }{
		{"1.1.0", "1.1.0", prevResultConf},
		{"1.0.0", "1.0.0", strings.ReplaceAll(prevResultConf, "1.1.0", "1.0.0")},
		{"0.4.0", "0.4.0", `,"prevResult":{"interfaces":[{"name":"plc0007"},{"name":"eth0","sandbox":"/run/netns/x"}],
			"ips":[{"version":"4","interface":1,"address":"10.1.0.7/32"},{"version":"6","interface":1,"address":"fd00:1::7/128"}]}`},
		{"without interfaces", "1.1.0", `,"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.7/32"},{"address":"fd00:1::7/128"}]}`},
		{"with another plugin's", "1.1.0", `,"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"eth0"},{"name":"eth0","sandbox":"/run/netns/x"},{"name":"net1","sandbox":"/run/netns/x"}],
			"ips":[{"interface":2,"address":"192.0.2.1/24"},{"interface":0,"address":"192.0.2.2/24"},{"interface":1,"address":"10.1.0.7/32"},{"interface":1,"address":"fd00:1::7/128"}]}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			svc := &agentapitest.Service{}
			agentapitest.Serve(t, e.socket, svc)
			if out, err := e.run(t, "CHECK", e.conf(tc.version, tc.prev)); err != nil || out != "" {
				t.Fatalf("%q, %v", out, err)
			}
			got := svc.Calls()[0].Request.(agentapi.CNIRequest).Expect
			if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
				t.Errorf("expect (-want +got):\n%s", d)
			}
		})
	}
}

func TestGC(t *testing.T) {
	for _, tc := range []struct {
		name, list string
		want       []state.AttachmentID
	}{
		{
			"some", `[{"containerID":"a","ifname":"eth0"},{"containerID":"b","ifname":"eth1"}]`,
			[]state.AttachmentID{{ContainerID: "a", IfName: "eth0"}, {ContainerID: "b", IfName: "eth1"}},
		},
		{"none", `[]`, []state.AttachmentID{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			// A GC is about no attachment.
			delete(e.vars, "CNI_CONTAINERID")
			delete(e.vars, "CNI_NETNS")
			delete(e.vars, "CNI_IFNAME")
			svc := &agentapitest.Service{}
			agentapitest.Serve(t, e.socket, svc)
			if _, err := e.run(t, "GC", e.conf("1.1.0", `,"cni.dev/valid-attachments":`+tc.list)); err != nil {
				t.Fatal(err)
			}
			want := []agentapitest.Call{{Method: "GC", Request: agentapi.GCRequest{Valid: tc.want}}}
			if d := cmp.Diff(want, svc.Calls()); d != "" {
				t.Errorf("calls (-want +got):\n%s", d)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	e := newEnv(t)
	svc := &agentapitest.Service{}
	agentapitest.Serve(t, e.socket, svc)
	if out, err := e.run(t, "STATUS", e.conf("1.1.0", "")); err != nil || out != "" {
		t.Errorf("%q, %v", out, err)
	}
	if d := cmp.Diff([]string{"CNIStatus"}, svc.Methods()); d != "" {
		t.Errorf("calls (-want +got):\n%s", d)
	}
}

func TestLogFile(t *testing.T) {
	e := newEnv(t)
	agentapitest.Serve(t, e.socket, &agentapitest.Service{AddResult: answer()})
	file := filepath.Join(t.TempDir(), "cni.log")
	for _, level := range []string{"debug", "error"} {
		if _, err := e.run(t, "ADD", e.conf("1.1.0", fmt.Sprintf(`,"logFile":%q,"logLevel":%q`, file, level))); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"command=ADD", "attachment=c0ffee/eth0", "pod=shop/cart-0", "level=DEBUG", "addresses="} {
		if !strings.Contains(string(b), part) {
			t.Errorf("log does not say %q:\n%s", part, b)
		}
	}
	if n := strings.Count(string(b), "\n"); n != 2 {
		t.Errorf("%d lines, want 2 (the second run logs errors only):\n%s", n, b)
	}
	// A log that does not open keeps no pod from starting.
	if _, err := e.run(t, "ADD", e.conf("1.1.0", `,"logFile":"/proc/no/such"`)); err != nil {
		t.Error(err)
	}
}

// A hung agent ends a DEL by the queue, not by an error.
func TestDelOfAHungAgentIsQueued(t *testing.T) {
	e := newEnv(t)
	agentapitest.Serve(t, e.socket, &agentapitest.Service{Wait: func(ctx context.Context, _ string) { <-ctx.Done() }})
	req := agentapi.CNIRequest{Attachment: state.AttachmentID{ContainerID: "c", IfName: "eth0"}}
	if err := askDel(agentapi.NewClient(e.socket), req, 1); !isAway(err) {
		t.Errorf("got %v, want an error that queues", err)
	}
}
