package k8s

import (
	corev1 "k8s.io/api/core/v1"
)

// zoneSink takes this node's zone from its Node object.
type zoneSink struct {
	self   string
	nodes  *nodeSink
	synced *once
}

func newZoneSink(self string, nodes *nodeSink) *zoneSink {
	return &zoneSink{self: self, nodes: nodes, synced: newOnce()}
}

func (s *zoneSink) upsert(obj *corev1.Node) error {
	if obj.Name != s.self {
		return nil
	}
	return s.nodes.setZone(obj.Labels[corev1.LabelTopologyZone])
}

func (s *zoneSink) remove(obj *corev1.Node) error {
	if obj.Name != s.self {
		return nil
	}
	return s.nodes.setZone("")
}

func (s *zoneSink) replace(objs []*corev1.Node) error {
	zone := ""
	for _, obj := range objs {
		if obj.Name == s.self {
			zone = obj.Labels[corev1.LabelTopologyZone]
		}
	}
	if err := s.nodes.setZone(zone); err != nil {
		return err
	}
	s.synced.done()
	return nil
}

// trimNode returns the parts of a Node that zoneSink reads.
func trimNode(obj *corev1.Node) *corev1.Node {
	meta := trimMeta(obj)
	if zone, ok := obj.Labels[corev1.LabelTopologyZone]; ok {
		meta.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	return &corev1.Node{ObjectMeta: meta}
}
