package objects

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// meta is what is read of an object's metadata. Objects that come by the ten
// thousand are read through types of their own, which have only the fields that
// count: most of an object is skipped.
type meta struct {
	Metadata struct {
		Name              string                  `json:"name"`
		Namespace         string                  `json:"namespace"`
		UID               types.UID               `json:"uid"`
		Labels            map[string]string       `json:"labels"`
		Annotations       map[string]string       `json:"annotations"`
		CreationTimestamp metav1.Time             `json:"creationTimestamp"`
		OwnerReferences   []metav1.OwnerReference `json:"ownerReferences"`
	} `json:"metadata"`
}

func (m *meta) GetName() string               { return m.Metadata.Name }
func (m *meta) GetNamespace() string          { return m.Metadata.Namespace }
func (m *meta) SetNamespace(namespace string) { m.Metadata.Namespace = namespace }

// podObject is what is read of a Pod.
type podObject struct {
	meta
	Spec struct {
		NodeName           string         `json:"nodeName"`
		HostNetwork        bool           `json:"hostNetwork"`
		ServiceAccountName string         `json:"serviceAccountName"`
		Containers         []podContainer `json:"containers"`
		InitContainers     []podContainer `json:"initContainers"`
	} `json:"spec"`
	Status struct {
		Phase  corev1.PodPhase `json:"phase"`
		PodIP  string          `json:"podIP"`
		PodIPs []corev1.PodIP  `json:"podIPs"`
	} `json:"status"`
}

type podContainer struct {
	Ports         []corev1.ContainerPort         `json:"ports"`
	RestartPolicy *corev1.ContainerRestartPolicy `json:"restartPolicy"`
}

func readPod(r *reading, raw []byte) {
	var obj podObject
	if !r.decode(raw, &obj) || obj.Status.Phase == corev1.PodSucceeded || obj.Status.Phase == corev1.PodFailed {
		return
	}
	m := &obj.Metadata
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: m.Name, Namespace: m.Namespace, UID: m.UID, Labels: m.Labels, Annotations: m.Annotations,
			CreationTimestamp: m.CreationTimestamp,
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: cmp.Or(obj.Spec.ServiceAccountName, "default"), // as the API server fills it in
			Containers:         containers(obj.Spec.Containers), InitContainers: containers(obj.Spec.InitContainers),
		},
	}
	row := snapshot.Pod{Pod: k8s.PodRow(&pod), Node: obj.Spec.NodeName, HostNetwork: obj.Spec.HostNetwork, Owner: owner(m.OwnerReferences)}
	row.Addrs = r.podAddrs(&obj)
	r.ports(&obj, &row)
	r.keep(row)
}

func containers(cs []podContainer) []corev1.Container {
	var out []corev1.Container
	for _, c := range cs {
		if len(c.Ports) > 0 {
			out = append(out, corev1.Container{Ports: c.Ports, RestartPolicy: c.RestartPolicy})
		}
	}
	return out
}

// owner names the object that controls a pod.
func owner(refs []metav1.OwnerReference) string {
	for _, o := range refs {
		if o.Controller != nil && *o.Controller {
			return o.Kind + "/" + o.Name
		}
	}
	return ""
}

func (r *reading) podAddrs(obj *podObject) []netip.Addr {
	ips := obj.Status.PodIPs
	if len(ips) == 0 && obj.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: obj.Status.PodIP}}
	}
	var out []netip.Addr
	for i, ip := range ips {
		if a, ok := r.addr(fmt.Sprintf("status.podIPs[%d].ip", i), ip.IP); ok {
			out = append(out, a)
		}
	}
	return out
}

// ports fills in the ports of what runs for as long as the pod does: its containers,
// and the init containers that are restarted.
func (r *reading) ports(obj *podObject, row *snapshot.Pod) {
	add := func(field string, c *podContainer) {
		for i, p := range c.Ports {
			r.port(fmt.Sprintf("%s.ports[%d]", field, i), p, row)
		}
	}
	for i := range obj.Spec.InitContainers {
		if c := &obj.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(fmt.Sprintf("spec.initContainers[%d]", i), c)
		}
	}
	for i := range obj.Spec.Containers {
		add(fmt.Sprintf("spec.containers[%d]", i), &obj.Spec.Containers[i])
	}
	slices.SortFunc(row.Ports, func(a, b state.NamedPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	row.Ports = slices.Compact(row.Ports)
}

// port adds a port of a container, and the one of the node that leads to it. That of
// a pod in the node's own network leads nowhere else.
func (r *reading) port(field string, p corev1.ContainerPort, row *snapshot.Pod) {
	protocol, known := protocolOf(p.Protocol)
	isPort := func(n int32) bool { return n > 0 && n <= math.MaxUint16 }
	if !known || !isPort(p.ContainerPort) || p.HostPort != 0 && !isPort(p.HostPort) {
		r.doubt(field, "it is no port of a pod; it is left out")
		return
	}
	row.Ports = append(row.Ports, state.NamedPort{Name: p.Name, Protocol: protocol, Port: uint16(p.ContainerPort)})
	if row.HostNetwork || p.HostPort == 0 {
		return
	}
	out := state.HostPort{Protocol: protocol, HostPort: uint16(p.HostPort), ContainerPort: uint16(p.ContainerPort)}
	if p.HostIP != "" {
		var ok bool
		if out.HostIP, ok = r.addr(field+".hostIP", p.HostIP); !ok {
			return
		}
	}
	row.HostPorts = append(row.HostPorts, out)
}

func protocolOf(p corev1.Protocol) (protocol state.Protocol, known bool) {
	switch p {
	case "", corev1.ProtocolTCP:
		return state.ProtocolTCP, true
	case corev1.ProtocolUDP:
		return state.ProtocolUDP, true
	case corev1.ProtocolSCTP:
		return state.ProtocolSCTP, true
	}
	return 0, false
}

// addr reads an address; one that is none is told, and left out.
func (r *reading) addr(field, text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		r.doubt(field, fmt.Sprintf("%q is not an IP address; it is left out", text))
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// prefixes reads CIDRs; what is none is told, and left out.
func (r *reading) prefixes(field string, texts []string) []netip.Prefix {
	var out []netip.Prefix
	for i, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			r.doubt(fmt.Sprintf("%s[%d]", field, i), fmt.Sprintf("%q is not a CIDR; it is left out", text))
			continue
		}
		out = append(out, p.Masked())
	}
	return out
}

func readNamespace(r *reading, raw []byte) {
	var obj corev1.Namespace
	if !r.decode(raw, &obj) {
		return
	}
	row := k8s.NamespaceRow(&obj)
	row.Labels = withOwnName(row.Labels, obj.Name)
	r.keep(row)
}

// withOwnName adds the label that the API server gives every namespace.
func withOwnName(labels map[string]string, name string) map[string]string {
	if labels == nil {
		labels = map[string]string{}
	}
	labels[corev1.LabelMetadataName] = name
	return labels
}
