package config

// guardedForeignKeys declares the keys that are accepted only with the value that
// asks for nothing: with another value the administrator relies on something that
// Placid does not do, and going on in silence would leave pods less protected or
// cut off.
func guardedForeignKeys() []foreignGroup {
	off := []string{"false"}
	unset := []string{""}
	return []foreignGroup{
		// Policy.
		{
			off, "Kubernetes' and Cilium's NetworkPolicies are the only policies of this version, without rules above layer 4", `
			enable-k8s-cluster-network-policy enable-envoy-config enable-standalone-dns-proxy`,
		},
		{
			off, "a policy that does not fit into its table is refused whole: the pod keeps what it had, or nothing is allowed", `
			enable-endpoint-lockdown-on-policy-overflow`,
		},
		{[]string{"", "none"}, "what policy denies is dropped without an answer", `policy-deny-response`},
		{unset, "what the CIDRs of a policy match cannot be chosen", `policy-cidr-match-mode`},
		{[]string{"auto", "always"}, "the node always reaches its own pods", `allow-localhost`},
		{off, "this version does not filter traffic of the node itself", `enable-host-firewall`},
		{off, "this version does not filter packets in XDP", `enable-xdp-prefilter`},
		{off, "this version does not authenticate pods to each other", `mesh-auth-enabled mesh-auth-mutual-enabled`},
		{
			[]string{"true"}, "packets whose source address is not the pod's own are always dropped", `
			enable-source-ip-verification`,
		},
		// Encryption.
		{
			off, "this version does not encrypt traffic between nodes", `
			enable-ipsec enable-ipsec-encrypted-overlay enable-wireguard enable-ztunnel encrypt-node
			enable-encryption-strict-mode enable-encryption-strict-mode-egress enable-encryption-strict-mode-ingress`,
		},
		{
			unset, "this version does not encrypt traffic between nodes", `
			encrypt-interface encryption-strict-mode-cidr encryption-strict-egress-cidr ipsec-key-file`,
		},
		// Services.
		{
			off, "this version balances nothing but Services, of Kubernetes, to the cluster's own nodes", `
			bpf-lb-only bpf-lb-mode-annotation enable-local-redirect-policy`,
		},
		{off, "Placid gives Services no addresses: a controller of load balancers has to", `enable-node-ipam`},
		{off, "health checks of Services are served at node addresses only", `enable-health-check-loadbalancer-ip`},
		{unset, "the agent's health is served at agent-health-port of the loopback address only", `
			kube-proxy-replacement-healthz-bind-address`},
		{off, "what is masqueraded gets the node's address, and nothing between nodes is", `
			enable-masquerade-to-route-source enable-remote-node-masquerade`},
		{
			off, "this version has no ingress, gateway or egress gateway", `
			enable-ingress-controller enable-gateway-api enable-egress-gateway enable-ipv4-egress-gateway
			enable-nat46x64-gateway`,
		},
		{
			off, "this version announces no addresses to the network outside", `
			enable-bgp-control-plane enable-l2-announcements enable-l2-pod-announcements`,
		},
		{off, "this version connects no VTEPs and forwards no multicast", `enable-vtep multicast-enabled`},
		{off, "the operator serves its metrics without TLS", `operator-prometheus-enable-tls`},
		// What would make another program than Placid own a part of the node.
		{
			[]string{"", "none", "terway-chainer"},
			"Placid makes the pods' interfaces itself and is the first plugin of its chain", `cni-chaining-mode`,
		},
		{unset, "Placid makes the pods' interfaces itself and is the first plugin of its chain", `cni-chaining-target`},
		{off, "Placid writes the CNI configuration itself", `custom-cni-conf cni-external-routing`},
		{unset, "Placid writes the CNI configuration itself; write-cni-conf-when-ready says where", `read-cni-conf`},
		{unset, "Kubernetes is the only store", `kvstore kvstore-opt etcd-config`},
		{[]string{"disabled"}, "set routing-mode=tunnel for an overlay and routing-mode=native for none", `tunnel`},
	}
}
