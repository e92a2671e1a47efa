package k8s

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/placid-net/placid/internal/state"
)

// PodRow converts a pod, as the container runtime knows it. It reads no more
// than trimPod keeps.
func PodRow(pod *corev1.Pod) state.Pod {
	return state.Pod{
		Ref: podRef(pod), Labels: pod.Labels, ServiceAccount: pod.Spec.ServiceAccountName,
		NamedPorts: podPorts(&pod.Spec), CreatedAt: pod.CreationTimestamp.UTC(),
	}
}

// podPorts returns the named ports of what runs for as long as the pod does: its
// containers and the init containers that are restarted (sidecars).
func podPorts(spec *corev1.PodSpec) []state.NamedPort {
	var out []state.NamedPort
	for _, c := range slices.Concat(sidecars(spec.InitContainers), spec.Containers) {
		for _, p := range c.Ports {
			protocol, known := parseProtocol(cmp.Or(p.Protocol, corev1.ProtocolTCP))
			if p.Name == "" || !known || p.ContainerPort < 1 || p.ContainerPort > maxPort {
				continue
			}
			out = append(out, state.NamedPort{Name: p.Name, Protocol: protocol, Port: uint16(p.ContainerPort)})
		}
	}
	return sortPorts(out)
}

// sortPorts puts named ports into the order of the tables, each once.
func sortPorts(ports []state.NamedPort) []state.NamedPort {
	slices.SortFunc(ports, func(a, b state.NamedPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return slices.Compact(ports)
}

func sidecars(init []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for _, c := range init {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	return out
}

// trimContainers keeps the named ports, in one container.
func trimContainers(cs []corev1.Container) []corev1.Container {
	var ports []corev1.ContainerPort
	for _, c := range cs {
		for _, p := range c.Ports {
			if p.Name != "" {
				ports = append(ports, corev1.ContainerPort{Name: p.Name, Protocol: p.Protocol, ContainerPort: p.ContainerPort})
			}
		}
	}
	if len(ports) == 0 {
		return nil
	}
	return []corev1.Container{{Ports: ports}}
}
