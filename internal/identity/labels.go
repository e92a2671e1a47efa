package identity

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// SourceKubernetes is the source of every label that comes from Kubernetes.
const SourceKubernetes = "k8s"

// Keys of the labels that stand for something else than a label of the pod. They
// are Cilium's.
const (
	// NamespaceKey is the name of the pod's namespace.
	NamespaceKey = "io.kubernetes.pod.namespace"
	// NamespaceLabelPrefix goes before the key of a label of the namespace.
	NamespaceLabelPrefix = "io.cilium.k8s.namespace.labels."
	// ServiceAccountKey is the name of the pod's service account.
	ServiceAccountKey = "io.cilium.k8s.policy.serviceaccount"
	// ClusterKey is the name of the cluster.
	ClusterKey = "io.cilium.k8s.policy.cluster"

	// ownPrefix begins the keys of which a pod cannot set any itself.
	ownPrefix = "io.cilium.k8s."
	// namedPortsName stands for the named ports in a key.
	namedPortsName = "gen:io.cilium.k8s.named-ports"
)

// isDerived tells whether the key stands for something else than a label of the
// pod: one that a pod has is not taken for it.
func isDerived(key string) bool { return key == NamespaceKey || strings.HasPrefix(key, ownPrefix) }

// PodLabels returns all labels of the pod, before any filter: its own (but for
// those that only Placid may set), those of its namespace, and its namespace,
// service account and cluster.
func PodLabels(pod state.Pod, ns state.Namespace, cluster string) map[string]string {
	out := make(map[string]string, len(pod.Labels)+len(ns.Labels)+3)
	for key, value := range pod.Labels {
		if !isDerived(key) {
			out[SourceKubernetes+":"+key] = value
		}
	}
	for key, value := range ns.Labels {
		out[SourceKubernetes+":"+NamespaceLabelPrefix+key] = value
	}
	out[SourceKubernetes+":"+NamespaceKey] = pod.Ref.Namespace
	if pod.ServiceAccount != "" {
		out[SourceKubernetes+":"+ServiceAccountKey] = pod.ServiceAccount
	}
	out[SourceKubernetes+":"+ClusterKey] = cluster
	return out
}

// Of returns what makes the identity of the pod: the labels that the filter keeps,
// and its named ports, each once, ordered by name, protocol and port.
func Of(pod state.Pod, ns state.Namespace, cluster string, filter Filter) (labels map[string]string, namedPorts []state.NamedPort) {
	return filter.Apply(PodLabels(pod, ns, cluster)), sortedPorts(pod.NamedPorts)
}

// Key returns the canonical string of an identity: "source:key=value;" for each
// label, sorted, and the named ports as one more. It does not depend on the order
// of the ports. Labels and names of ports must be ones that Kubernetes allows:
// they have no "=", ";" or "_" that could make two sets look alike.
func Key(labels map[string]string, namedPorts []state.NamedPort) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		b.WriteString(name + "=" + labels[name] + ";")
	}
	if len(namedPorts) > 0 {
		b.WriteString(namedPortsName + "=" + portsText(namedPorts) + ";")
	}
	return b.String()
}

// portsText gives ports as "name.PROTO.port", sorted and joined by "_".
func portsText(ports []state.NamedPort) string {
	parts := make([]string, 0, len(ports))
	for _, p := range sortedPorts(ports) {
		parts = append(parts, p.Name+"."+p.Protocol.String()+"."+strconv.Itoa(int(p.Port)))
	}
	return strings.Join(parts, "_")
}

func sortedPorts(ports []state.NamedPort) []state.NamedPort {
	out := slices.SortedFunc(slices.Values(ports), func(a, b state.NamedPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return slices.Compact(out)
}
