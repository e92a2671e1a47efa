package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// policyTimeout is how long a change may take until every new flow follows it.
const policyTimeout = 30 * time.Second

// world is what the tests of policies know to be true of the cluster.
type world struct {
	pods       []*party
	hosts      []*party // the nodes, and the host outside
	namespaces map[string]*corev1.Namespace
	policies   []networkingv1.NetworkPolicy
	denied     map[string]bool // ways that were denied when they were last checked
}

// The namespaces of the world, and the port that is called webPort: it has
// another number in the second of them.
const (
	spaceX, spaceY, spaceZ = "np-x", "np-y", "np-z"
	webPort                = "web"
)

func newNamespace(name string, labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
	}
}

// createNamespaces makes namespaces, which are deleted when the test ends.
func (l *lab) createNamespaces(t *testing.T, namespaces ...*corev1.Namespace) {
	t.Helper()
	var objects []any
	args := []string{"kubectl", "delete", "namespace", "--ignore-not-found", "--wait=false"}
	for _, n := range namespaces {
		objects, args = append(objects, n), append(args, n.Name)
	}
	t.Cleanup(func() {
		if _, err := l.try(background(), nil, args...); err != nil {
			t.Error(err)
		}
	})
	l.apply(t, objects...)
	for i, n := range namespaces {
		namespaces[i] = new(get[corev1.Namespace](t, l, "namespace", n.Name)) // with the labels that Kubernetes adds
	}
}

// newWorld starts two pods in each of three namespaces, on different nodes.
func (l *lab) newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{namespaces: map[string]*corev1.Namespace{}}
	spaces := []*corev1.Namespace{
		newNamespace(spaceX, map[string]string{"ns": "x"}),
		newNamespace(spaceY, map[string]string{"ns": "y"}),
		newNamespace(spaceZ, map[string]string{"ns": "z"}),
	}
	l.createNamespaces(t, spaces...)
	var specs []corev1.Pod
	for i, n := range spaces {
		w.namespaces[n.Name] = n
		for j, name := range []string{"a", "b"} {
			p := barePod(name, l.nodes[(i+j)%2].name)
			p.Namespace, p.Labels = n.Name, map[string]string{"pod": name}
			web := int32(probePorts[0])
			if n.Name == spaceY {
				web = int32(probePorts[1])
			}
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: webPort, ContainerPort: web, Protocol: corev1.ProtocolTCP}}
			specs = append(specs, p)
		}
	}
	for i, p := range l.startPods(t, specs...) {
		at := l.podPlace(t, p)
		at.name = p.String()
		w.pods = append(w.pods, &party{place: at, node: p.node.name, pod: &specs[i], ns: w.namespaces[p.namespace]})
	}
	for _, h := range l.nodes {
		w.hosts = append(w.hosts, &party{place: h.place(), node: h.name})
	}
	w.hosts = append(w.hosts, &party{place: l.outside.place()})
	var places []place
	for _, p := range slices.Concat(w.pods, w.hosts) {
		places = append(places, p.place)
	}
	serveProbes(t, probePorts, places...)
	return w
}

// pod finds one by namespace and name.
func (w *world) pod(t *testing.T, name string) *party {
	t.Helper()
	i := slices.IndexFunc(w.pods, func(p *party) bool { return p.name == name })
	if i < 0 {
		t.Fatalf("no pod %s in the test", name)
	}
	return w.pods[i]
}

// setPolicies makes these the only policies of the test.
func (l *lab) setPolicies(t *testing.T, w *world, policies ...networkingv1.NetworkPolicy) {
	t.Helper()
	keep := map[string]bool{}
	var objects []any
	for _, p := range policies {
		keep[p.Namespace+"/"+p.Name] = true
		objects = append(objects, p)
	}
	if len(objects) > 0 {
		l.apply(t, objects...)
	}
	for _, p := range w.policies {
		if !keep[p.Namespace+"/"+p.Name] {
			l.kubectl(t, "-n", p.Namespace, "delete", "networkpolicy", p.Name)
		}
	}
	w.policies = policies
}

// attempt is a probe and what should become of it.
type attempt struct {
	probe
	want bool
}

// matrix is every way that a pod takes part in, with what should become of it
// under the policies that are in force.
func (w *world) matrix(t *testing.T) []attempt {
	t.Helper()
	var out []attempt
	for _, from := range slices.Concat(w.pods, w.hosts) {
		for _, to := range slices.Concat(w.pods, w.hosts) {
			if from == to || from.pod == nil && to.pod == nil {
				continue
			}
			for _, f := range families {
				for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
					for _, port := range probePorts {
						p := probe{from: from.place, to: to.place, family: f, protocol: protocol, port: port}
						out = append(out, attempt{p, allowed(t, w.policies, p, *from, *to)})
					}
				}
			}
		}
	}
	return out
}

// check probes the whole matrix until all of it is as it should be.
func (w *world) check(t *testing.T) {
	t.Helper()
	matrix := w.matrix(t)
	probes := make([]probe, len(matrix))
	denied := 0
	for i, a := range matrix {
		probes[i] = a.probe
		if !a.want {
			denied++
		}
	}
	if len(w.policies) > 0 && (denied == 0 || denied == len(matrix)) {
		t.Errorf("%d of %d ways are denied: the policies show nothing", denied, len(matrix))
	}
	began := time.Now()
	eventually(t, policyTimeout, "every way is as the policies say", func() error {
		var wrong []string
		for i, ok := range probeAll(t, probes) {
			if ok && !matrix[i].want && w.denied[probes[i].String()] {
				t.Errorf("%s: denied before and after the change, and answered between", probes[i])
			}
			if ok != matrix[i].want {
				wrong = append(wrong, fmt.Sprintf("%s: answered %t, want %t", probes[i], ok, matrix[i].want))
			}
		}
		if len(wrong) > 0 {
			return fmt.Errorf("%d of %d:\n%s", len(wrong), len(matrix), strings.Join(wrong[:min(len(wrong), 40)], "\n"))
		}
		return nil
	})
	w.denied = map[string]bool{}
	for _, a := range matrix {
		w.denied[a.String()] = !a.want
	}
	t.Logf("%d ways, %d of them denied, right within %s", len(matrix), denied, time.Since(began).Round(10*time.Millisecond))
}

// policyStep is a change, and the policies that are in force from then on.
type policyStep struct {
	name     string
	change   func(t *testing.T)
	policies []networkingv1.NetworkPolicy
}

// testPolicies shows that NetworkPolicies mean what Kubernetes says, step by
// step, by trying every way between pods and hosts. The expectation is computed
// in allowed.
func (l *lab) testPolicies(t *testing.T) {
	w := l.newWorld(t)
	t.Cleanup(func() {
		if _, err := l.try(background(), nil, "kubectl", "delete", "networkpolicy", "-A", "-l", policyLabel); err != nil {
			t.Error(err)
		}
	})
	probed := l.startPods(t, func() corev1.Pod {
		p := serverPod("probed", l.nodes[0].name, nil)
		p.Namespace = spaceX
		p.Spec.Containers[0].ReadinessProbe.FailureThreshold = 3
		return p
	}())[0]
	readySince := l.readySince(t, probed)
	for _, s := range slices.Concat(l.peerSteps(), l.portSteps(), l.blockSteps(t, w), l.changeSteps(w)) {
		l.run(t, s.name, func(t *testing.T) {
			if s.change != nil {
				s.change(t)
			}
			l.setPolicies(t, w, s.policies...)
			w.check(t)
		})
	}
	if now := l.readySince(t, probed); now != readySince {
		t.Errorf("the readiness probe of an isolated pod failed: ready since %s, before %s", now, readySince)
	}
}

// readySince is when the pod became ready.
func (l *lab) readySince(t *testing.T, p pod) string {
	t.Helper()
	for _, c := range get[corev1.Pod](t, l, "-n", p.namespace, "pod", p.name).Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.String()
		}
	}
	t.Errorf("pod %s is not ready", p)
	return ""
}

// peerSteps are about whom rules select.
func (l *lab) peerSteps() []policyStep {
	from := func(peers ...policyPeer) ingressRule { return ingressRule{From: peers} }
	to := func(peers ...policyPeer) egressRule { return egressRule{To: peers} }
	return []policyStep{
		{name: "without policies everybody is reached"},
		{name: "default deny of ingress", policies: []networkingv1.NetworkPolicy{ingressPolicy(spaceX, "p", with())}},
		{name: "default deny of egress", policies: []networkingv1.NetworkPolicy{egressPolicy(spaceX, "p", with())}},
		{name: "default deny of both", policies: []networkingv1.NetworkPolicy{
			ingressPolicy(spaceY, "p", with()), egressPolicy(spaceY, "q", with()),
		}},
		{name: "pods of the same namespace, pods of a namespace, namespaces", policies: []networkingv1.NetworkPolicy{
			ingressPolicy(spaceX, "p", with("pod", "a"), from(policyPeer{PodSelector: with("pod", "b")})),
			ingressPolicy(spaceY, "p", with(), from(policyPeer{NamespaceSelector: with("ns", "z"), PodSelector: with("pod", "a")})),
			egressPolicy(spaceZ, "p", with(), to(policyPeer{NamespaceSelector: with("ns", "y")}, policyPeer{NamespaceSelector: with("ns", "x"), PodSelector: with("pod", "b")})),
		}},
		{name: "expressions", policies: []networkingv1.NetworkPolicy{
			ingressPolicy(spaceX, "p", where("pod", metav1.LabelSelectorOpNotIn, "b"), from(
				policyPeer{NamespaceSelector: where("ns", metav1.LabelSelectorOpIn, "y", "z"), PodSelector: where("pod", metav1.LabelSelectorOpNotIn, "a")})),
			egressPolicy(spaceZ, "p", where("pod", metav1.LabelSelectorOpExists), to(
				policyPeer{NamespaceSelector: where("ns", metav1.LabelSelectorOpExists), PodSelector: where("other", metav1.LabelSelectorOpDoesNotExist)})),
			ingressPolicy(spaceY, "p", where("other", metav1.LabelSelectorOpDoesNotExist), from(
				policyPeer{NamespaceSelector: with(), PodSelector: where("other", metav1.LabelSelectorOpExists)})),
		}},
		{name: "rules of several policies add up", policies: []networkingv1.NetworkPolicy{
			ingressPolicy(spaceX, "deny", with()),
			ingressPolicy(spaceX, "p", with(), from(policyPeer{PodSelector: with("pod", "a")})),
			ingressPolicy(spaceX, "q", with("pod", "b"), ingressRule{
				From: []policyPeer{{NamespaceSelector: with("ns", "z")}}, Ports: []policyPort{number(corev1.ProtocolUDP, probePorts[1])},
			}, from(policyPeer{NamespaceSelector: with("ns", "y"), PodSelector: with("pod", "b")})),
		}},
		{name: "allow all beats deny all", policies: []networkingv1.NetworkPolicy{
			ingressPolicy(spaceX, "deny", with()), ingressPolicy(spaceX, "p", with("pod", "b"), ingressRule{}),
			egressPolicy(spaceZ, "deny", with()), egressPolicy(spaceZ, "p", with("pod", "a"), egressRule{}),
		}},
	}
}

// portSteps are about which ports rules allow.
func (l *lab) portSteps() []policyStep {
	tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
	low, high := probePorts[0], probePorts[1]
	onPorts := func(ports ...policyPort) ingressRule { return ingressRule{Ports: ports} }
	return []policyStep{
		{name: "ports by number, several of them, and whole protocols", policies: []networkingv1.NetworkPolicy{
			ingressPolicy(spaceX, "p", with(), onPorts(number(tcp, high), number(udp, low))),
			ingressPolicy(spaceY, "p", with("pod", "a"), onPorts(policyPort{Protocol: &udp})),
			egressPolicy(spaceZ, "p", with("pod", "b"), egressRule{Ports: []policyPort{number(tcp, low), number(tcp, high)}}),
		}},
		{name: "ports by name, with another number in another namespace", policies: []networkingv1.NetworkPolicy{
			ingressPolicy(spaceX, "p", with(), onPorts(named(tcp, webPort))),
			egressPolicy(spaceZ, "p", with(), egressRule{
				To: []policyPeer{{NamespaceSelector: with()}}, Ports: []policyPort{named(tcp, webPort), named(udp, webPort)},
			}),
		}},
		{name: "ranges of ports", policies: []networkingv1.NetworkPolicy{
			ingressPolicy(spaceX, "p", with(), onPorts(portRange(tcp, low-80, low), portRange(udp, high, high+1000))),
			egressPolicy(spaceY, "p", with(), egressRule{Ports: []policyPort{portRange(tcp, low, high)}}),
		}},
	}
}

// blockSteps are about addresses: those of pods, of nodes and beyond.
func (l *lab) blockSteps(t *testing.T, w *world) []policyStep {
	t.Helper()
	everywhere := func(except ...*party) []policyPeer {
		peers := []policyPeer{block("0.0.0.0/0"), block("::/0")}
		for _, p := range except {
			for f, b := range blocks(p.addrs) {
				peers[f].IPBlock.Except = append(peers[f].IPBlock.Except, b.IPBlock.CIDR)
			}
		}
		return peers
	}
	node, outside := w.hosts[0], w.hosts[len(w.hosts)-1]
	return []policyStep{
		{name: "blocks of addresses, with exceptions", policies: []networkingv1.NetworkPolicy{
			ingressPolicy(spaceX, "p", with(), ingressRule{From: everywhere(outside, w.pod(t, spaceY+"/a"))}),
			egressPolicy(spaceZ, "p", with(), egressRule{To: everywhere(w.pod(t, spaceX+"/b"))}),
		}},
		{name: "single addresses: a host outside, a node, a pod", policies: []networkingv1.NetworkPolicy{
			ingressPolicy(spaceX, "p", with(), ingressRule{From: blocks(outside.addrs)}),
			egressPolicy(spaceX, "q", with(), egressRule{To: slices.Concat(blocks(outside.addrs), blocks(w.pod(t, spaceY+"/b").addrs))}),
			egressPolicy(spaceZ, "p", with(), egressRule{To: blocks(node.addrs)}),
			ingressPolicy(spaceY, "p", with("pod", "b"), ingressRule{From: slices.Concat(blocks(node.addrs), blocks(w.pod(t, spaceX+"/a").addrs))}),
		}},
	}
}

// changeSteps change what the rules of one policy mean.
func (l *lab) changeSteps(w *world) []policyStep {
	first := ingressPolicy(spaceX, "changing", with(), ingressRule{From: []policyPeer{{NamespaceSelector: with("ns", "y"), PodSelector: with("pod", "a")}}})
	second := ingressPolicy(spaceX, "changing", with("pod", "a"), ingressRule{From: []policyPeer{{NamespaceSelector: with("ns", "z")}}})
	after := []networkingv1.NetworkPolicy{first}
	return []policyStep{
		{name: "a policy", policies: []networkingv1.NetworkPolicy{second}},
		{name: "the policy is changed", policies: after},
		{name: "a pod gets labels that are allowed", policies: after, change: func(t *testing.T) {
			l.relabelPod(t, w.pod(t, spaceY+"/b"), map[string]string{"pod": "a"})
		}},
		{name: "a pod loses labels that are allowed", policies: after, change: func(t *testing.T) {
			l.relabelPod(t, w.pod(t, spaceY+"/a"), map[string]string{"pod": "c", "other": "yes"})
		}},
		{name: "a namespace gets labels that are allowed", policies: after, change: func(t *testing.T) {
			l.relabelNamespace(t, w.namespaces[spaceZ], map[string]string{"ns": "y"})
		}},
		{name: "a namespace loses labels that are allowed", policies: after, change: func(t *testing.T) {
			l.relabelNamespace(t, w.namespaces[spaceY], map[string]string{"ns": "w"})
		}},
		{name: "the policy is deleted"},
	}
}

func labelArgs(labels map[string]string) []string {
	out := []string{"--overwrite"}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, key+"="+labels[key])
	}
	return out
}

func (l *lab) relabelPod(t *testing.T, p *party, labels map[string]string) {
	t.Helper()
	l.kubectl(t, append([]string{"-n", p.pod.Namespace, "label", "pod", p.pod.Name}, labelArgs(labels)...)...)
	maps.Copy(p.pod.Labels, labels)
}

func (l *lab) relabelNamespace(t *testing.T, n *corev1.Namespace, labels map[string]string) {
	t.Helper()
	l.kubectl(t, append([]string{"label", "namespace", n.Name}, labelArgs(labels)...)...)
	maps.Copy(n.Labels, labels)
}

// waitPolicies waits until the node knows so many policies, or more, and none is
// held back or refused.
func (l *lab) waitPolicies(t *testing.T, h host, policies int) {
	t.Helper()
	eventually(t, policyTimeout, "the policies are in force on "+h.name, func() error {
		st := l.status(t, h).Policy
		if st == nil || st.Policies < policies || st.Staged != "" || len(st.Problems) > 0 {
			return fmt.Errorf("%+v, want %d policies", st, policies)
		}
		return nil
	})
}
