package config

// freeForeignKeys declares the keys that tune the inside of Cilium or ask it for
// something that Placid always or never does; they are accepted with any value.
func freeForeignKeys() []foreignGroup {
	return []foreignGroup{
		// Datapath.
		{nil, "pods always get a veth pair", `datapath-mode`},
		{nil, "programs are always attached with tcx links", `enable-tcx`},
		{nil, "every pod always has its own route", `enable-endpoint-routes enable-local-node-route`},
		{nil, "packets between pods always bypass the node's stack where the kernel can do it", `enable-host-legacy-routing`},
		{nil, "Placid installs no iptables rules", `
			install-iptables-rules install-no-conntrack-iptables-rules iptables-random-fully iptables-lock-timeout
			disable-iptables-feeder-rules prepend-iptables-chains enable-xt-socket-fallback`},
		{nil, "what masquerades is always Placid's own programs, on every native device", `
			enable-bpf-masquerade egress-masquerade-interfaces`},
		{nil, "bandwidth limits come from the CNI capability and are kept by the kernel's token bucket", `
			enable-bandwidth-manager enable-bbr enable-bbr-hostns-only`},
		{nil, "neighbours are resolved by the kernel", `enable-l2-neigh-discovery arping-refresh-period`},
		{nil, "devices are the ones that carry the node's address unless devices is set", `
			enable-runtime-device-detection force-device-detection direct-routing-device`},
		{nil, "nodes of other segments are left to the network", `direct-routing-skip-unreachable`},
		{nil, "the tunnel uses the kernel's source ports and the family of the node's address", `
			tunnel-source-port-range underlay-protocol`},
		{nil, "the gateway that pods see is chosen by Placid", `local-router-ipv4 local-router-ipv6 ipv4-node ipv6-node`},
		{nil, "pod addresses come from ipam alone", `ipv4-range ipv6-range`},
		{nil, "packet sizes follow mtu alone", `
			enable-ipv4-big-tcp enable-ipv6-big-tcp enable-tunnel-big-tcp enable-pmtu-discovery
			packetization-layer-pmtud-mode enable-route-mtu-for-cni-chaining`},
		{nil, "fragments are always tracked, in a table of fixed size", `
			enable-ipv4-fragment-tracking enable-ipv6-fragment-tracking bpf-fragments-map-max`},
		{nil, "programs are compiled when Placid is built", `
			enable-bpf-clock-probe bpf-compile-debug lib-dir enable-bpf-tproxy datapath-plugins-enabled`},
		{nil, "packet marks are left alone", `enable-identity-mark`},
		{nil, "rules about ICMP types are always enforced", `enable-icmp-rules`},
		{nil, "/proc is used at its usual place", `procfs`},
		{nil, "state is never thrown away at start; placid-agent cleanup does it", `
			clean-cilium-state clean-cilium-bpf-state restore keep-config cni-uninstall`},
		{nil, "the CNI plugin logs to the container runtime", `cni-log-file`},
		{nil, "destinations that the node holds itself always go to its stack", `terway-host-stack-cidr`},

		// Tables.
		{nil, "flows are always tracked, without counting their packets", `bpf-conntrack-accounting disable-conntrack`},
		{nil, "translations are part of conntrack entries: there are no NAT and neighbour tables", `
			bpf-neigh-global-max bpf-lb-rev-nat-map-max
			nat-map-stats-interval nat-map-stats-entries`},
		{nil, "policy entries have no counters of their own", `bpf-policy-stats-map-max policy-accounting`},
		{nil, "every table is compared with what it should hold at each reconcile-interval", `
			bpf-policy-map-full-reconciliation-interval`},
		{nil, "no metric is left out below a threshold", `bpf-policy-map-pressure-metrics-threshold`},
		{nil, "node addresses need no table of their own", `bpf-node-map-max`},
		{nil, "each table is allocated as its kind needs", `preallocate-bpf-maps bpf-distributed-lru`},

		// Addresses of clouds.
		{nil, "addresses of cloud interfaces are not part of this version; see ipam", `
			ipam-pre-allocate ipam-min-allocate ipam-max-allocate ipam-max-above-watermark ipam-static-ip-tags
			ipam-multi-pool-pre-allocation ipam-cilium-node-update-rate ipam-default-ip-pool
			limit-ipam-api-burst limit-ipam-api-qps auto-create-cilium-pod-ip-pools
			eni-tags eni-gc-interval eni-gc-tags eni-first-interface-index eni-subnet-ids eni-subnet-tags
			eni-security-groups eni-security-group-tags eni-exclude-interface-tags eni-use-primary-address
			eni-disable-prefix-delegation eni-delete-on-termination
			aws-enable-prefix-delegation aws-release-excess-ips aws-use-primary-address
			aws-instance-limit-mapping aws-pagination-enabled ec2-api-endpoint
			update-ec2-adapter-limit-via-api excess-ip-release-delay
			instance-tags-filter subnet-ids-filter subnet-tags-filter parallel-alloc-workers
			alibaba-cloud-vpc-id alibaba-cloud-release-excess-ips alibabacloud-vswitches alibabacloud-vswitch-tags
			alibabacloud-security-groups alibabacloud-security-group-tags
			azure-interface-name azure-use-primary-address azure-user-assigned-identity-id
			azure-subscription-id azure-resource-group install-uplink-routes-for-delegated-ipam`},
		{nil, "pods get the address families that the node's pod CIDRs have", `
			k8s-require-ipv4-pod-cidr k8s-require-ipv6-pod-cidr`},
	}
}

// freeFeatureKeys declares, like freeForeignKeys, the keys that tune identities and
// policies in ways that Placid has not, and features that this version has not.
func freeFeatureKeys() []foreignGroup {
	return []foreignGroup{
		{nil, "the operator alone makes identities, as objects of Kubernetes; identity-gc-interval says how long unused ones stay", `
			identity-allocation-mode identity-management-mode identity-change-grace-period
			identity-heartbeat-timeout identity-gc-rate-interval identity-gc-rate-limit
			identity-restore-grace-period identity-max-jitter`},
		{nil, "no labels have a number that is fixed", `enable-well-known-identities fixed-identity-mapping`},
		{nil, "other nodes have the identity remote-node, whatever their labels are", `enable-remote-node-identity`},
		{nil, "policies can always select nodes, by all their labels", `enable-node-selector-labels node-labels`},
		{nil, "the labels of an identity follow labels alone", `label-prefix-file`},
		{nil, "a changed policy is applied at once", `
			endpoint-policy-update-timeout policy-queue-size policy-trigger-interval policy-restore-timeout`},
		{nil, "enableDefaultDeny of a policy always counts", `enable-non-default-deny-policies`},
		{nil, "there is no proxy, no DNS name and no authentication in the policies of this version: rules that ask for them allow nothing", `
			enable-l7-proxy enable-policy-secrets-sync
			policy-secrets-namespace policy-secrets-only-from-secrets-namespace bpf-auth-map-max
			mesh-auth-queue-size mesh-auth-rotated-identities-queue-size mesh-auth-gc-interval
			disable-envoy-version-check external-envoy-proxy envoy-log envoy-config-retry-interval
			envoy-base-id envoy-access-log-buffer-size envoy-keep-cap-netbindservice envoy-default-log-level
			envoy-policy-restore-timeout envoy-http-upstream-linger-timeout http-stream-idle-timeout
			http-idle-timeout http-max-grpc-timeout http-request-timeout http-retry-count http-retry-timeout
			proxy-connect-timeout proxy-initial-fetch-timeout proxy-idle-timeout-seconds proxy-prometheus-port
			proxy-admin-port proxy-max-active-downstream-connections proxy-max-connection-duration-seconds
			proxy-max-requests-per-connection proxy-max-concurrent-retries proxy-xff-num-trusted-hops-ingress
			proxy-xff-num-trusted-hops-egress proxy-cluster-max-connections proxy-cluster-max-requests
			proxy-use-original-source-address dns-policy-unload-on-shutdown dnsproxy-enable-transparent-mode
			dnsproxy-socket-linger-timeout tofqdns-dns-reject-response-code tofqdns-enable-dns-compression
			tofqdns-endpoint-max-ip-per-hostname tofqdns-idle-connection-grace-period
			tofqdns-max-deferred-connection-deletes tofqdns-min-ttl tofqdns-pre-cache tofqdns-proxy-port
			tofqdns-proxy-response-max-delay tofqdns-preallocate-identities`},
		{nil, "flows are not exported in this version", `
			enable-hubble enable-hubble-open-metrics hubble-disable-tls hubble-drop-events
			hubble-drop-events-interval hubble-drop-events-reasons hubble-dynamic-metrics-config-path
			hubble-event-buffer-capacity hubble-event-queue-size hubble-export-aggregation-interval
			hubble-export-allowlist hubble-export-denylist hubble-export-fieldaggregate hubble-export-fieldmask
			hubble-export-file-compress hubble-export-file-max-backups hubble-export-file-max-size-mb
			hubble-export-file-path hubble-flowlogs-config-path hubble-listen-address
			hubble-lost-event-send-interval hubble-metrics hubble-metrics-server hubble-metrics-server-enable-tls
			hubble-metrics-server-tls-cert-file hubble-metrics-server-tls-client-ca-files
			hubble-metrics-server-tls-key-file hubble-monitor-events hubble-network-policy-correlation-enabled
			hubble-prefer-ipv6 hubble-redact-enabled hubble-redact-http-headers-allow
			hubble-redact-http-headers-deny hubble-redact-http-urlquery hubble-redact-http-userinfo
			hubble-redact-kafka-apikey hubble-skip-unknown-cgroup-ids hubble-socket-path hubble-tls-cert-file
			hubble-tls-client-ca-files hubble-tls-key-file`},
	}
}

// freeServiceKeys declares, like freeForeignKeys, the keys that tune Services in
// ways that Placid has not.
func freeServiceKeys() []foreignGroup {
	return []foreignGroup{
		{nil, "kube-proxy-replacement=true serves every kind of Service and host ports, false serves none", `
			enable-node-port enable-host-port enable-external-ips enable-internal-traffic-policy`},
		{nil, "a client that uses a port again asks the Service again at once, a closing connection holds no backend for it", `
			bpf-ct-timeout-service-tcp-grace`},
		{nil, "a Service's own settings always count", `enable-session-affinity enable-svc-source-range-check`},
		{nil, "there is no forwarding but that of bpf-lb-mode", `bpf-lb-dsr-dispatch`},
		{nil, "sockets that talk to a backend that is gone are always ended, in pods too", `
			bpf-lb-sock-terminate-pod-connections lb-sock-terminate-all-protos`},
		{nil, "translations at sockets are not sent as events", `trace-sock`},
		{nil, "packets to Services are always translated where their socket was not", `disable-per-package-lb`},
		{nil, "pods reach external and load balancer addresses of Services inside the cluster", `
			enable-in-cluster-loadbalance disable-external-ip-mitigation`},
		{nil, "Placid gives Services no addresses and announces none", `
			default-lb-service-ipam enable-lb-ipam enable-no-service-endpoints-routable`},
		{nil, "programs of the node can bind the ports of node-port-range, and then get what comes to no node port", `
			node-port-bind-protection enable-auto-protect-node-port-range`},
		{nil, "every address of a Service is one entry more, so that its unused ports are refused", `
			bpf-lb-enable-wildcard-entries`},
		{nil, "changes of Services are applied at once, and those that do not fit as soon as there is room", `
			lb-retry-backoff-min lb-retry-backoff-max lb-init-wait-timeout lb-reflector-wait-time
			lb-pressure-metrics-interval`},
		{nil, "there are no local redirect policies in this version", `lrp-address-matcher-cidrs`},
	}
}

// freeProcessKeys declares, like freeForeignKeys, the keys that say how Cilium's
// processes are observed and how they use Kubernetes.
func freeProcessKeys() []foreignGroup {
	return []foreignGroup{
		{nil, "drops are counted, exactly, and not sent as events", `
			monitor-aggregation monitor-aggregation-flags monitor-aggregation-interval monitor-queue-size
			enable-monitor trace-payloadlen trace-payloadlen-overlay ip-tracing-option-type
			bpf-events-drop-enabled bpf-events-policy-verdict-enabled bpf-events-trace-enabled
			bpf-events-default-rate-limit bpf-events-default-burst-limit enable-tracing`},
		{nil, "all metrics are always served", `
			metrics controller-group-metrics enable-metrics metrics-sampling-interval`},
		{nil, "the operator serves its metrics without TLS", `
			operator-prometheus-tls-cert-file operator-prometheus-tls-key-file operator-prometheus-tls-client-ca-files`},
		{nil, "nodes and pods are not probed; placid status names the nodes that do not fit", `
			enable-health-checking enable-endpoint-health-checking health-check-icmp-failure-threshold
			cluster-health-port connectivity-probe-frequency-ratio`},
		{nil, "log lines follow debug and log-format alone", `log-opt log-driver log-system-load debug-verbose`},
		{nil, "profiles are not served", `
			pprof pprof-address pprof-port pprof-mutex-profile-fraction pprof-block-profile-rate operator-pprof
			operator-pprof-address operator-pprof-port operator-pprof-mutex-profile-fraction
			operator-pprof-block-profile-rate`},
		{nil, "changes in the config directory are always followed; those of keys that are not live take effect when the agent starts", `
			enable-drift-checker enable-dynamic-config enable-dynamic-lifecycle-manager config-sources
			config-sources-overrides`},
		{nil, "the agent's socket has no rate limits", `api-rate-limit`},
		{nil, "Placid keeps its own objects and none of Cilium's", `
			auto-create-cilium-node-resource annotate-k8s-node synchronize-k8s-nodes disable-endpoint-crd
			enable-cilium-endpoint-slice ces-rate-limits cilium-endpoint-gc-interval nodes-gc-interval
			skip-crd-creation crd-wait-timeout disable-cnp-status-updates enable-k8s-endpoint-slice
			enable-k8s-api-discovery enable-ciliumendpoint-slice`},
		{nil, "the connection to the API server is watched by the client library", `
			k8s-heartbeat-timeout k8s-api-server-urls k8s-watcher-queue-size k8s-sync-timeout`},
		{nil, "nodes are not tainted and pods are not restarted by the operator", `
			agent-not-ready-taint-key remove-cilium-node-taints set-cilium-node-taints set-cilium-is-up-condition
			unmanaged-pod-watcher-interval pod-restart-selector`},
		{nil, "clusters are not connected in this version", `
			clustermesh-config max-connected-clusters clustermesh-cache-ttl clustermesh-enable-endpoint-sync
			clustermesh-enable-mcs-api clustermesh-mcs-api-install-crds policy-default-local-cluster`},
		{nil, "all IP protocols are forwarded", `enable-sctp`},
		{nil, "tagged frames from pods are dropped, those of the node are its stack's", `vlan-bpf-bypass`},
		{nil, "the egress gateway is not part of this version", `
			egress-gateway-reconciliation-trigger-interval egress-gateway-policy-map-max`},
		{nil, "VTEPs are not part of this version", `vtep-endpoint vtep-cidr vtep-mask vtep-mac`},
	}
}
