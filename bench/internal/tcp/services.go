package tcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/bench/internal/cluster"
	"github.com/placid-net/placid/bench/internal/kubeproxy"
	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath"
)

// Names of paths to services.
const (
	PathPackets  = "Placid, packets translated"
	PathSockets  = "Placid, sockets translated"
	PathNFTables = "kube-proxy, nftables"
	PathIPTables = "kube-proxy, iptables"
)

// Target says which service is asked.
type Target string

// The targets.
const (
	TargetPod    Target = "no service" // the backends themselves
	TargetFirst  Target = "first"
	TargetLast   Target = "last"
	TargetRandom Target = "random"
)

// targets are the addresses of a target among so many services.
func (t Target) targets(count int) Targets {
	port, _ := Connects.port() // it has one
	out := Targets{First: cluster.Address(0, false), Count: 1, Port: cluster.Port}
	switch t {
	case TargetPod:
		return Targets{First: backendPods()[0], Count: cluster.Backends, Port: port}
	case TargetFirst:
	case TargetLast:
		out.First = cluster.Address(count-1, false)
	case TargetRandom:
		out.Count = count
	}
	return out
}

// ServicesSpec says what to measure.
type ServicesSpec struct {
	Args
	Tools    kubeproxy.Tools
	Counts   []int // of services, ascending
	Rounds   int
	Duration time.Duration // of each case in a round
	// SyncLimit bounds how long kube-proxy may take to serve everything.
	SyncLimit time.Duration
}

// ServiceSample is what connects with one round trip took, a value a round, in
// microseconds.
type ServiceSample struct {
	Path     string
	Services int
	Target   Target
	P50, P99 []float64
}

// Sync is what kube-proxy needed to serve all services, from the start of its
// process on, with those all there.
type Sync struct {
	Path     string
	Services int
	kubeproxy.Usage
}

// ServicesReport is what was measured.
type ServicesReport struct {
	Spec    ServicesSpec
	Samples []ServiceSample
	Syncs   []Sync
}

// servicePath is a way from a client to services.
type servicePath struct {
	name    string
	client  *netlab.Namespace
	servers []*netlab.Namespace
	cgroup  *netlab.Cgroup // of the client; nil: that of the whole run
	targets []Target
}

func serviceTargets() []Target { return []Target{TargetFirst, TargetLast, TargetRandom} }

func allTargets() []Target { return append([]Target{TargetPod}, serviceTargets()...) }

// clientPod is the number of the client's pod; those of the servers follow.
const clientPod = 1

func backendPods() []netip.Addr {
	var out []netip.Addr
	for i := range cluster.Backends {
		out = append(out, node.PodAddr(1, clientPod+1+i, false))
	}
	return out
}

func shape() cluster.Shape {
	port, _ := Connects.port() // it has one
	return cluster.Shape{Pods: backendPods(), Port: uint16(port)}
}

// ServicesChild is a process with mounts of its own: it reads a ServicesSpec,
// measures, and writes a ServicesReport, both as JSON.
func ServicesChild(ctx context.Context, in io.Reader, out, progress io.Writer) (err error) {
	var spec ServicesSpec
	if err = json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("read what to measure: %w", err)
	}
	m := &serviceRun{spec: spec, report: ServicesReport{Spec: spec}, progress: progress}
	m.say("start the API server")
	if m.control, err = kubeproxy.StartControlPlane(ctx, spec.Tools); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.control.Close()) }()
	created := 0
	for _, count := range spec.Counts {
		m.say("%d services: create them", count)
		if err = m.control.Create(ctx, shape(), created, count); err != nil {
			return err
		}
		created = count
		if err = m.measure(ctx, count); err != nil {
			return fmt.Errorf("%d services: %w", count, err)
		}
	}
	return json.NewEncoder(out).Encode(m.report)
}

// serviceRun measures one number of services after the other.
type serviceRun struct {
	spec     ServicesSpec
	control  *kubeproxy.ControlPlane
	report   ServicesReport
	progress io.Writer
}

func (m *serviceRun) say(format string, args ...any) {
	_, _ = fmt.Fprintf(m.progress, "services: "+format+"\n", args...)
}

// measure measures all paths beside each other.
func (m *serviceRun) measure(ctx context.Context, count int) (err error) {
	t := &serviceTopology{topology: topology{nodeArgs: m.spec.Node}}
	r := runner{args: m.spec.Args, cpu: runtime.NumCPU() - 1}
	defer func() {
		r.stop()
		err = errors.Join(err, t.close())
	}()
	if err = m.paths(ctx, t, &r, count); err != nil {
		return err
	}
	var samples []ServiceSample
	var of []servicePath
	for _, p := range t.paths {
		for _, target := range p.targets {
			samples, of = append(samples, ServiceSample{Path: p.name, Services: count, Target: target}), append(of, p)
		}
	}
	for round := range m.spec.Rounds {
		m.say("%d services: round %d of %d", count, round+1, m.spec.Rounds)
		for _, i := range rand.Perm(len(samples)) {
			s := &samples[i]
			l, err := r.connectTimes(ctx, of[i], s.Target.targets(count), m.spec.Duration)
			if err != nil {
				return err
			}
			s.P50, s.P99 = append(s.P50, l.P50), append(s.P99, l.P99)
		}
	}
	m.report.Samples = append(m.report.Samples, samples...)
	return nil
}

// paths makes all paths. Each kube-proxy begins when all before it serve, so that
// they do not slow each other down.
func (m *serviceRun) paths(ctx context.Context, t *serviceTopology, r *runner, count int) error {
	for _, open := range []func() (servicePath, error){
		t.direct,
		func() (servicePath, error) { return t.routed(PathRouted) },
		func() (servicePath, error) { return t.placid(PathPackets, count, false) },
		func() (servicePath, error) { return t.placid(PathSockets, count, true) },
	} {
		p, err := open()
		if err != nil {
			return fmt.Errorf("make the paths: %w", err)
		}
		if err := m.begin(t, r, p, count); err != nil {
			return err
		}
	}
	for _, mode := range []kubeproxy.Mode{kubeproxy.ModeIPTables, kubeproxy.ModeNFTables} {
		if err := m.proxied(ctx, t, r, mode, count); err != nil {
			return fmt.Errorf("kube-proxy, %s: %w", mode, err)
		}
	}
	return nil
}

// begin starts the servers of a path, and asks what it leads to.
func (m *serviceRun) begin(t *serviceTopology, r *runner, p servicePath, count int) error {
	for _, ns := range p.servers {
		if err := r.serve(Path{Name: p.name, server: ns}, Connects); err != nil {
			return err
		}
	}
	t.paths = append(t.paths, p)
	if p.cgroup != nil {
		return nil // this process is not in it
	}
	for _, target := range p.targets {
		if err := p.try(target.targets(count)); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// try asks one of the targets. This process, unlike a client's, is interrupted now
// and then by its own runtime.
func (p servicePath) try(to Targets) error {
	return p.client.Do(func() error {
		for {
			err := connectOnce(to.pick(), to.Port, make([]byte, chunk))
			if !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	})
}

// proxied makes a path by kube-proxy.
func (m *serviceRun) proxied(ctx context.Context, t *serviceTopology, r *runner, mode kubeproxy.Mode, count int) error {
	name := map[kubeproxy.Mode]string{kubeproxy.ModeIPTables: PathIPTables, kubeproxy.ModeNFTables: PathNFTables}[mode]
	p, err := t.routed(name)
	if err != nil {
		return err
	}
	router := t.namespaces[len(t.namespaces)-1]
	p.targets = nil // nobody serves them yet
	if err = m.begin(t, r, p, count); err != nil {
		return err
	}
	number, err := m.control.Join(ctx, router)
	if err != nil {
		return err
	}
	m.say("%d services: %s begins", count, name)
	proxy, err := m.control.StartProxy(router, number, mode, netip.PrefixFrom(node.PodAddr(0, 0, false), 16))
	if err != nil {
		return err
	}
	t.proxies = append(t.proxies, proxy)
	usage, err := proxy.WaitServed(ctx, m.spec.SyncLimit, func() error { return p.try(TargetLast.targets(count)) })
	if err != nil {
		return err
	}
	m.say("%d services: %s serves them after %s", count, name, usage.Took.Round(time.Millisecond))
	m.report.Syncs = append(m.report.Syncs, Sync{Path: name, Services: count, Usage: usage})
	last := &t.paths[len(t.paths)-1]
	last.targets = serviceTargets()
	return errors.Join(p.try(TargetFirst.targets(count)), p.try(TargetRandom.targets(count)))
}

// serviceTopology is a topology with what serves services.
type serviceTopology struct {
	topology
	paths   []servicePath
	proxies []*kubeproxy.Proxy
	cgroups []*netlab.Cgroup
}

func (t *serviceTopology) close() error {
	for _, p := range t.proxies {
		p.Stop()
	}
	t.topology.close()
	var errs []error
	for _, c := range t.cgroups {
		errs = append(errs, c.Remove())
	}
	return errors.Join(errs...)
}

// direct joins the client with each of the others by a veth pair and nothing else.
func (t *serviceTopology) direct() (servicePath, error) {
	ns, err := t.make(cluster.Backends + 1)
	if err != nil {
		return servicePath{}, err
	}
	for i, pod := range ns[1:] {
		if err := hang(ns[0], pod, 1, clientPod+1+i); err != nil {
			return servicePath{}, err
		}
	}
	return servicePath{name: PathRaw, client: ns[0], servers: ns[1:], targets: []Target{TargetPod}}, nil
}

// routed joins the pods by a router, the kernel, whose namespace is the last one.
func (t *serviceTopology) routed(name string) (servicePath, error) {
	ns, err := t.make(cluster.Backends + 2)
	if err != nil {
		return servicePath{}, err
	}
	router := ns[len(ns)-1]
	if err := router.Forwarding(); err != nil {
		return servicePath{}, err
	}
	for i, pod := range ns[:len(ns)-1] {
		if err := hang(router, pod, 1, clientPod+i); err != nil {
			return servicePath{}, err
		}
	}
	return servicePath{name: name, client: ns[0], servers: ns[1 : len(ns)-1], targets: []Target{TargetPod}}, nil
}

// placid joins them by a node of Placid's that serves so many services.
func (t *serviceTopology) placid(name string, count int, sockets bool) (servicePath, error) {
	ns, err := t.make(cluster.Backends + 3)
	if err != nil {
		return servicePath{}, err
	}
	pods, self, other := ns[:len(ns)-2], ns[len(ns)-2], ns[len(ns)-1]
	if err = netlab.Join(node.Side(self, 1), node.Side(other, 2)); err != nil {
		return servicePath{}, err
	}
	p := servicePath{name: name, client: pods[0], servers: pods[1:], targets: serviceTargets()}
	spec := node.Spec{
		Self: node.Describe(1), Device: node.Device, Tables: ServiceTables(),
		Serving: &node.Serving{Shape: shape(), Count: count},
	}
	for i, ns := range pods {
		spec.Pods = append(spec.Pods, pod(ns, 1, clientPod+i))
	}
	if sockets {
		if p.cgroup, err = netlab.NewCgroup(); err != nil {
			return p, err
		}
		t.cgroups = append(t.cgroups, p.cgroup)
		spec.Serving.Cgroup = p.cgroup.Path
	} else {
		p.targets = append(p.targets, TargetPod)
	}
	return p, t.spawn(self, spec)
}

// ServiceTables are sizes that hold the largest cluster of package cluster. The
// default ones take 65,536 backends.
func ServiceTables() datapath.TableSizes {
	return datapath.TableSizes{Service: 1 << 16, Backend: 1 << 18}
}

// connectTimes runs one client.
func (r *runner) connectTimes(ctx context.Context, p servicePath, to Targets, duration time.Duration) (l Latency, err error) {
	args := slices.Concat([]string{strconv.Itoa(r.cpu)}, to.args(), []string{duration.String()})
	cmd := child(ctx, r.args.Client, args...)
	var out strings.Builder
	cmd.Stdout = &out
	if p.cgroup != nil {
		cmd.SysProcAttr = &unix.SysProcAttr{}
		p.cgroup.Begin(cmd.SysProcAttr)
	}
	if err = p.client.Start(cmd); err != nil {
		return l, fmt.Errorf("start the client of %s: %w", p.name, err)
	}
	if err = cmd.Wait(); err != nil {
		return l, fmt.Errorf("%s: %w", p.name, err)
	}
	if err = json.Unmarshal([]byte(out.String()), &l); err != nil {
		return l, fmt.Errorf("%s: read the latencies: %w", p.name, err)
	}
	return l, nil
}
