package objects

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// nodeObject is what is read of a Node.
type nodeObject struct {
	meta
	Spec struct {
		PodCIDR  string   `json:"podCIDR"`
		PodCIDRs []string `json:"podCIDRs"`
	} `json:"spec"`
	Status struct {
		Addresses   []corev1.NodeAddress       `json:"addresses"`
		Capacity    map[string]json.RawMessage `json:"capacity"`
		Allocatable map[string]json.RawMessage `json:"allocatable"`
	} `json:"status"`
}

func readNode(r *reading, raw []byte) {
	var obj nodeObject
	if !r.decode(raw, &obj) {
		return
	}
	labels := obj.Metadata.Labels
	row := snapshot.Node{
		Name: obj.Metadata.Name, Labels: labels,
		Zone:         cmp.Or(labels[corev1.LabelTopologyZone], labels[corev1.LabelFailureDomainBetaZone]),
		InstanceType: cmp.Or(labels[corev1.LabelInstanceTypeStable], labels[corev1.LabelInstanceType]),
		Memory:       uint64(r.quantity("status.capacity", obj.Status.Capacity, corev1.ResourceMemory)),
		CPUs:         int(r.quantity("status.capacity", obj.Status.Capacity, corev1.ResourceCPU)),
		MaxPods:      int(r.quantity("status.allocatable", obj.Status.Allocatable, corev1.ResourcePods)),
	}
	for i, a := range obj.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if addr, ok := r.addr(fmt.Sprintf("status.addresses[%d].address", i), a.Address); ok {
			row.Addrs = append(row.Addrs, addr)
		}
	}
	ranges := obj.Spec.PodCIDRs
	if len(ranges) == 0 && obj.Spec.PodCIDR != "" {
		ranges = []string{obj.Spec.PodCIDR}
	}
	row.PodCIDRs = r.prefixes("spec.podCIDRs", ranges)
	r.keep(row)
}

// quantity reads an amount of something, a string or a number, rounded up; 0 where
// it is not told.
func (r *reading) quantity(field string, amounts map[string]json.RawMessage, name corev1.ResourceName) int64 {
	raw, found := amounts[string(name)]
	if !found {
		return 0
	}
	text := strings.Trim(string(raw), `"`)
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 || q.Value() == math.MaxInt64 {
		r.doubt(field+"."+string(name), fmt.Sprintf("%q is no amount; it is taken as not known", text))
		return 0
	}
	return q.Value()
}

// nodeRanges is what the network's own object says of a node. It stands for the
// Node where there is none, and its ranges go before those of the Node, which are
// not used then.
type nodeRanges struct {
	node     snapshot.Node
	platform snapshot.Platform
}

// ciliumNodeObject is what is read of a CiliumNode.
type ciliumNodeObject struct {
	meta
	Spec struct {
		Addresses []struct {
			IP   string                 `json:"ip"`
			Type corev1.NodeAddressType `json:"type"`
		} `json:"addresses"`
		IPAM struct {
			PodCIDRs []string `json:"podCIDRs"`
		} `json:"ipam"`
	} `json:"spec"`
}

func readCiliumNode(r *reading, raw []byte) {
	var obj ciliumNodeObject
	if !r.decode(raw, &obj) {
		return
	}
	row := nodeRanges{platform: snapshot.Cilium, node: nodeOf(&obj.meta)}
	for i, a := range obj.Spec.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if addr, ok := r.addr(fmt.Sprintf("spec.addresses[%d].ip", i), a.IP); ok {
			row.node.Addrs = append(row.node.Addrs, addr)
		}
	}
	row.node.PodCIDRs = r.prefixes("spec.ipam.podCIDRs", obj.Spec.IPAM.PodCIDRs)
	r.keep(row)
}

// placidNodeObject is what is read of a PlacidNode.
type placidNodeObject struct {
	meta
	Spec struct {
		PodCIDRs  []string `json:"podCIDRs"`
		Addresses []string `json:"addresses"`
	} `json:"spec"`
}

func readPlacidNode(r *reading, raw []byte) {
	var obj placidNodeObject
	if !r.decode(raw, &obj) {
		return
	}
	row := nodeRanges{platform: snapshot.Placid, node: nodeOf(&obj.meta)}
	var addrs []netip.Addr
	for i, text := range obj.Spec.Addresses {
		if a, ok := r.addr(fmt.Sprintf("spec.addresses[%d]", i), text); ok {
			addrs = append(addrs, a)
		}
	}
	row.node.Addrs, row.node.PodCIDRs = addrs, r.prefixes("spec.podCIDRs", obj.Spec.PodCIDRs)
	r.keep(row)
}

func nodeOf(m *meta) snapshot.Node {
	labels := m.Metadata.Labels
	return snapshot.Node{
		Name: m.Metadata.Name, Labels: labels,
		Zone: labels[corev1.LabelTopologyZone], InstanceType: labels[corev1.LabelInstanceTypeStable],
	}
}
