package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/placid-net/placid/internal/agentapi"
)

const (
	namespace  = "default"
	testImage  = "localhost/agnhost:dev"
	pauseImage = "localhost/pause:1"
	podTimeout = 2 * time.Minute

	httpPort = 8080 // agnhost netexec: /hostname, /clientip
	blobPort = 8090 // /blob
	blobSize = 8 << 20

	systemNamespace = "kube-system"
	agentLabel      = "app.kubernetes.io/component=agent"
	operatorLabel   = "app.kubernetes.io/component=operator"
)

// pod is a pod of a test, on one of the nodes.
type pod struct {
	namespace, name string
	node            host
	addrs           addresses
}

func (p pod) String() string { return p.namespace + "/" + p.name }

// serverScript serves a file of random bytes, iperf3 and agnhost's HTTP answers.
const serverScript = `mkdir -p /srv
head -c %d /dev/urandom >/srv/blob
busybox httpd -p '[::]:%d' -h /srv
iperf3 -s -D >/dev/null
exec /agnhost netexec --http-port=%d`

// serverPod answers HTTP, serves a blob and runs iperf3.
func serverPod(name, node string, annotations map[string]string) corev1.Pod {
	p := barePod(name, node)
	p.Annotations = annotations
	c := &p.Spec.Containers[0]
	c.Image = testImage
	c.Command = []string{"bash", "-c", fmt.Sprintf(serverScript, blobSize, blobPort, httpPort)}
	c.ReadinessProbe = &corev1.Probe{
		PeriodSeconds: 1, FailureThreshold: 30,
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/hostname", Port: intstr.FromInt32(httpPort)}},
	}
	return p
}

// barePod only has addresses.
func barePod(name, node string) corev1.Pod {
	grace, token := int64(0), false
	return corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: corev1.PodSpec{
			NodeSelector:                  map[string]string{"kubernetes.io/hostname": node},
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  &token,
			Containers: []corev1.Container{{
				Name: "main", Image: pauseImage, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"/pause"},
			}},
		},
	}
}

// apply creates or changes objects.
func (l *lab) apply(t *testing.T, objects ...any) {
	t.Helper()
	list, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		t.Fatal(err)
	}
	// The namespace's service account comes a moment after the API server.
	eventually(t, time.Minute, "kubectl apply", func() error {
		_, err := l.try(t.Context(), bytes.NewReader(list), "kubectl", "apply", "-f", "-")
		return err
	})
}

// get decodes `kubectl get ARG... -o json`.
func get[T any](t *testing.T, l *lab, args ...string) T {
	t.Helper()
	var out T
	decode(t, l.kubectl(t, append(append([]string{"get"}, args...), "-o", "json")...), &out)
	return out
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("decode %T: %v\n%s", into, err, text)
	}
}

// startPods creates pods, waits until they are ready, and returns them in the
// same order. They are deleted when the test ends.
func (l *lab) startPods(t *testing.T, specs ...corev1.Pod) []pod {
	t.Helper()
	l.createPods(t, specs...)
	return l.waitPods(t, specs...)
}

// createPods creates pods and does not wait for them.
func (l *lab) createPods(t *testing.T, specs ...corev1.Pod) {
	t.Helper()
	objects := make([]any, len(specs))
	names := map[string][]string{} // by namespace
	for i, s := range specs {
		objects[i], names[s.Namespace] = s, append(names[s.Namespace], s.Name)
	}
	l.apply(t, objects...)
	t.Cleanup(func() {
		for ns, pods := range names {
			args := append([]string{"kubectl", "-n", ns, "delete", "pod", "--ignore-not-found", "--wait=false"}, pods...)
			if _, err := l.try(background(), nil, args...); err != nil {
				t.Error(err)
			}
		}
	})
}

// waitPods waits until created pods are ready.
func (l *lab) waitPods(t *testing.T, specs ...corev1.Pod) []pod {
	t.Helper()
	out := make([]pod, len(specs))
	eventually(t, podTimeout, "pods are ready", func() error {
		list := get[corev1.PodList](t, l, "-A", "pods").Items
		for i, s := range specs {
			at := slices.IndexFunc(list, func(p corev1.Pod) bool { return p.Namespace == s.Namespace && p.Name == s.Name })
			if at < 0 || !podReady(list[at]) {
				return fmt.Errorf("%s/%s is not", s.Namespace, s.Name)
			}
			out[i] = l.toPod(t, list[at])
		}
		return nil
	})
	return out
}

func (l *lab) toPod(t *testing.T, p corev1.Pod) pod {
	t.Helper()
	out := pod{namespace: p.Namespace, name: p.Name, node: l.node(t, p.Spec.NodeName)}
	for _, ip := range p.Status.PodIPs {
		addr := netip.MustParseAddr(ip.IP)
		if addr.Is4() {
			out.addrs[ipv4] = addr
		} else {
			out.addrs[ipv6] = addr
		}
	}
	if !out.addrs[ipv4].IsValid() || !out.addrs[ipv6].IsValid() {
		t.Fatalf("pod %s has addresses %v, want one of each family", p.Name, p.Status.PodIPs)
	}
	return out
}

func (l *lab) node(t *testing.T, name string) host {
	t.Helper()
	i := slices.IndexFunc(l.nodes, func(h host) bool { return h.name == name })
	if i < 0 {
		t.Fatalf("no node %q in the lab", name)
	}
	return l.nodes[i]
}

// tryIn runs a command in a pod.
func (l *lab) tryIn(t *testing.T, p pod, args ...string) (string, error) {
	t.Helper()
	return l.try(t.Context(), nil, append([]string{"kubectl", "-n", p.namespace, "exec", p.name, "--"}, args...)...)
}

// in runs a command in a pod, which has to succeed.
func (l *lab) in(t *testing.T, p pod, args ...string) string {
	t.Helper()
	out, err := l.tryIn(t, p, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// agentPod returns the running pod of the node's agent.
func (l *lab) agentPod(t *testing.T, h host) (corev1.Pod, error) {
	t.Helper()
	list := get[corev1.PodList](t, l, "-n", systemNamespace, "pods", "-l", agentLabel, "--field-selector=spec.nodeName="+h.name)
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			return p, nil
		}
	}
	return corev1.Pod{}, fmt.Errorf("no agent on %s", h.name)
}

// tryPlacid runs the command line in the node's agent pod.
func (l *lab) tryPlacid(t *testing.T, h host, args ...string) (string, error) {
	t.Helper()
	p, err := l.agentPod(t, h)
	if err != nil {
		return "", err
	}
	return l.try(t.Context(), nil, append([]string{"kubectl", "-n", systemNamespace, "exec", p.Name, "--", "placid"}, args...)...)
}

func (l *lab) placid(t *testing.T, h host, args ...string) string {
	t.Helper()
	out, err := l.tryPlacid(t, h, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// placidJSON decodes `placid ARG... -o json`.
func placidJSON[T any](t *testing.T, l *lab, h host, args ...string) T {
	t.Helper()
	var out T
	decode(t, l.placid(t, h, append(args, "-o", "json")...), &out)
	return out
}

// status is the node's status, also when it is not healthy.
func (l *lab) status(t *testing.T, h host) agentapi.Status {
	t.Helper()
	var out agentapi.Status
	text, err := l.tryPlacid(t, h, "status", "-o", "json")
	if err != nil && exitCode(err) != 1 {
		t.Fatal(err)
	}
	decode(t, text, &out)
	return out
}

// setConfig changes keys of the ConfigMap; nil removes one. Agents take most of
// them when they start.
func (l *lab) setConfig(t *testing.T, keys map[string]any) {
	t.Helper()
	if err := l.patchConfig(keys); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) patchConfig(keys map[string]any) error {
	patch, err := json.Marshal(map[string]any{"data": keys})
	if err != nil {
		return err
	}
	_, err = l.try(background(), nil, "kubectl", "-n", systemNamespace, "patch", "configmap", "placid-config", "--type=merge", "-p", string(patch))
	return err
}

// replaceAgent deletes the node's agent pod, so that the next one reads the
// configuration anew, and returns the next one's name.
func (l *lab) replaceAgent(t *testing.T, h host) string {
	t.Helper()
	old, err := l.agentPod(t, h)
	if err != nil {
		t.Fatal(err)
	}
	l.kubectl(t, "-n", systemNamespace, "delete", "pod", old.Name)
	var next corev1.Pod
	eventually(t, podTimeout, "a new agent on "+h.name, func() error {
		next, err = l.agentPod(t, h)
		return err
	})
	return next.Name
}

// waitAgent waits until the node's agent is ready and its status healthy.
func (l *lab) waitAgent(t *testing.T, h host) {
	t.Helper()
	eventually(t, podTimeout, "the agent of "+h.name+" is healthy", func() error {
		if p, err := l.agentPod(t, h); err != nil || !podReady(p) {
			return errors.Join(err, errors.New("its pod is not ready"))
		}
		_, err := l.tryPlacid(t, h, "status", "--brief")
		return err
	})
}

func podReady(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// run is t.Run; when the sub-test fails it shows the state of the lab.
func (l *lab) run(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		began := time.Now()
		t.Cleanup(func() {
			t.Logf("took %s", time.Since(began).Round(100*time.Millisecond))
			if t.Failed() {
				t.Log(l.state())
			}
		})
		f(t)
	})
}

// state is what a person wants to see after a failure.
func (l *lab) state() string {
	var out strings.Builder
	show := func(title string, args ...string) {
		text, err := l.try(background(), nil, args...)
		fmt.Fprintf(&out, "--- %s\n%s\n", title, text)
		if err != nil {
			fmt.Fprintln(&out, err)
		}
	}
	show("pods", "kubectl", "get", "pods", "-A", "-o", "wide")
	show("PlacidNodes", "kubectl", "get", "placidnodes", "-o", "wide")
	show("warnings", "kubectl", "get", "events", "-A", "--field-selector=type=Warning", "--sort-by=.lastTimestamp")
	agents, err := l.try(background(), nil, "kubectl", "-n", systemNamespace, "get", "pods", "-l", agentLabel, "-o", "name")
	if err != nil {
		fmt.Fprintln(&out, err)
	}
	for name := range strings.FieldsSeq(agents) {
		show("status of "+name, "kubectl", "-n", systemNamespace, "exec", name, "--", "placid", "status", "--verbose")
	}
	files, err := filepath.Glob(filepath.Join(l.env["LAB_LOGS"], "*/pods/*_placid-*/*/*.log"))
	if err != nil {
		fmt.Fprintln(&out, err)
	}
	for _, f := range files {
		fmt.Fprintf(&out, "--- %s\n%s\n", f, lastLines(f, 25))
	}
	return out.String()
}
