package objects

import (
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/state"
)

// policyRows are the policies of one object.
type policyRows []state.NetworkPolicy

func readNetworkPolicy(r *reading, raw []byte) {
	var obj networkingv1.NetworkPolicy
	if r.decode(raw, &obj) {
		r.unlisted("spec.ingress", len(obj.Spec.Ingress), obj.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
		r.unlisted("spec.egress", len(obj.Spec.Egress), obj.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		r.keep(policyRows{k8s.PolicyRow(&obj)})
	}
}

// unlisted tells of rules of a direction that a NetworkPolicy is not about: nobody
// reads them.
func (r *reading) unlisted(field string, rules int, types []networkingv1.PolicyType, direction networkingv1.PolicyType) {
	if rules > 0 && len(types) > 0 && !slices.Contains(types, direction) {
		r.doubt(field, fmt.Sprintf("its rules have no effect, and pods are not isolated by them: spec.policyTypes does not list %s", direction))
	}
}

func readCiliumPolicy(r *reading, raw []byte) {
	var obj v2.CiliumNetworkPolicy
	if r.decode(raw, &obj) {
		r.keep(policyRows(k8s.CiliumRows(&obj)))
	}
}

func readClusterwidePolicy(r *reading, raw []byte) {
	var obj v2.CiliumClusterwideNetworkPolicy
	if r.decode(raw, &obj) {
		r.keep(policyRows(k8s.CiliumClusterwideRows(&obj)))
	}
}

func readCIDRGroup(r *reading, raw []byte) {
	var obj v2.CiliumCIDRGroup
	if r.decode(raw, &obj) {
		r.keep(k8s.CIDRGroupRow(&obj))
	}
}
