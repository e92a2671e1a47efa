// Package kubeproxy runs kube-proxy on nodes that are network namespaces, with
// an API server and etcd of their own.
//
// Invariants: all binaries are Kubernetes' own. The process has a mount namespace
// of its own, whose /run is kept in memory: what is written there, and every
// program that is started, ends with the process.
package kubeproxy
