package objects

import (
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
		r.keep(policyRows{k8s.PolicyRow(&obj)})
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
