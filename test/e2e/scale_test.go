package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

const (
	manyPods     = 110
	scaleTimeout = 4 * time.Minute
)

// testScale fills a node with pods and empties it again.
func (l *lab) testScale(t *testing.T, c cast) {
	h := c.a.node
	before := l.traces(t, h)
	labels := map[string]string{"app": "many"}
	var pods []pod
	l.run(t, fmt.Sprintf("%d pods on one node become ready", manyPods), func(t *testing.T) {
		began := time.Now()
		l.apply(t, manyDeployment(h.name, labels))
		eventually(t, scaleTimeout, "the pods are ready", func() error {
			_, err := l.try(t.Context(), nil, "kubectl", "-n", namespace, "rollout", "status", "deployment/many", "--timeout=50s")
			return err
		})
		t.Logf("%d pods ready after %s", manyPods, time.Since(began).Round(100*time.Millisecond))
		t.Log(l.addLatency(t, h))
		for _, p := range get[corev1.PodList](t, l, "-n", namespace, "pods", "-l", "app=many").Items {
			pods = append(pods, l.toPod(t, p))
		}
	})
	l.run(t, "each has an address of its own and answers pods of the other node", func(t *testing.T) {
		seen := map[netip.Addr]string{}
		var all []string
		for _, p := range pods {
			for _, a := range p.addrs {
				if seen[a] != "" {
					t.Errorf("%s and %s both have %s", seen[a], p.name, a)
				}
				seen[a] = p.name
				all = append(all, a.String())
			}
		}
		if len(all) != 2*manyPods {
			t.Errorf("%d pods have %d addresses, want %d pods with one of each family", len(pods), len(all), manyPods)
		}
		script := `for a in "$@"; do ping -n -c 1 -W 5 -q "$a" >/dev/null || echo "$a" & done; wait`
		if silent := l.in(t, c.far, append([]string{"bash", "-c", script, "bash"}, all...)...); silent != "" {
			t.Errorf("no answer from\n%s", silent)
		}
	})
	l.run(t, "once they are deleted nothing is left of them", func(t *testing.T) {
		l.kubectl(t, "-n", namespace, "delete", "deployment", "many")
		eventually(t, scaleTimeout, "all pods are gone", func() error {
			if n := len(get[corev1.PodList](t, l, "-n", namespace, "pods", "-l", "app=many").Items); n > 0 {
				return fmt.Errorf("%d pods are left", n)
			}
			return nil
		})
		eventually(t, time.Minute, "the node is as before", func() error {
			if diff := cmp.Diff(before, l.traces(t, h)); diff != "" {
				return fmt.Errorf("before (-), after (+):\n%s", diff)
			}
			return nil
		})
	})
}

func manyDeployment(node string, labels map[string]string) appsv1.Deployment {
	replicas := int32(manyPods)
	template := barePod("", node)
	return appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: "many", Namespace: namespace},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: template.Spec},
		},
	}
}

// traces are what pods leave on a node, in the agent and in the kernel.
type traces struct {
	Endpoints, Devices, Routes, Neighbours, MapEntries, LinkPins, Files, Namespaces []string
	Used, Failing                                                                   int
	// Repaired counts what audits mended. Nobody meddles with the node, so that
	// anything mended would be a mistake of the audit.
	Repaired map[string]uint64 // by controller
}

func (l *lab) traces(t *testing.T, h host) traces {
	t.Helper()
	lines := func(script string) []string {
		out := strings.Fields(l.on(t, h, "bash", "-c", script))
		slices.Sort(out)
		return out
	}
	tr := traces{
		Repaired:   map[string]uint64{},
		Devices:    lines(`ip -o link show | sed -n 's/^[0-9]*: \(plc[0-9a-f]*\).*/\1/p'`),
		Routes:     lines(`ip route show proto 81 | cut -d ' ' -f 1; ip -6 route show proto 81 | cut -d ' ' -f 1`),
		Neighbours: lines(`ip neigh show nud permanent | grep ' plc' | cut -d ' ' -f 1 || true`),
		LinkPins:   lines(`ls /sys/fs/bpf/placid/links`),
		Files:      lines(`ls /run/placid/endpoints`),
		Namespaces: lines(`ls /run/netns`),
	}
	for _, ep := range placidJSON[[]state.Endpoint](t, l, h, "endpoint", "list") {
		tr.Endpoints = append(tr.Endpoints, ep.Pod.String())
	}
	slices.Sort(tr.Endpoints)
	for _, row := range placidJSON[agentapi.MapDump](t, l, h, "bpf", "endpoint", "list").Rows {
		tr.MapEntries = append(tr.MapEntries, row[0])
	}
	st := l.status(t, h)
	for _, p := range st.IPAM {
		tr.Used += p.Used
	}
	for _, c := range st.Controllers {
		tr.Repaired[c.Name] = c.Repaired
		tr.Failing += c.Failing
	}
	return tr
}

// addBucket and addSum match lines of the agent's histogram of successful ADDs.
var (
	addBucket = regexp.MustCompile(`(?m)^placid_cni_duration_seconds_bucket\{operation="ADD",outcome="success",le="([^"]+)"\} (\d+)$`)
	addSum    = regexp.MustCompile(`(?m)^placid_cni_duration_seconds_sum\{operation="ADD",outcome="success"\} (\S+)$`)
)

// addLatency tells how long the agent took for ADD requests, from its metrics.
func (l *lab) addLatency(t *testing.T, h host) string {
	t.Helper()
	text := l.on(t, h, "curl", "-sSf", "http://127.0.0.1:9962/metrics")
	buckets := addBucket.FindAllStringSubmatch(text, -1)
	if len(buckets) == 0 {
		t.Fatal("the agent's metrics count no successful ADD")
	}
	counts := make([]int, len(buckets))
	for i, b := range buckets {
		var err error
		if counts[i], err = strconv.Atoi(b[2]); err != nil {
			t.Fatal(err)
		}
	}
	total := counts[len(counts)-1]
	sum, err := strconv.ParseFloat(addSum.FindStringSubmatch(text)[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	within := func(share float64) string {
		i := slices.IndexFunc(counts, func(n int) bool { return float64(n) >= share*float64(total) })
		return buckets[i][1]
	}
	return fmt.Sprintf("CNI ADD in the agent, all pods at once: %d requests, mean %.3fs, p50 <= %ss, p99 <= %ss",
		total, sum/float64(total), within(0.5), within(0.99))
}
