package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	corev1 "k8s.io/api/core/v1"
)

const foreignConf = "/etc/cni/net.d/99-foreign.conflist"

// testCleanup takes Placid off a node that still has pods, and shows that no
// trace is left. Nothing of Placid works on the node afterwards.
func (l *lab) testCleanup(t *testing.T, h host) {
	agent, err := l.agentPod(t, h)
	if err != nil {
		t.Fatal(err)
	}
	image := agent.Spec.Containers[0].Image
	l.on(t, h, "bash", "-c", `echo '{"cniVersion": "1.0.0", "name": "foreign", "plugins": [{"type": "loopback"}]}' >`+foreignConf)
	l.replaceAgent(t, h)
	l.waitAgent(t, h)
	eventually(t, podTimeout, "the agent sets another CNI configuration aside", func() error {
		_, testErr := l.try(t.Context(), nil, "exec", h.name, "test", "-e", foreignConf+".placid_bak", "-a", "!", "-e", foreignConf)
		return testErr
	})
	l.kubectl(t, "-n", systemNamespace, "delete", "daemonset", "placid-agent")
	eventually(t, podTimeout, "the agents are gone", func() error {
		if n := len(l.agents(t)); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
	manifest, err := os.ReadFile("testdata/cleanup.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("NODE", h.name, "IMAGE", image).Replace(string(manifest))
	for _, round := range []string{"cleanup", "cleanup of what is clean"} {
		if _, err := l.try(t.Context(), strings.NewReader(text), "kubectl", "apply", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		eventually(t, podTimeout, round+" ends", func() error {
			p := get[corev1.Pod](t, l, "-n", systemNamespace, "pod", "placid-cleanup")
			if p.Status.Phase == corev1.PodFailed {
				t.Fatalf("%s: %s", round, l.kubectl(t, "-n", systemNamespace, "logs", "placid-cleanup"))
			}
			if p.Status.Phase == corev1.PodSucceeded {
				return nil
			}
			return fmt.Errorf("phase %s", p.Status.Phase)
		})
		l.kubectl(t, "-n", systemNamespace, "delete", "pod", "placid-cleanup")
	}
	l.wantNoTrace(t, h)
}

// wantNoTrace looks where Placid leaves something.
func (l *lab) wantNoTrace(t *testing.T, h host) {
	t.Helper()
	for what, script := range map[string]string{
		"devices":           `ip -o link show | grep -E ' (plc|placid)' || true`,
		"IPv4 routes":       `ip route show table all | grep -E 'proto 8[01] ' || true`,
		"IPv6 routes":       `ip -6 route show table all | grep -E 'proto 8[01] ' || true`,
		"pins":              `find /sys/fs/bpf -mindepth 1 ! -name "*.debug"`,
		"state":             `ls -d /run/placid 2>/dev/null || true`,
		"CNI configuration": `ls /etc/cni/net.d | grep -vx 99-foreign.conflist || true`,
		"CNI plugin":        `ls -d /opt/cni/bin/placid-cni 2>/dev/null || true`,
		"neighbours":        `ip neigh show nud permanent; ip -6 neigh show nud permanent`,
	} {
		if out := l.on(t, h, "bash", "-c", script); out != "" {
			t.Errorf("%s are left:\n%s", what, out)
		}
	}
	l.on(t, h, "test", "-e", foreignConf)
	index := l.device(t, h, "eth0").Index
	for _, where := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		if ids := attached(t, h, index, where); len(ids) > 0 {
			t.Errorf("programs %v are still attached to eth0 (%s)", ids, where)
		}
	}
}
