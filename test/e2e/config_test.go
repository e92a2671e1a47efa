package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// testBadConfig shows that an agent with a key that does not exist says so and
// ends, while the traffic of pods goes on, and that mending it is enough.
func (l *lab) testBadConfig(t *testing.T, c cast) {
	const key = "enable-ipv44"
	h := c.a.node
	traffic := startLoad(t, l.trafficPairs(t, c)...)
	l.setConfig(t, map[string]any{key: "true"})
	name := l.replaceAgent(t, h)
	eventually(t, podTimeout, "the agent ends", func() error {
		p := get[corev1.Pod](t, l, "-n", systemNamespace, "pod", name)
		for _, s := range p.Status.ContainerStatuses {
			for _, st := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
				if st == nil {
					continue
				}
				if st.ExitCode != 2 {
					t.Errorf("exit code %d, want 2", st.ExitCode)
				}
				return nil
			}
		}
		return fmt.Errorf("state of the container: %+v", p.Status.ContainerStatuses)
	})
	if log := l.kubectl(t, "-n", systemNamespace, "logs", name); !strings.Contains(log, key) {
		t.Errorf("the log does not name the key %s:\n%s", key, log)
	}
	l.setConfig(t, map[string]any{key: nil})
	l.replaceAgent(t, h)
	l.waitAgent(t, h)
	traffic.end(t, minimumExchanges)
}
