package planner

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// size is how large a cluster is.
type size struct {
	Pods, Policies, Namespaces, Nodes, Services int
}

// apps is how many a namespace has.
const apps = 10

type object = map[string]any

func meta(namespace, name string, labels object) object {
	m := object{"name": name}
	if namespace != "" {
		m["namespace"] = namespace
	}
	if len(labels) > 0 {
		m["labels"] = labels
	}
	return m
}

// namespaceOf names a namespace: five stages of each team.
func namespaceOf(i int) string {
	return fmt.Sprintf("team%d-%s", i/5, []string{"prod", "stage", "dev", "test", "ops"}[i%5])
}

// writeCluster writes a cluster as people have them: apps with the labels that tools
// give them, namespaces that close themselves and open what they need. It returns
// the file of the objects, and another one with the policies after a change: one in
// ten lets somebody else in.
func writeCluster(dir string, s size) (cluster, changed string, err error) {
	cluster, changed = filepath.Join(dir, "cluster.json"), filepath.Join(dir, "changed.json")
	err = writeList(cluster, func(add func(object)) {
		for i := range s.Nodes {
			add(node(i))
		}
		for i := range s.Namespaces {
			name := namespaceOf(i)
			add(object{"apiVersion": "v1", "kind": "Namespace", "metadata": meta("", name, object{
				"kubernetes.io/metadata.name": name, "team": fmt.Sprintf("team%d", i/5), "stage": name[len(name)-3:],
			})})
		}
		for i := range s.Pods {
			add(pod(i, s))
		}
		for i := range s.Services {
			add(service(i, s))
		}
		for i := range s.Policies {
			add(policy(i, s, false))
		}
	})
	if err != nil {
		return "", "", err
	}
	return cluster, changed, writeList(changed, func(add func(object)) {
		for i := range s.Policies {
			add(policy(i, s, i%10 == 0))
		}
	})
}

// writeList writes a List of what fill adds.
func writeList(path string, fill func(add func(object))) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write cluster: %w", err)
	}
	w := bufio.NewWriter(f)
	_, _ = w.WriteString(`{"apiVersion":"v1","kind":"List","items":[`)
	first := true
	fill(func(o object) {
		if !first {
			_ = w.WriteByte(',')
		}
		first = false
		data, marshalErr := json.Marshal(o)
		if err == nil {
			err = marshalErr
		}
		_, _ = w.Write(data)
	})
	_, _ = w.WriteString("]}\n")
	if flushErr := w.Flush(); err == nil { // has the first error of all writes
		err = flushErr
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write cluster: %w", err)
	}
	return nil
}

func node(i int) object {
	at := netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})
	return object{
		"apiVersion": "v1", "kind": "Node", "metadata": meta("", fmt.Sprintf("node%d", i), nil),
		"spec": object{"podCIDR": fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)},
		"status": object{
			"addresses": []object{{"type": "InternalIP", "address": at.String()}},
			"capacity":  object{"memory": "32Gi", "cpu": "8"}, "allocatable": object{"pods": "110"},
		},
	}
}

func pod(i int, s size) object {
	namespace, n := i%s.Namespaces, i/s.Namespaces
	app := fmt.Sprintf("app%d", n%apps)
	revision := fmt.Sprintf("%x", (namespace*apps+n%apps)*7919)
	labels := object{
		"app": app, "app.kubernetes.io/name": app, "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": app + "-1.2.3",
		"tier": []string{"web", "api", "db"}[n%3], "pod-template-hash": revision, "build": fmt.Sprintf("%x", n%apps*31+namespace),
		"release": fmt.Sprintf("r%d", n%4), "team": fmt.Sprintf("team%d", namespace/5), "canary": fmt.Sprint(n%50 == 0),
	}
	on := i % s.Nodes
	at := netip.AddrFrom4([4]byte{10, byte(on >> 8), byte(on), byte(2 + i/s.Nodes)})
	return object{
		"apiVersion": "v1", "kind": "Pod", "metadata": meta(namespaceOf(namespace), fmt.Sprintf("%s-%s-%d", app, revision, n), labels),
		"spec": object{
			"nodeName": fmt.Sprintf("node%d", on), "serviceAccountName": app,
			"containers": []object{{"name": "main", "image": app, "ports": []object{{"name": "http", "containerPort": 8080}}}},
		},
		"status": object{"phase": "Running", "podIP": at.String(), "podIPs": []object{{"ip": at.String()}}},
	}
}

func service(i int, s size) object {
	at := netip.AddrFrom4([4]byte{172, 20, byte(i >> 8), byte(i)}).String()
	app := fmt.Sprintf("app%d", i/s.Namespaces%apps)
	return object{
		"apiVersion": "v1", "kind": "Service", "metadata": meta(namespaceOf(i%s.Namespaces), fmt.Sprintf("%s-%d", app, i), nil),
		"spec": object{
			"type": "ClusterIP", "clusterIP": at, "clusterIPs": []string{at}, "selector": object{"app": app},
			"ports": []object{{"port": 80, "targetPort": 8080, "protocol": "TCP"}},
		},
	}
}

// policy closes a namespace to others, lets gateways in, or the database be asked, or
// limits what an app may reach; opened lets one more team in.
func policy(i int, s size, opened bool) object {
	namespace, kind := i%s.Namespaces, i/s.Namespaces%4
	match := func(kv ...string) object {
		m := object{}
		for k := 0; k < len(kv); k += 2 {
			m[kv[k]] = kv[k+1]
		}
		return object{"matchLabels": m}
	}
	port := func(n int) []object { return []object{{"port": n, "protocol": "TCP"}} }
	spec := object{"policyTypes": []string{"Ingress"}}
	switch kind {
	case 0:
		spec["podSelector"], spec["ingress"] = object{}, []object{{"from": []object{{"podSelector": object{}}}}}
	case 1:
		spec["podSelector"] = match("tier", "web")
		spec["ingress"] = []object{{"from": []object{{"namespaceSelector": match("stage", "ops"), "podSelector": match("tier", "web")}}, "ports": port(8080)}}
	case 2:
		spec["podSelector"] = match("tier", "db")
		spec["ingress"] = []object{{"from": []object{{"podSelector": match("tier", "api")}}, "ports": port(5432)}}
	default:
		spec["podSelector"], spec["policyTypes"] = match("app", fmt.Sprintf("app%d", namespace%apps)), []string{"Egress"}
		spec["egress"] = []object{
			{"to": []object{{"namespaceSelector": match("team", fmt.Sprintf("team%d", namespace/5))}}},
			{"to": []object{{"ipBlock": object{"cidr": "203.0.113.0/24"}}}, "ports": port(443)},
		}
	}
	if opened {
		rule := object{"from": []object{{"namespaceSelector": match("team", fmt.Sprintf("team%d", (namespace/5+1)%max(s.Namespaces/5, 1)))}}, "ports": port(9090)}
		rules, _ := spec["ingress"].([]object)
		spec["ingress"], spec["policyTypes"] = append(rules, rule), []string{"Ingress", "Egress"}[:1+kind/3]
	}
	return object{
		"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
		"metadata": meta(namespaceOf(namespace), fmt.Sprintf("p%d", i/s.Namespaces), nil), "spec": spec,
	}
}
