package sample

import "strings"

// ciliumPolicies are Cilium's policies of single namespaces.
func ciliumPolicies() string {
	var out strings.Builder
	out.WriteString("# CiliumNetworkPolicies: what may go out of some namespaces, and then one by one.\n")
	for ns := range strings.FieldsSeq("payments billing fraud auth ml-serving") {
		out.WriteString(document("cilium.io/v2", "CiliumNetworkPolicy", ns, "stay-in-cluster", `
spec:
  endpointSelector: {}
  egress:
  - toEntities: [cluster]
  - toEndpoints:
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system, k8s-app: kube-dns}
    toPorts:
    - ports:
      - {port: "53", protocol: ANY}
`))
	}
	return out.String() + singleCiliumPolicies
}

const singleCiliumPolicies = `---
# A rule of layer 7.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: read-only-for-support, namespace: accounts}
spec:
  endpointSelector:
    matchLabels: {app.kubernetes.io/name: accounts-api}
  ingress:
  - fromEndpoints:
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": support}
    toPorts:
    - ports:
      - {port: "8080", protocol: TCP}
      rules:
        http:
        - {method: GET, path: "/v1/accounts/.*"}
---
# Names instead of addresses.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: ask-the-bureau, namespace: fraud}
spec:
  endpointSelector:
    matchLabels: {app.kubernetes.io/name: fraud-worker}
  egress:
  - toFQDNs:
    - matchName: api.bureau.example.com
    toPorts:
    - ports:
      - {port: "443", protocol: TCP}
---
# The first rule never counts: the second one denies what it allows.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: staging-may-test, namespace: payments}
spec:
  endpointSelector:
    matchLabels: {app.kubernetes.io/name: payments-api}
  ingress:
  - fromEndpoints:
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": payments-staging}
    toPorts:
    - ports:
      - {port: "8080", protocol: TCP}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: production-only, namespace: payments}
spec:
  endpointSelector: {}
  ingressDeny:
  - fromEndpoints:
    - matchExpressions:
      - {key: io.cilium.k8s.namespace.labels.environment, operator: In, values: [staging, preview]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: from-offices, namespace: admin}
spec:
  endpointSelector:
    matchLabels: {app.kubernetes.io/name: admin-api}
  ingress:
  - fromCIDRSet:
    - cidrGroupRef: offices
    - cidr: 203.0.113.0/24
      except: [203.0.113.64/26]
    toPorts:
    - ports:
      - {port: "8080", protocol: TCP}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: from-world, namespace: partner-api}
spec:
  endpointSelector:
    matchLabels: {app.kubernetes.io/name: partner-api-api}
  ingress:
  - fromEntities: [world]
    toPorts:
    - ports:
      - {port: http, protocol: TCP}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: cluster-bus, namespace: redis}
spec:
  endpointSelector:
    matchLabels: {app.kubernetes.io/name: redis}
  ingress:
  - fromEndpoints:
    - matchLabels: {app.kubernetes.io/name: redis}
    toPorts:
    - ports:
      - {port: "16379", endPort: 16384, protocol: TCP}
  - fromEndpoints:
    - matchLabels: {io.cilium.k8s.namespace.labels.environment: prod}
    toPorts:
    - ports:
      - {port: "6379", protocol: TCP}
---
# Follows a role that moves from pod to pod, and so from identity to identity.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: replicas-pull, namespace: redis}
spec:
  endpointSelector:
    matchLabels: {redis-role: master}
  ingress:
  - fromEndpoints:
    - matchLabels: {redis-role: replica}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: ask-the-api-server, namespace: cert-manager}
spec:
  endpointSelector: {}
  egress:
  - toEntities: [kube-apiserver]
  - toEndpoints:
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system, k8s-app: kube-dns}
    toPorts:
    - ports:
      - {port: "53", protocol: UDP}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: ping, namespace: search}
spec:
  endpointSelector: {}
  ingress:
  - fromEntities: [cluster]
    icmps:
    - fields:
      - {family: IPv4, type: 8}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: use-vault, namespace: auth}
spec:
  endpointSelector:
    matchLabels: {app.kubernetes.io/name: auth-api}
  egress:
  - toServices:
    - k8sService: {serviceName: vault, namespace: vault}
  - toServices:
    - k8sService: {serviceName: legacy-mysql, namespace: databases}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: nobody-by-default, namespace: ml-serving}
spec:
  endpointSelector: {}
  ingress:
  - fromEndpoints:
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": recommendations}
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": search}
---
# Authentication.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: mutual, namespace: invoices}
spec:
  endpointSelector:
    matchLabels: {app.kubernetes.io/name: invoices-api}
  ingress:
  - fromEndpoints:
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": billing}
    authentication: {mode: required}
---
# "recomendations": selects nothing.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: allow-recommendations, namespace: reviews}
spec:
  endpointSelector:
    matchLabels: {app.kubernetes.io/name: reviews-api}
  ingress:
  - fromEndpoints:
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": recomendations}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: senders, namespace: notifications}
specs:
- endpointSelector:
    matchLabels: {app.kubernetes.io/name: notifications-api}
  ingress:
  - fromEndpoints:
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": orders}
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": shipping}
- endpointSelector:
    matchLabels: {app.kubernetes.io/name: notifications-worker}
  egress:
  - toCIDR: [198.51.100.25/32]
    toPorts:
    - ports:
      - {port: "587", protocol: TCP}
---
# Selects by what a job built, which no other job has.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: releases-push, namespace: ci-jobs}
spec:
  endpointSelector:
    matchLabels: {ci.example.com/ref: release}
  egress:
  - toEndpoints:
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": argocd, app.kubernetes.io/name: argocd-server}
    toPorts:
    - ports:
      - {port: "8080", protocol: TCP}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: own-notebooks, namespace: notebooks}
spec:
  endpointSelector:
    matchLabels: {app: jupyterhub, component: singleuser-server}
  ingress:
  - fromEntities: [ingress]
  - fromEndpoints:
    - matchLabels: {app.kubernetes.io/name: ingress-nginx, "k8s:io.kubernetes.pod.namespace": ingress-nginx}
`
