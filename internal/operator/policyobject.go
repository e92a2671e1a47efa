package operator

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/state"
)

// The names of the definitions of Cilium's policies.
const (
	ciliumPolicyCRD      = "ciliumnetworkpolicies.cilium.io"
	clusterwidePolicyCRD = "ciliumclusterwidenetworkpolicies.cilium.io"
)

// policyObject is a policy of any kind.
type policyObject struct {
	object client.Object
	rows   []state.NetworkPolicy // at least one
	// bare makes an object of the kind with this metadata.
	bare func(metav1.ObjectMeta) client.Object
}

func kubernetesPolicy(p *networkingv1.NetworkPolicy) policyObject {
	return policyObject{p, []state.NetworkPolicy{k8s.PolicyRow(p)}, func(m metav1.ObjectMeta) client.Object {
		return &networkingv1.NetworkPolicy{ObjectMeta: m}
	}}
}

func ciliumPolicy(p *v2.CiliumNetworkPolicy) policyObject {
	return policyObject{p, k8s.CiliumRows(p), func(m metav1.ObjectMeta) client.Object { return &v2.CiliumNetworkPolicy{ObjectMeta: m} }}
}

func clusterwidePolicy(p *v2.CiliumClusterwideNetworkPolicy) policyObject {
	return policyObject{p, k8s.CiliumClusterwideRows(p), func(m metav1.ObjectMeta) client.Object {
		return &v2.CiliumClusterwideNetworkPolicy{ObjectMeta: m}
	}}
}

// key tells the object from all other policies.
func (p policyObject) key() string {
	row := p.rows[0]
	row.Part = 0
	return row.Key()
}

// label is what metrics have for the policy: its name, of Cilium's kinds after the
// short name of the kind, "cnp/web".
func (p policyObject) label() string {
	kind := ""
	if p.rows[0].Kind != state.PolicyKubernetes {
		kind, _, _ = strings.Cut(p.key(), "/")
		kind += "/"
	}
	return kind + p.object.GetName()
}

// about is the object as events name it.
func (p policyObject) about() client.Object {
	return p.bare(metav1.ObjectMeta{Namespace: p.object.GetNamespace(), Name: p.object.GetName(), UID: p.object.GetUID()})
}

// policyEvents hears of the policies of one kind.
func policyEvents[T client.Object](d *identities, of func(T) policyObject) toolscache.ResourceEventHandler {
	return on(func(p T, _ bool) {
		d.reports.setPolicy(of(p))
		d.need(true)
	}, func(p T) {
		left := d.reports.removePolicy(of(p))
		d.need(left > 0 || d.mode == PolicyAlways)
	})
}

// policyWatches are the kinds of policies that count.
func (d *identities) policyWatches() []watched {
	var out []watched
	if d.policies {
		out = append(out, watched{&networkingv1.NetworkPolicy{}, policyEvents(d, kubernetesPolicy)})
	}
	if d.cilium {
		out = append(out, watched{&v2.CiliumNetworkPolicy{}, policyEvents(d, ciliumPolicy)})
	}
	if d.clusterwide {
		out = append(out, watched{&v2.CiliumClusterwideNetworkPolicy{}, policyEvents(d, clusterwidePolicy)})
	}
	return out
}
