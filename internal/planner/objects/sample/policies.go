package sample

import (
	"fmt"
	"strings"
)

// networkPolicies are Kubernetes' own policies: what is the same in many
// namespaces, and then those that somebody wrote for one.
func networkPolicies() string {
	var out strings.Builder
	out.WriteString("# NetworkPolicies: the same three in many namespaces, and then one by one.\n")
	for ns := range strings.FieldsSeq(`storefront mobile-api partner-api checkout cart orders pricing payments billing invoices
		catalog search inventory shipping accounts auth notifications redis databases kafka`) {
		out.WriteString(document("networking.k8s.io/v1", "NetworkPolicy", ns, "default-deny-ingress", `
spec:
  podSelector: {}
  policyTypes: [Ingress]
`))
	}
	for ns := range strings.FieldsSeq("storefront mobile-api partner-api checkout cart orders catalog search accounts auth reviews media") {
		out.WriteString(document("networking.k8s.io/v1", "NetworkPolicy", ns, "allow-from-ingress", fmt.Sprintf(`
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: %s-api}
  ingress:
  - from:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: ingress-nginx}
    ports:
    - {port: http}
`, ns)))
	}
	for ns := range strings.FieldsSeq("storefront checkout orders payments catalog search accounts auth") {
		out.WriteString(document("networking.k8s.io/v1", "NetworkPolicy", ns, "allow-prometheus", `
spec:
  podSelector: {}
  ingress:
  - from:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: monitoring}
      podSelector:
        matchLabels: {app.kubernetes.io/name: prometheus}
    ports:
    - {port: metrics}
`))
	}
	return out.String() + singleNetworkPolicies
}

// document is one policy; body is its spec, after comments.
func document(version, kind, namespace, name, body string) string {
	where := ""
	if namespace != "" {
		where = ", namespace: " + namespace
	}
	return fmt.Sprintf("---\napiVersion: %s\nkind: %s\nmetadata: {name: %s%s}\n%s", version, kind, name, where, strings.TrimPrefix(body, "\n"))
}

const singleNetworkPolicies = `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-checkout, namespace: payments}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: payments-api}
  ingress:
  - from:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: checkout}
      podSelector:
        matchLabels: {app.kubernetes.io/name: checkout-api}
    ports:
    - {port: 8080}
---
# Selects by a label that only some pods of the namespaces have.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-buying-team, namespace: orders}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: orders-api}
  ingress:
  - from:
    - namespaceSelector: {}
      podSelector:
        matchLabels: {team: buying}
    ports:
    - {port: 8080}
---
# "serach": selects nothing.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-search, namespace: catalog}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: catalog-api}
  ingress:
  - from:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: search}
      podSelector:
        matchLabels: {app.kubernetes.io/name: serach-api}
    ports:
    - {port: http}
---
# No pod of the namespace has the port 9999.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-warehouse, namespace: inventory}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: inventory-api}
  ingress:
  - from:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: warehouse}
    ports:
    - {port: 9999}
---
# 10.244.0.0/16 are the pods: with Cilium an ipBlock selects none of them.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-cluster, namespace: shipping}
spec:
  podSelector: {}
  ingress:
  - from:
    - ipBlock: {cidr: 10.244.0.0/16}
    ports:
    - {port: 8080}
---
# An empty "from" is everybody, and not nobody.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: billing}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: billing-api}
  ingress:
  - from: []
---
# This is nobody.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: invoices}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: invoices-worker}
  ingress: []
---
# Needs the label "track", which a tight filter of labels would drop.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: stable-only, namespace: pricing}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: pricing-api}
  ingress:
  - from:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: checkout}
      podSelector:
        matchLabels: {track: stable}
    ports:
    - {port: http}
---
# Selects by a label whose values are the ordinals of pods.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-brokers, namespace: kafka}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: kafka}
  ingress:
  - from:
    - podSelector:
        matchExpressions:
        - {key: broker-id, operator: Exists}
    ports:
    - {port: tcp-replication}
  - from:
    - namespaceSelector:
        matchLabels: {environment: prod}
    ports:
    - {port: tcp-clients}
---
# No way out to the DNS.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: database-only, namespace: support}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: support-worker}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: databases}
      podSelector:
        matchLabels: {app.kubernetes.io/name: postgres}
    ports:
    - {port: 5432}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: fetch-from-outside, namespace: media}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: media-worker}
  policyTypes: [Egress]
  egress:
  - to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [169.254.169.254/32, 10.0.0.0/8]
    ports:
    - {port: 443}
  - ports:
    - {port: 53, protocol: UDP}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-applications, namespace: databases}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: postgres}
  ingress:
  - from:
    - namespaceSelector:
        matchExpressions:
        - {key: environment, operator: In, values: [prod]}
    ports:
    - {port: postgresql}
`

// clusterwidePolicies are Cilium's of the whole cluster.
func clusterwidePolicies() string {
	return `# CiliumClusterwideNetworkPolicies.
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: deny-metadata-service}
spec:
  description: nothing but the network itself asks the cloud for credentials
  endpointSelector: {}
  enableDefaultDeny: {egress: false}
  egressDeny:
  - toCIDR: [169.254.169.254/32]
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: allow-nodes}
spec:
  endpointSelector: {}
  enableDefaultDeny: {ingress: false}
  ingress:
  - fromEntities: [host, remote-node, health]
---
# Denies some of what goes out, and without enableDefaultDeny all the rest too.
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: previews-stay-away}
spec:
  endpointSelector:
    matchLabels: {io.cilium.k8s.namespace.labels.environment: preview}
  egressDeny:
  - toEndpoints:
    - matchLabels: {io.cilium.k8s.namespace.labels.environment: prod}
      matchExpressions:
      - {key: "k8s:io.kubernetes.pod.namespace", operator: NotIn, values: [kube-system]}
---
# Selects nothing, and is meant to.
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: quarantine}
spec:
  endpointSelector:
    matchLabels: {security.example.com/quarantine: "true"}
  ingressDeny:
  - fromEntities: [all]
  egressDeny:
  - toEntities: [all]
---
# A policy of nodes.
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: node-firewall}
spec:
  nodeSelector:
    matchLabels: {node.kubernetes.io/instance-type: r6i.xlarge}
  ingress:
  - fromEntities: [cluster]
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: jobs-go-out}
spec:
  endpointSelector:
    matchExpressions:
    - {key: ci.example.com/job-id, operator: Exists}
  egress:
  - toEntities: [world]
    toPorts:
    - ports:
      - {port: "443", protocol: TCP}
  - toEndpoints:
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system, k8s-app: kube-dns}
    toPorts:
    - ports:
      - {port: "53", protocol: ANY}
`
}

func cidrGroups() string {
	return `apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: offices, labels: {use: people}}
spec:
  externalCIDRs: [192.0.2.0/25, 198.51.100.0/24, "2001:db8:0f1c::/48"]
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: partners, labels: {use: machines}}
spec:
  externalCIDRs: [203.0.113.64/26]
`
}

// configMaps are Cilium's settings, as its chart writes them.
func configMaps() string {
	return `apiVersion: v1
kind: ConfigMap
metadata: {name: cilium-config, namespace: kube-system}
data:
  bpf-lb-map-max: "65536"
  bpf-map-dynamic-size-ratio: "0.0025"
  bpf-policy-map-max: "16384"
  cluster-id: "0"
  cluster-name: fernhill-prod
  cluster-pool-ipv4-cidr: 10.244.0.0/16
  cluster-pool-ipv4-mask-size: "24"
  enable-ipv4: "true"
  enable-ipv6: "false"
  enable-policy: default
  identity-allocation-mode: crd
  ipam: cluster-pool
  kube-proxy-replacement: "true"
  routing-mode: native
  ipv4-native-routing-cidr: 10.244.0.0/16
`
}
