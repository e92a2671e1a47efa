package sample

import (
	"fmt"
	"maps"
	"net/netip"
)

// service is a Service and what it selects.
type service struct {
	namespace, name, kind string // kind empty: ClusterIP
	selector              labels
	ports                 []servicePort
	more                  object   // further fields of the spec
	vip                   string   // of the load balancer
	clusterIP             string   // empty: the next one
	addrs                 []string // of the backends, if nothing is selected
}

// servicePort leads from a port to a named one of the pods.
type servicePort struct {
	name     string
	port     int
	target   string
	nodePort int
	protocol string // empty: TCP
}

func http(target string) []servicePort {
	return []servicePort{{name: "http", port: 80, target: target}}
}

// allServices returns the Services: those below the applications, and one for each
// API that others ask.
func allServices() []service {
	out := []service{
		{namespace: "default", name: "kubernetes", clusterIP: "10.96.0.1", ports: []servicePort{{name: "https", port: 443, target: "6443"}}, addrs: []string{"10.20.3.5", "10.20.3.6", "10.20.3.7"}},
		{
			namespace: "kube-system", name: "kube-dns", clusterIP: "10.96.0.10", selector: labels{"k8s-app": "kube-dns"},
			ports: []servicePort{{name: "dns", port: 53, target: "dns", protocol: "UDP"}, {name: "dns-tcp", port: 53, target: "dns-tcp"}, {name: "metrics", port: 9153, target: "metrics"}},
		},
		{namespace: "kube-system", name: "metrics-server", selector: labels{"k8s-app": "metrics-server"}, ports: []servicePort{{name: "https", port: 443, target: "https"}}},
		{namespace: "monitoring", name: "prometheus-operated", clusterIP: "None", selector: named("prometheus"), ports: []servicePort{{name: "http-web", port: 9090, target: "http-web"}}},
		{namespace: "monitoring", name: "alertmanager", selector: named("alertmanager"), ports: []servicePort{{name: "http-web", port: 9093, target: "http-web"}}},
		{namespace: "monitoring", name: "grafana", selector: named("grafana"), ports: http("grafana")},
		{namespace: "logging", name: "loki", selector: named("loki"), ports: []servicePort{{name: "http-metrics", port: 3100, target: "http-metrics"}}},
		{namespace: "tracing", name: "jaeger-collector", selector: named("jaeger-collector"), ports: []servicePort{{name: "otlp-grpc", port: 4317, target: "otlp-grpc"}}},
		{
			namespace: "ingress-nginx", name: "ingress-nginx-controller", kind: "LoadBalancer", selector: named("ingress-nginx"), vip: "203.0.113.10",
			ports: []servicePort{{name: "http", port: 80, target: "http", nodePort: 30080}, {name: "https", port: 443, target: "https", nodePort: 30443}},
			more:  object{"externalTrafficPolicy": "Local", "healthCheckNodePort": 32100},
		},
		{namespace: "ingress-nginx", name: "ingress-nginx-admission", selector: named("ingress-nginx"), ports: []servicePort{{name: "https-webhook", port: 443, target: "webhook"}}},
		{namespace: "argocd", name: "argocd-server", selector: named("argocd-server"), ports: http("server")},
		{namespace: "vault", name: "vault", selector: named("vault"), ports: []servicePort{{name: "https", port: 8200, target: "https"}}},
		{namespace: "kafka", name: "kafka-bootstrap", selector: named("kafka"), ports: []servicePort{{name: "tcp-clients", port: 9092, target: "tcp-clients"}}},
		{namespace: "kafka", name: "kafka-brokers", clusterIP: "None", selector: named("kafka"), ports: []servicePort{{name: "tcp-replication", port: 9091, target: "tcp-replication"}}},
		{
			namespace: "kafka", name: "kafka-external", kind: "LoadBalancer", selector: named("kafka"), vip: "203.0.113.12",
			ports: []servicePort{{name: "tcp-clients", port: 9094, target: "tcp-clients", nodePort: 30994}}, more: object{"loadBalancerSourceRanges": []string{"198.51.100.0/24"}},
		},
		{namespace: "redis", name: "redis", clusterIP: "None", selector: named("redis"), ports: []servicePort{{name: "redis", port: 6379, target: "redis"}}},
		{namespace: "databases", name: "postgres", selector: named("postgres", "role", "primary"), ports: []servicePort{{name: "postgresql", port: 5432, target: "postgresql"}}},
		{namespace: "databases", name: "postgres-replicas", selector: named("postgres", "role", "replica"), ports: []servicePort{{name: "postgresql", port: 5432, target: "postgresql"}}},
		{namespace: "databases", name: "legacy-mysql", ports: []servicePort{{name: "mysql", port: 3306, target: "3306"}}, addrs: []string{"10.30.0.5", "10.30.0.6"}},
		{
			namespace: "storefront", name: "storefront", kind: "NodePort", selector: named("storefront-api"),
			ports: []servicePort{{name: "http", port: 80, target: "http", nodePort: 31080}},
		},
		{
			namespace: "partner-api", name: "partner-api", kind: "LoadBalancer", selector: named("partner-api-api"), vip: "203.0.113.11",
			ports: []servicePort{{name: "https", port: 443, target: "http", nodePort: 30444}},
			more:  object{"loadBalancerSourceRanges": []string{"192.0.2.0/25", "198.51.100.0/24"}},
		},
		{
			namespace: "cart", name: "cart-api", selector: named("cart-api"), ports: http("http"),
			more: object{"sessionAffinity": "ClientIP", "sessionAffinityConfig": object{"clientIP": object{"timeoutSeconds": 1800}}},
		},
		{namespace: "tax", name: "vat", kind: "ExternalName", more: object{"externalName": "vat.example.com"}},
	}
	for _, app := range []string{
		"checkout", "orders", "pricing", "promotions", "payments", "billing", "invoices", "fraud", "catalog", "search", "inventory",
		"shipping", "reviews", "media", "accounts", "auth", "notifications", "recommendations", "mobile-api", "checkout-staging",
	} {
		name := app + "-api"
		selector := named(name)
		if app == "checkout-staging" {
			name, selector = "checkout-api", named("checkout-api")
		}
		out = append(out, service{namespace: app, name: name, selector: selector, ports: http("http")})
	}
	return out
}

// services returns the Services and their EndpointSlices.
func services(pods []pod) (services, slices []object) {
	next := netip.MustParseAddr("10.96.1.0")
	for _, s := range allServices() {
		if s.clusterIP == "" && s.kind != "ExternalName" {
			next = next.Next()
			s.clusterIP = next.String()
		}
		services = append(services, s.object())
		if slice := s.slice(pods); slice != nil {
			slices = append(slices, slice)
		}
	}
	return services, slices
}

func (s service) object() object {
	spec := object{"type": "ClusterIP"}
	if s.kind != "" {
		spec["type"] = s.kind
	}
	if s.clusterIP != "" {
		spec["clusterIP"], spec["clusterIPs"] = s.clusterIP, []string{s.clusterIP}
	}
	if s.selector != nil {
		spec["selector"] = s.selector
	}
	var ports []object
	for _, p := range s.ports {
		port := object{"name": p.name, "port": p.port, "protocol": p.proto()}
		if s.selector != nil {
			port["targetPort"] = p.target
		}
		if p.nodePort != 0 {
			port["nodePort"] = p.nodePort
		}
		ports = append(ports, port)
	}
	if ports != nil {
		spec["ports"] = ports
	}
	maps.Copy(spec, s.more)
	out := object{
		"apiVersion": "v1", "kind": "Service", "spec": spec,
		"metadata": object{"name": s.name, "namespace": s.namespace, "uid": uid("Service", s.namespace, s.name), "creationTimestamp": created, "labels": named(s.name)},
	}
	if s.vip != "" {
		out["status"] = object{"loadBalancer": object{"ingress": []object{{"ip": s.vip}}}}
	}
	return out
}

func (p servicePort) proto() string {
	if p.protocol == "" {
		return "TCP"
	}
	return p.protocol
}

// slice makes the EndpointSlice of a Service; nil if it has no backends.
func (s service) slice(pods []pod) object {
	var endpoints []object
	var of pod
	for _, a := range s.addrs {
		endpoints = append(endpoints, object{"addresses": []string{a}, "conditions": object{"ready": true}})
	}
	for _, p := range pods {
		if !s.selects(p) {
			continue
		}
		of = p
		endpoints = append(endpoints, object{
			"addresses": []string{p.addr.String()}, "conditions": object{"ready": true, "serving": true, "terminating": false},
			"nodeName": p.node.name, "zone": p.node.zone,
		})
	}
	if endpoints == nil {
		return nil
	}
	var ports []object
	for _, p := range s.ports {
		number := of.portNumber(p.target)
		if number == 0 {
			_, _ = fmt.Sscan(p.target, &number) // the target of those without a selector is a number
		}
		ports = append(ports, object{"name": p.name, "port": number, "protocol": p.proto()})
	}
	return object{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
		"metadata": object{
			"name": s.name + "-" + suffix("slice", s.namespace, s.name), "namespace": s.namespace, "creationTimestamp": created,
			"labels": labels{"kubernetes.io/service-name": s.name},
		},
	}
}

func (s service) selects(p pod) bool {
	for key, value := range s.selector {
		if p.podLabels[key] != value {
			return false
		}
	}
	return len(s.selector) > 0 && p.namespace == s.namespace
}

func (p pod) portNumber(name string) int {
	for _, c := range p.ports {
		if c.name == name {
			return c.number
		}
	}
	return 0
}
