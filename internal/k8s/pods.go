package k8s

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/placid-net/placid/internal/state"
)

// podSink holds the pods of this node that have a network of their own, here
// and in the table of pods.
type podSink struct {
	tables *state.Tables
	synced *once

	mu   sync.Mutex
	pods map[types.NamespacedName]localPod
}

// localPod is one pod: its name for the container runtime, and the UID of its
// API object, which is another one for static pods.
type localPod struct {
	ref state.PodRef
	uid types.UID
}

func newPodSink(tables *state.Tables) *podSink {
	return &podSink{tables: tables, synced: newOnce(), pods: map[types.NamespacedName]localPod{}}
}

// PodsSynced is closed when LocalPods and the table of pods are complete for
// the first time.
func (c *Client) PodsSynced() <-chan struct{} { return c.pods.synced.ch }

// LocalPods returns the pods of this node that have a network of their own
// (not hostNetwork), as they were last known, with the UID that the container
// runtime knows them by. A pod that was just bound to the node may be missing,
// and during an outage of the API server the set is old: before something of a
// missing pod is removed, ask PodGone.
func (c *Client) LocalPods() map[state.PodRef]struct{} {
	c.pods.mu.Lock()
	defer c.pods.mu.Unlock()
	out := make(map[state.PodRef]struct{}, len(c.pods.pods))
	for _, p := range c.pods.pods {
		out[p.ref] = struct{}{}
	}
	return out
}

// PodGone asks the API server whether the pod does not exist on this node any
// more. A pod of the same name with another UID, or on another node, is not
// the same. An empty ref.UID stands for any.
func (c *Client) PodGone(ctx context.Context, ref state.PodRef) (bool, error) {
	var pod corev1.Pod
	err := c.core.Get().MaxRetries(0).Namespace(ref.Namespace).Resource("pods").Name(ref.Name).Do(ctx).Into(&pod)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("get pod %s: %w", ref, err)
	}
	other := ref.UID != "" && ref.UID != podRef(&pod).UID
	return other || pod.Spec.NodeName != c.nodeName, nil
}

// podRef names the pod as the container runtime does. The API object of a
// static pod is a mirror with another UID; the pod's own is in an annotation.
func podRef(pod *corev1.Pod) state.PodRef {
	ref := state.PodRef{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)}
	if uid := pod.Annotations[corev1.MirrorPodAnnotationKey]; uid != "" {
		ref.UID = uid
	}
	return ref
}

// trimPod returns the parts of a pod that podSink and PodRow read.
func trimPod(pod *corev1.Pod) *corev1.Pod {
	meta := trimMeta(pod)
	meta.Labels, meta.CreationTimestamp = pod.Labels, pod.CreationTimestamp
	if uid, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]; ok {
		meta.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: uid}
	}
	return &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{
		HostNetwork: pod.Spec.HostNetwork, ServiceAccountName: pod.Spec.ServiceAccountName,
		Containers: trimContainers(slices.Concat(sidecars(pod.Spec.InitContainers), pod.Spec.Containers)),
	}}
}

func (s *podSink) upsert(pod *corev1.Pod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upsertLocked(pod)
}

func (s *podSink) upsertLocked(pod *corev1.Pod) error {
	if pod.Spec.HostNetwork {
		return nil
	}
	s.pods[podKey(pod)] = localPod{ref: podRef(pod), uid: pod.UID}
	return s.tables.UpsertPod(PodRow(pod))
}

func (s *podSink) remove(pod *corev1.Pod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, podKey(pod))
	return s.tables.DeletePod(pod.Namespace, pod.Name)
}

func (s *podSink) replace(pods []*corev1.Pod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := maps.Clone(s.pods)
	clear(s.pods)
	for _, pod := range pods {
		if err := s.upsertLocked(pod); err != nil {
			return err
		}
	}
	for key := range before {
		if _, ok := s.pods[key]; ok {
			continue
		}
		if err := s.tables.DeletePod(key.Namespace, key.Name); err != nil {
			return err
		}
	}
	s.synced.done()
	return nil
}

func podKey(pod *corev1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
}

// objectUID returns the UID of the pod's API object, as far as it is known.
func (s *podSink) objectUID(ref state.PodRef) types.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pods[types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}]
	if ok && (ref.UID == "" || ref.UID == p.ref.UID) {
		return p.uid
	}
	return types.UID(ref.UID)
}
