package sample

import (
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"
)

// workload is what makes pods that are alike.
type workload struct {
	namespace, name string
	kind            string // of the owner: ReplicaSet, StatefulSet, DaemonSet or Job
	replicas        int    // 0: one on each node
	labels          labels
	ports           []port
	account         string // service account; empty: default
	hostNetwork     bool
	// each gives labels of one pod alone, which are most of the mistakes.
	each func(i int) labels
}

// port is a port of a container.
type port struct {
	name     string
	number   int
	protocol string // empty: TCP
	host     int    // of the node; 0: none
}

// pod is one that is placed.
type pod struct {
	workload
	podName, owner string
	podLabels      labels
	node           node
	addr           netip.Addr
}

// workloads returns what runs in the namespaces.
func workloads(namespaces []namespace) []workload {
	special := map[string]func(namespace) []workload{
		"default": func(namespace) []workload { return nil },
	}
	for _, w := range platform() {
		before := special[w.namespace]
		special[w.namespace] = func(n namespace) []workload {
			if before == nil {
				return []workload{w}
			}
			return append(before(n), w)
		}
	}
	var out []workload
	for _, n := range namespaces {
		if make, ok := special[n.name]; ok {
			out = append(out, make(n)...)
			continue
		}
		out = append(out, application(n)...)
	}
	return out
}

func web(extra ...port) []port {
	return append([]port{{name: "http", number: 8080}, {name: "metrics", number: 9090}}, extra...)
}

// application is what most namespaces run: an API, and workers in production.
func application(n namespace) []workload {
	app := strings.TrimSuffix(n.name, "-staging")
	if n.environment == "preview" {
		app = "storefront"
	}
	api := workload{
		namespace: n.name, name: app + "-api", kind: "ReplicaSet", replicas: 6 + number(5, n.name), account: app, ports: web(),
		labels: labels{"app.kubernetes.io/name": app + "-api", "app.kubernetes.io/part-of": app, "app.kubernetes.io/component": "api"},
	}
	worker := workload{
		namespace: n.name, name: app + "-worker", kind: "ReplicaSet", replicas: 3 + number(4, "worker", n.name), account: app,
		labels: labels{"app.kubernetes.io/name": app + "-worker", "app.kubernetes.io/part-of": app, "app.kubernetes.io/component": "worker"},
		ports:  []port{{name: "metrics", number: 9090}},
	}
	if n.labelled {
		api.labels["team"] = n.team // and not on the workers
	}
	habit(n, &api, &worker)
	if n.environment != "prod" {
		api.replicas, worker.replicas = 3, 1
		if n.environment == "preview" {
			api.labels["git-branch"] = fmt.Sprintf("feature-%s", hash(6, n.name))
			return []workload{api}
		}
	}
	return []workload{api, worker}
}

// habit gives workloads the labels that their team is used to give.
func habit(n namespace, api, worker *workload) {
	switch n.team {
	case "buying":
		// A rollout is half done, so that two builds run.
		api.each = func(i int) labels {
			return labels{"git-sha": hash(8, n.name, i%2), "track": []string{"stable", "stable", "canary"}[i%3]}
		}
	case "money":
		api.labels["app.kubernetes.io/version"] = fmt.Sprintf("3.%d.0-g%s", number(20, n.name), hash(7, n.name))
		worker.labels["build-id"] = fmt.Sprintf("202611%02d.%d", 1+number(20, n.name), number(9, n.name))
	case "goods":
		api.labels["build-id"] = fmt.Sprintf("202611%02d.%d", 1+number(20, n.name), number(9, n.name))
		worker.each = func(i int) labels { return labels{"worker-index": strconv.Itoa(i)} }
	case "edge":
		api.labels["released-at"] = fmt.Sprintf("202611%02dT%02d%02d", 1+number(20, n.name), number(24, n.name), number(60, n.name))
		api.each = func(i int) labels { return labels{"canary-weight": []string{"90", "10"}[i%2]} }
	case "people":
		worker.each = func(i int) labels {
			return labels{"restarted-at": fmt.Sprintf("2026-11-%02dT%02d-00-00Z", 1+number(20, n.name, i), number(24, i, n.name))}
		}
	case "data":
		worker.each = func(i int) labels { return labels{"partition": strconv.Itoa(i), "owner": "data"} }
	}
}

func named(name string, more ...string) labels {
	out := labels{"app.kubernetes.io/name": name}
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

// platform is what runs below the applications.
func platform() []workload {
	return append([]workload{
		{namespace: "kube-system", name: "cilium", kind: "DaemonSet", labels: labels{"k8s-app": "cilium"}, hostNetwork: true, account: "cilium"},
		{namespace: "kube-system", name: "cilium-operator", kind: "ReplicaSet", replicas: 2, labels: labels{"io.cilium/app": "operator", "name": "cilium-operator"}, hostNetwork: true},
		{
			namespace: "kube-system", name: "coredns", kind: "ReplicaSet", replicas: 4, labels: labels{"k8s-app": "kube-dns"}, account: "coredns",
			ports: []port{{name: "dns", number: 53, protocol: "UDP"}, {name: "dns-tcp", number: 53}, {name: "metrics", number: 9153}},
		},
		{namespace: "kube-system", name: "metrics-server", kind: "ReplicaSet", replicas: 2, labels: labels{"k8s-app": "metrics-server"}, ports: []port{{name: "https", number: 10250}}},
		{namespace: "monitoring", name: "prometheus", kind: "StatefulSet", replicas: 2, labels: named("prometheus"), account: "prometheus", ports: []port{{name: "http-web", number: 9090}}},
		{namespace: "monitoring", name: "alertmanager", kind: "StatefulSet", replicas: 3, labels: named("alertmanager"), ports: []port{{name: "http-web", number: 9093}, {name: "mesh-udp", number: 9094, protocol: "UDP"}}},
		{namespace: "monitoring", name: "grafana", kind: "ReplicaSet", replicas: 2, labels: named("grafana"), ports: []port{{name: "grafana", number: 3000}}},
		{namespace: "monitoring", name: "node-exporter", kind: "DaemonSet", labels: named("node-exporter"), hostNetwork: true},
		{namespace: "logging", name: "fluent-bit", kind: "DaemonSet", labels: named("fluent-bit"), ports: []port{{name: "http", number: 2020}}},
		{namespace: "logging", name: "loki", kind: "StatefulSet", replicas: 3, labels: named("loki"), ports: []port{{name: "http-metrics", number: 3100}, {name: "grpc", number: 9095}}},
		{namespace: "tracing", name: "jaeger-collector", kind: "ReplicaSet", replicas: 2, labels: named("jaeger-collector"), ports: []port{{name: "otlp-grpc", number: 4317}}},
		{
			namespace: "ingress-nginx", name: "ingress-nginx-controller", kind: "ReplicaSet", replicas: 4, account: "ingress-nginx",
			labels: named("ingress-nginx", "app.kubernetes.io/component", "controller"),
			ports:  []port{{name: "http", number: 80, host: 80}, {name: "https", number: 443, host: 443}, {name: "webhook", number: 8443}},
		},
		{namespace: "cert-manager", name: "cert-manager", kind: "ReplicaSet", replicas: 2, labels: named("cert-manager"), account: "cert-manager", ports: []port{{name: "http-metrics", number: 9402}}},
		{namespace: "argocd", name: "argocd-server", kind: "ReplicaSet", replicas: 2, labels: named("argocd-server"), ports: []port{{name: "server", number: 8080}}},
		{namespace: "argocd", name: "argocd-repo-server", kind: "ReplicaSet", replicas: 2, labels: named("argocd-repo-server"), ports: []port{{name: "repo-server", number: 8081}}},
		{namespace: "gitlab-runner", name: "gitlab-runner", kind: "ReplicaSet", replicas: 3, labels: named("gitlab-runner"), account: "gitlab-runner"},
		{namespace: "vault", name: "vault", kind: "StatefulSet", replicas: 3, labels: named("vault"), account: "vault", ports: []port{{name: "https", number: 8200}, {name: "https-internal", number: 8201}}},
	}, singular()...)
}

// singular are workloads whose pods have labels of their own each.
func singular() []workload {
	return []workload{
		{
			namespace: "kafka", name: "kafka", kind: "StatefulSet", replicas: 6, labels: named("kafka"), account: "kafka",
			ports: []port{{name: "tcp-clients", number: 9092}, {name: "tcp-replication", number: 9091}},
			each:  func(i int) labels { return labels{"broker-id": strconv.Itoa(i)} },
		},
		{
			namespace: "redis", name: "redis", kind: "StatefulSet", replicas: 6, labels: named("redis"), ports: []port{{name: "redis", number: 6379}, {name: "bus", number: 16379}},
			each: func(i int) labels {
				return labels{"shard": strconv.Itoa(i / 2), "redis-role": []string{"master", "replica"}[i%2]}
			},
		},
		{
			namespace: "databases", name: "postgres", kind: "StatefulSet", replicas: 4, labels: named("postgres"), account: "postgres",
			ports: []port{{name: "postgresql", number: 5432}},
			each:  func(i int) labels { return labels{"role": []string{"primary", "replica", "replica", "replica"}[i]} },
		},
		{
			namespace: "ci-jobs", name: "runner-job", kind: "Job", replicas: 42, labels: labels{"app": "ci-job", "ci.example.com/runner": "docker"}, account: "ci",
			each: func(i int) labels {
				return labels{
					"ci.example.com/job-id": strconv.Itoa(8842100 + 13*i), "ci.example.com/pipeline-id": strconv.Itoa(1190400 + 7*(i/3)),
					"ci.example.com/ref": []string{"main", "release", "feature-" + hash(6, "ref", i)}[i%3],
				}
			},
		},
		{
			namespace: "batch-reports", name: "spark-executor", kind: "Job", replicas: 24, labels: labels{"spark-role": "executor", "app": "spark"},
			each: func(i int) labels {
				return labels{"spark-app-selector": "spark-" + hash(16, "spark", i/8), "spark-exec-id": strconv.Itoa(1 + i%8), "run-at": fmt.Sprintf("2026110%d0300", 1+i/8)}
			},
		},
		{
			namespace: "notebooks", name: "jupyter", kind: "StatefulSet", replicas: 18, labels: labels{"app": "jupyterhub", "component": "singleuser-server"},
			ports: []port{{name: "notebook-port", number: 8888}},
			each: func(i int) labels {
				return labels{"hub.jupyter.org/username": []string{"amara", "bjorn", "chidi", "dalia", "emre", "freya"}[i%6] + "-" + strconv.Itoa(i)}
			},
		},
	}
}

// place makes the pods of workloads and spreads them over the nodes.
func place(workloads []workload, nodes []node) []pod {
	next := make([]int, len(nodes)) // addresses given, by node
	turn := 0
	var out []pod
	for _, w := range workloads {
		count := w.replicas
		if count == 0 {
			count = len(nodes)
		}
		for i := range count {
			at := turn % len(nodes)
			if w.kind == "DaemonSet" {
				at = i
			} else {
				turn++
			}
			p := w.pod(i)
			p.node, p.addr = nodes[at], nodes[at].addr
			if !w.hostNetwork {
				next[at]++
				base := nodes[at].podCIDR.Addr().As4()
				base[3] = byte(9 + next[at])
				p.addr = netip.AddrFrom4(base)
			}
			out = append(out, p)
		}
	}
	return out
}

// pod makes the pod with the index i.
func (w workload) pod(i int) pod {
	p := pod{workload: w, podLabels: labels{}}
	maps.Copy(p.podLabels, w.labels)
	if w.each != nil {
		maps.Copy(p.podLabels, w.each(i))
	}
	switch w.kind {
	case "ReplicaSet":
		template := hash(10, w.namespace, w.name)
		p.owner = w.name + "-" + template
		p.podName = p.owner + "-" + suffix(w.namespace, w.name, i)
		p.podLabels["pod-template-hash"] = template
	case "StatefulSet":
		p.owner, p.podName = w.name, fmt.Sprintf("%s-%d", w.name, i)
		p.podLabels["statefulset.kubernetes.io/pod-name"] = p.podName
		p.podLabels["apps.kubernetes.io/pod-index"] = strconv.Itoa(i)
		p.podLabels["controller-revision-hash"] = w.name + "-" + hash(10, w.namespace, w.name)
	case "DaemonSet":
		p.owner, p.podName = w.name, w.name+"-"+suffix(w.namespace, w.name, i)
		p.podLabels["controller-revision-hash"] = hash(10, w.namespace, w.name)
		p.podLabels["pod-template-generation"] = "4"
	case "Job":
		p.owner = fmt.Sprintf("%s-%s", w.name, hash(8, w.namespace, w.name, i))
		p.podName = p.owner + "-" + suffix(w.namespace, w.name, i)
		p.podLabels["batch.kubernetes.io/job-name"], p.podLabels["job-name"] = p.owner, p.owner
		p.podLabels["batch.kubernetes.io/controller-uid"] = uid("Job", w.namespace, p.owner)
	}
	return p
}

func ownerVersion(kind string) string {
	if kind == "Job" {
		return "batch/v1"
	}
	return "apps/v1"
}

// uid gives an identifier in the form that the API server gives them.
func uid(parts ...any) string {
	h := hash(32, parts...)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

func podObjects(pods []pod) []object {
	var out []object
	for _, p := range pods {
		container := object{"name": p.name, "image": "registry.example.com/" + p.namespace + "/" + p.name}
		var ports []object
		for _, c := range p.ports {
			entry := object{"name": c.name, "containerPort": c.number}
			if c.protocol != "" {
				entry["protocol"] = c.protocol
			}
			if c.host != 0 {
				entry["hostPort"] = c.host
			}
			ports = append(ports, entry)
		}
		if len(ports) > 0 {
			container["ports"] = ports
		}
		account := p.account
		if account == "" {
			account = "default"
		}
		spec := object{"nodeName": p.node.name, "serviceAccountName": account, "containers": []object{container}}
		if p.hostNetwork {
			spec["hostNetwork"] = true
		}
		out = append(out, object{
			"apiVersion": "v1", "kind": "Pod",
			"metadata": object{
				"name": p.podName, "namespace": p.namespace, "uid": uid("Pod", p.namespace, p.podName), "creationTimestamp": created, "labels": p.podLabels,
				"ownerReferences": []object{{
					"apiVersion": ownerVersion(p.kind), "kind": p.kind, "name": p.owner, "controller": true,
					"uid": uid(p.kind, p.namespace, p.owner),
				}},
			},
			"spec":   spec,
			"status": object{"phase": "Running", "hostIP": p.node.addr.String(), "podIPs": []object{{"ip": p.addr.String()}}},
		})
	}
	return out
}
