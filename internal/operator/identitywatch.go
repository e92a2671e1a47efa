package operator

import (
	"maps"
	"slices"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/k8s"
)

// on makes an event handler of one kind of object. set is told of an object that
// is there; came is true unless it was there before the watch began.
func on[T client.Object](set func(object T, came bool), remove func(T)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(in any, initial bool) {
			if o, ok := in.(T); ok {
				set(o, !initial)
			}
		},
		UpdateFunc: func(_, in any) {
			if o, ok := in.(T); ok {
				set(o, true)
			}
		},
		DeleteFunc: func(in any) {
			if unknown, ok := in.(toolscache.DeletedFinalStateUnknown); ok {
				in = unknown.Obj
			}
			if o, ok := in.(T); ok {
				remove(o)
			}
		},
	}
}

func (d *identities) identityEvents() toolscache.ResourceEventHandler {
	return on(func(id *v1alpha1.PlacidIdentity, _ bool) {
		if err := d.sets.setIdentity(id); err != nil {
			d.logger.Warn("a PlacidIdentity that makes no sense is left alone; delete it", "error", err)
		}
	}, d.sets.removeIdentity)
}

func (d *identities) endpointsEvents() toolscache.ResourceEventHandler {
	return on(func(pe *v1alpha1.PlacidEndpoints, _ bool) {
		var numbers []uint32
		for _, e := range pe.Endpoints {
			numbers = append(numbers, uint32(e.Identity))
		}
		d.sets.setListed(pe.Name, numbers)
	}, func(pe *v1alpha1.PlacidEndpoints) { d.sets.setListed(pe.Name, nil) })
}

func (d *identities) namespaceEvents() toolscache.ResourceEventHandler {
	return on(func(ns *corev1.Namespace, _ bool) { d.sets.setNamespace(ns.Name, ns.UID, ns.Labels) },
		func(ns *corev1.Namespace) { d.sets.removeNamespace(ns.Name) })
}

func (d *identities) podEvents() toolscache.ResourceEventHandler {
	return on(func(pod *corev1.Pod, came bool) {
		if hasNetwork(pod) {
			d.sets.setPod(k8s.PodRow(pod), came)
		} else {
			d.sets.removePod(pod.Namespace, pod.Name)
		}
	}, func(pod *corev1.Pod) { d.sets.removePod(pod.Namespace, pod.Name) })
}

// hasNetwork says whether the pod has, or will have, a network of its own.
func hasNetwork(pod *corev1.Pod) bool {
	return !pod.Spec.HostNetwork && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// stripPod keeps of a Pod what the operator reads, so that 50,000 of them fit into
// little memory. Equal strings are kept once.
func stripPod(in any) (any, error) {
	pod, ok := in.(*corev1.Pod)
	if !ok {
		return in, nil
	}
	out := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: shared(pod.Namespace), Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			CreationTimestamp: pod.CreationTimestamp, DeletionTimestamp: pod.DeletionTimestamp,
		},
		Spec:   corev1.PodSpec{ServiceAccountName: shared(pod.Spec.ServiceAccountName), HostNetwork: pod.Spec.HostNetwork},
		Status: corev1.PodStatus{Phase: pod.Status.Phase},
	}
	if len(pod.Labels) > 0 {
		out.Labels = make(map[string]string, len(pod.Labels))
		for k, v := range pod.Labels {
			out.Labels[shared(k)] = shared(v)
		}
	}
	var named []corev1.ContainerPort
	for _, p := range k8s.PodRow(pod).NamedPorts {
		named = append(named, corev1.ContainerPort{
			Name: shared(p.Name), Protocol: corev1.Protocol(p.Protocol.String()), ContainerPort: int32(p.Port),
		})
	}
	if named != nil {
		out.Spec.Containers = []corev1.Container{{Ports: named}}
	}
	return out, nil
}

func shared(s string) string { return unique.Make(s).Value() }

// stripNamespace keeps of a Namespace its labels.
func stripNamespace(in any) (any, error) {
	ns, ok := in.(*corev1.Namespace)
	if !ok {
		return in, nil
	}
	ns.ManagedFields, ns.Annotations = nil, nil
	ns.Spec, ns.Status = corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
	return ns, nil
}

// stripEndpoints keeps of a PlacidEndpoints the identities that it lists.
func stripEndpoints(in any) (any, error) {
	pe, ok := in.(*v1alpha1.PlacidEndpoints)
	if !ok {
		return in, nil
	}
	pe.ManagedFields, pe.Annotations = nil, nil
	numbers := map[int64]bool{}
	for _, e := range pe.Endpoints {
		numbers[e.Identity] = true
	}
	pe.Endpoints = nil
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		pe.Endpoints = append(pe.Endpoints, v1alpha1.PublishedEndpoint{Identity: n})
	}
	return pe, nil
}
