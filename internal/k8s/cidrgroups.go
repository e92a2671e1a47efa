package k8s

import (
	"fmt"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/state"
)

// CIDRGroupRow converts a CiliumCIDRGroup. A CIDR that is not understood is left
// out and named in Problems.
func CIDRGroupRow(obj *v2.CiliumCIDRGroup) state.CIDRGroup {
	out := state.CIDRGroup{Name: obj.Name, Labels: obj.Labels}
	for i, s := range obj.Spec.ExternalCIDRs {
		p, err := ciliumCIDR(s)
		if err != nil {
			out.Problems = append(out.Problems, fmt.Sprintf("spec.externalCIDRs[%d]: %v; it is left out", i, err))
			continue
		}
		out.CIDRs = append(out.CIDRs, p)
	}
	return out
}
