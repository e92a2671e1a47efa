// Package e2e tests Placid in a real Kubernetes: the labs of test/lab, with
// kubelets, containerd and pods. `make test-cluster` runs it; it needs root and
// takes about ten minutes.
//
// A lab for Services comes first. Then two run side by side, one a routing mode
// and IPAM mode. Their tests go in a fixed order, because the later ones restart
// agents and take Placid away.
// With KEEP_LAB=1 the labs stay up when the tests end: see `test/lab/lab list`.
// With USE_LAB=NAME the tests run in a lab that is up: to work on one of them.
//
// The servers and clients of the policy tests are sockets of the test process in
// the pods' network namespaces, so that hundreds of ways can be tried at once;
// what should become of each is computed in netpol_test.go.
//
// Invariants: a lab's name holds the test process's id, so that runs do not
// disturb each other and the next run removes what a killed one left. Nothing
// waits for a fixed time: a condition is polled until its deadline.
package e2e
