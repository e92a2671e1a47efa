package objects

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// podText is a pod as kubectl writes it, with the parts that most pods have.
const podText = `apiVersion: v1
kind: Pod
metadata:
  annotations:
    prometheus.io/scrape: "true"
  creationTimestamp: "2026-03-02T10:00:00Z"
  generateName: web-5d4f8c9b7-
  labels:
    app.kubernetes.io/instance: web-prod
    app.kubernetes.io/name: web
    pod-template-hash: 5d4f8c9b7
    team: checkout
  name: web-5d4f8c9b7-NUMBER
  namespace: shop
  ownerReferences:
  - apiVersion: apps/v1
    blockOwnerDeletion: true
    controller: true
    kind: ReplicaSet
    name: web-5d4f8c9b7
    uid: 8d0c3d0e-9a5b-4a55-8f07-1d2f3a4b5c6d
  resourceVersion: "1234567"
  uid: 0d0c3d0e-9a5b-4a55-8f07-NUMBER
spec:
  containers:
  - env:
    - name: LOG_LEVEL
      value: info
    image: registry.example.com/shop/web:1.2.3
    imagePullPolicy: IfNotPresent
    name: web
    ports:
    - containerPort: 8080
      name: http
      protocol: TCP
    resources:
      limits:
        cpu: 500m
        memory: 256Mi
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
    volumeMounts:
    - mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      name: kube-api-access-xxxxx
      readOnly: true
  dnsPolicy: ClusterFirst
  enableServiceLinks: true
  nodeName: node-1
  preemptionPolicy: PreemptLowerPriority
  priority: 0
  restartPolicy: Always
  schedulerName: default-scheduler
  securityContext: {}
  serviceAccount: web
  serviceAccountName: web
  terminationGracePeriodSeconds: 30
  tolerations:
  - effect: NoExecute
    key: node.kubernetes.io/not-ready
    operator: Exists
    tolerationSeconds: 300
  volumes:
  - name: kube-api-access-xxxxx
    projected:
      defaultMode: 420
      sources:
      - serviceAccountToken:
          expirationSeconds: 3607
          path: token
status:
  conditions:
  - lastProbeTime: null
    lastTransitionTime: "2026-03-02T10:00:00Z"
    status: "True"
    type: Ready
  containerStatuses:
  - containerID: containerd://0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    image: registry.example.com/shop/web:1.2.3
    imageID: registry.example.com/shop/web@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    lastState: {}
    name: web
    ready: true
    restartCount: 0
    started: true
    state:
      running:
        startedAt: "2026-03-02T10:00:00Z"
  hostIP: 10.0.0.1
  phase: Running
  podIP: 10.1.0.1
  podIPs:
  - ip: 10.1.0.1
  qosClass: Burstable
  startTime: "2026-03-02T10:00:00Z"
`

func podNumber(n int) string { return strings.ReplaceAll(podText, "NUMBER", fmt.Sprintf("%012d", n)) }

// BenchmarkLoad reads one list of 50,000 pods, in each form, and tells the most
// memory that the heap took.
func BenchmarkLoad(b *testing.B) {
	const pods = 50_000
	for name, write := range map[string]func(w *bufio.Writer){
		"yaml": func(w *bufio.Writer) {
			fmt.Fprint(w, "apiVersion: v1\nitems:\n")
			for n := range pods {
				fmt.Fprint(w, elements(podNumber(n), ""))
			}
			fmt.Fprint(w, "kind: List\nmetadata:\n  resourceVersion: \"\"\n")
		},
		"json": func(w *bufio.Writer) {
			text, err := yaml.YAMLToJSON([]byte(podText))
			if err != nil {
				b.Fatal(err)
			}
			fmt.Fprint(w, `{"apiVersion":"v1","kind":"List","items":[`)
			for n := range pods {
				if n > 0 {
					fmt.Fprint(w, ",\n")
				}
				fmt.Fprint(w, strings.ReplaceAll(string(text), "NUMBER", fmt.Sprintf("%012d", n)))
			}
			fmt.Fprint(w, "]}\n")
		},
	} {
		b.Run(name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "pods."+name)
			size := writeFile(b, path, write)
			b.SetBytes(size)
			peak := watchHeap(b)
			for b.Loop() {
				s, err := Load(b.Context(), Options{Paths: []string{path}})
				if err != nil || len(s.Pods) != pods || len(s.Problems) > 0 {
					b.Fatalf("error %v", err)
				}
			}
			b.ReportMetric(float64(peak.Load())/(1<<20), "MiB-peak")
		})
	}
}

func writeFile(b *testing.B, path string, write func(*bufio.Writer)) int64 {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(f)
	write(w)
	if err = w.Flush(); err != nil {
		b.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return info.Size()
}

// watchHeap keeps the most memory that the heap takes until the benchmark ends.
func watchHeap(b *testing.B) *atomic.Uint64 {
	b.Helper()
	runtime.GC()
	var peak atomic.Uint64
	done := make(chan struct{})
	b.Cleanup(func() { close(done) })
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak.Store(max(peak.Load(), m.HeapInuse))
			}
		}
	}()
	return &peak
}
