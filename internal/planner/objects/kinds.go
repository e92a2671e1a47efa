package objects

import (
	"fmt"
	"slices"
	"strings"
)

// kindReader reads the objects of one kind.
type kindReader struct {
	group, kind string
	// versions are those that are read, the one to write first.
	versions []string
	// clusterwide objects have no namespace.
	clusterwide bool
	read        func(r *reading, raw []byte)
}

func (k kindReader) apiVersion() string {
	if k.group == "" {
		return k.versions[0]
	}
	return k.group + "/" + k.versions[0]
}

// kindReaders returns the kinds that are read.
func kindReaders() []kindReader {
	v1 := []string{"v1"}
	return []kindReader{
		{kind: "Node", versions: v1, clusterwide: true, read: readNode},
		{kind: "Namespace", versions: v1, clusterwide: true, read: readNamespace},
		{kind: "Pod", versions: v1, read: readPod},
		{kind: "Service", versions: v1, read: readService},
		{kind: "Endpoints", versions: v1, read: readEndpoints},
		{kind: "ConfigMap", versions: v1, read: readConfigMap},
		{group: "discovery.k8s.io", kind: "EndpointSlice", versions: v1, read: readSlice},
		{group: "networking.k8s.io", kind: kindNetworkPolicy, versions: v1, read: readNetworkPolicy},
		{group: "cilium.io", kind: kindCilium, versions: []string{"v2"}, read: readCiliumPolicy},
		{group: "cilium.io", kind: kindClusterwide, versions: []string{"v2"}, clusterwide: true, read: readClusterwidePolicy},
		{group: "cilium.io", kind: "CiliumCIDRGroup", versions: []string{"v2", "v2alpha1"}, clusterwide: true, read: readCIDRGroup},
		{group: "cilium.io", kind: "CiliumNode", versions: []string{"v2"}, clusterwide: true, read: readCiliumNode},
		{group: "placid.io", kind: "PlacidNode", versions: []string{"v1alpha1"}, clusterwide: true, read: readPlacidNode},
	}
}

// The kinds of policies.
const (
	kindNetworkPolicy = "NetworkPolicy"
	kindCilium        = "CiliumNetworkPolicy"
	kindClusterwide   = "CiliumClusterwideNetworkPolicy"
)

// isPolicy tells whether verdicts follow from objects of the kind.
func isPolicy(kind string) bool {
	return slices.Contains([]string{kindNetworkPolicy, kindCilium, kindClusterwide, "CiliumCIDRGroup"}, kind)
}

// silentGroups have no objects that say anything of the network.
func silentGroups() []string {
	return []string{
		"apps", "batch", "autoscaling", "policy", "rbac.authorization.k8s.io", "storage.k8s.io", "coordination.k8s.io",
		"apiextensions.k8s.io", "admissionregistration.k8s.io", "apiregistration.k8s.io", "scheduling.k8s.io", "events.k8s.io",
		"node.k8s.io", "certificates.k8s.io", "flowcontrol.apiserver.k8s.io", "resource.k8s.io", "metrics.k8s.io",
		"authentication.k8s.io", "authorization.k8s.io", "gateway.networking.k8s.io", "network.alibabacloud.com", "monitoring.coreos.com",
	}
}

// silentKinds are those of other groups that say nothing that is not read from
// other objects.
func silentKinds() map[string][]string {
	return map[string][]string{
		"": {
			"Secret", "ServiceAccount", "PersistentVolume", "PersistentVolumeClaim", "ReplicationController", "Event",
			"LimitRange", "ResourceQuota", "PodTemplate", "ComponentStatus", "Binding",
		},
		"networking.k8s.io": {"Ingress", "IngressClass", "IPAddress", "ServiceCIDR"},
		"cilium.io": {
			"CiliumIdentity", "CiliumEndpoint", "CiliumEndpointSlice", "CiliumLoadBalancerIPPool", "CiliumPodIPPool",
			"CiliumL2AnnouncementPolicy", "CiliumBGPPeeringPolicy", "CiliumBGPClusterConfig", "CiliumBGPPeerConfig",
			"CiliumBGPAdvertisement", "CiliumBGPNodeConfig", "CiliumBGPNodeConfigOverride", "CiliumExternalWorkload", "CiliumGatewayClassConfig",
			"TracingPolicy", "TracingPolicyNamespaced",
		},
		"placid.io": {"PlacidIdentity", "PlacidEndpoints"},
	}
}

// foreignPolicies are the groups of policies that neither Placid nor Cilium
// enforces.
func foreignPolicies() []string {
	return []string{"crd.projectcalico.org", "projectcalico.org", "policy.networking.k8s.io", "crd.antrea.io", "security.istio.io"}
}

// treatment is what becomes of the objects of a type.
type treatment int

const (
	treatRead     treatment = iota
	treatSilently           // skipped, and nobody has to know
	treatUnknown            // skipped, and told
	treatRefuse             // a kind that counts, in a version that is not read
)

// knowledge is the table of kinds in the form that it is asked in.
type knowledge struct {
	limit int // bytes of an object
	// podFields are what is read of a Pod.
	podFields fields
	readers   map[string]kindReader // by kind
	silent    map[string]bool       // "group/" or "group/kind"
}

func newKnowledge(limit int) *knowledge {
	k := &knowledge{limit: limit, podFields: podFields(), readers: map[string]kindReader{}, silent: map[string]bool{}}
	for _, r := range kindReaders() {
		k.readers[r.kind] = r
	}
	for _, group := range silentGroups() {
		k.silent[group+"/"] = true
	}
	for group, kinds := range silentKinds() {
		for _, kind := range kinds {
			k.silent[group+"/"+kind] = true
		}
	}
	return k
}

// treat says what becomes of an object, by its type alone. why explains a refusal.
func (k *knowledge) treat(t typeMeta) (reader kindReader, how treatment, why string) {
	group := t.group()
	reader, known := k.readers[t.Kind]
	switch {
	case k.silent[group+"/"] || k.silent[group+"/"+t.Kind]:
		return kindReader{}, treatSilently, ""
	case known && reader.group == group && slices.Contains(reader.versions, t.version()):
		return reader, treatRead, ""
	case known && t.APIVersion == "":
		return kindReader{}, treatRefuse, fmt.Sprintf("it has no apiVersion; write apiVersion: %s", reader.apiVersion())
	case known && (reader.group == group || isPolicy(t.Kind) && !slices.Contains(foreignPolicies(), group)):
		return kindReader{}, treatRefuse, fmt.Sprintf(
			"apiVersion %s of the kind is not read; write it as %s (kubectl convert does that), or export it from an API server that serves it",
			t.APIVersion, reader.apiVersion())
	}
	return kindReader{}, treatUnknown, ""
}

// unknownText tells about objects of a kind that is not read.
func unknownText(t typeMeta, count int) string {
	name := t.Kind
	if t.APIVersion != "" {
		name += " (" + t.APIVersion + ")"
	}
	what := fmt.Sprintf("%d objects of the kind %s are not read", count, name)
	if count == 1 {
		what = "an object of the kind " + name + " is not read"
	}
	switch group := t.group(); {
	case slices.Contains(foreignPolicies(), group):
		return what + ": neither Placid nor Cilium enforces it, and no verdict counts it in"
	case group == "cilium.io" && strings.HasSuffix(t.Kind, "Policy"):
		return what + ": no verdict counts in where it sends traffic"
	}
	return what
}
