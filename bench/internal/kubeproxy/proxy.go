package kubeproxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/placid-net/placid/bench/internal/netlab"
)

// Mode is how kube-proxy serves.
type Mode string

// The modes.
const (
	ModeIPTables Mode = "iptables" // by the kernel's own tables, as the program iptables-legacy writes them
	ModeNFTables Mode = "nftables"
)

// ticks a second of /proc/PID/stat, on every architecture that Go runs on.
const ticks = 100

// Proxy is a kube-proxy that runs.
type Proxy struct {
	cmd     *exec.Cmd
	log     string
	started time.Time
}

// link is the network between the control plane and a node; the control plane has
// the first address.
func link(number int) (control, node netip.Prefix) {
	addr := func(last byte) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(number), last}), 24)
	}
	return addr(1), addr(2)
}

// Join connects a node's namespace with the control plane, and makes its Node
// object. Each node is joined once. It returns the number of the node, for StartProxy.
func (c *ControlPlane) Join(ctx context.Context, node *netlab.Namespace) (int, error) {
	c.nodes++
	number := c.nodes
	control, own := link(number)
	err := netlab.Join(
		netlab.Side{In: c.namespace, Device: fmt.Sprintf("node%d", number), Addrs: []netip.Prefix{control}},
		netlab.Side{In: node, Device: "control", Addrs: []netip.Prefix{own}})
	if err != nil {
		return 0, err
	}
	return number, c.addNode(ctx, nodeName(number), own.Addr())
}

func nodeName(number int) string { return fmt.Sprintf("node-%d", number) }

// StartProxy starts kube-proxy on a joined node. Pods is the range of their
// addresses. Stop it.
func (c *ControlPlane) StartProxy(node *netlab.Namespace, number int, mode Mode, pods netip.Prefix) (*Proxy, error) {
	own := filepath.Join(folder, nodeName(number))
	if err := os.MkdirAll(own, 0o700); err != nil {
		return nil, fmt.Errorf("configure kube-proxy: %w", err)
	}
	control, _ := link(number)
	for name, content := range map[string]any{
		"kubeconfig": kubeconfig(control.Addr()), "config": configuration(mode, number, own+"/kubeconfig", pods),
	} {
		b, err := json.Marshal(content)
		if err != nil {
			return nil, fmt.Errorf("configure kube-proxy: %w", err)
		}
		if err := os.WriteFile(filepath.Join(own, name), b, 0o600); err != nil {
			return nil, fmt.Errorf("configure kube-proxy: %w", err)
		}
	}
	p := &Proxy{log: own + "/kube-proxy.log", started: time.Now()}
	var err error
	p.cmd, err = start(node, filepath.Join(c.tools.Folder, "kube-proxy"), p.log, c.environment(), "--config="+own+"/config")
	return p, err
}

// environment lets kube-proxy find iptables, which nobody else on the machine is
// to find: kubelet changes what it does.
func (c *ControlPlane) environment() []string {
	libraries, _ := filepath.Glob(filepath.Join(c.tools.IPTables, "usr", "lib", "*-linux-gnu")) // the pattern is right
	out := []string{"PATH=" + filepath.Join(c.tools.IPTables, "bin") + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
	if len(libraries) > 0 {
		out = append(out, "LD_LIBRARY_PATH="+libraries[0], "XTABLES_LIBDIR="+filepath.Join(libraries[0], "xtables"))
	}
	return out
}

type object = map[string]any

func kubeconfig(server netip.Addr) object {
	return object{
		"apiVersion": "v1", "kind": "Config", "current-context": "bench",
		"clusters": []object{{"name": "bench", "cluster": object{
			"server": fmt.Sprintf("https://%s", netip.AddrPortFrom(server, apiPort)), "insecure-skip-tls-verify": true,
		}}},
		"users":    []object{{"name": "bench", "user": object{"token": token}}},
		"contexts": []object{{"name": "bench", "context": object{"cluster": "bench", "user": "bench"}}},
	}
}

// configuration is the default but for what belongs to the whole machine.
func configuration(mode Mode, number int, kubeconfigPath string, pods netip.Prefix) object {
	return object{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": mode,
		"hostnameOverride": nodeName(number), "clientConnection": object{"kubeconfig": kubeconfigPath},
		"clusterCIDR": pods.String(), "detectLocalMode": "ClusterCIDR", "conntrack": object{"maxPerCore": 0, "min": 0},
	}
}

// Usage is what kube-proxy has used, with the programs that it ran.
type Usage struct {
	Took time.Duration // since its start
	CPU  time.Duration
	RSS  float64 // MiB, its own
}

// WaitServed waits until try succeeds, which asks what kube-proxy is to serve, and
// then until the programs that it runs have ended.
func (p *Proxy) WaitServed(ctx context.Context, limit time.Duration, try func() error) (Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := p.wait(ctx, try); err != nil {
		return Usage{}, fmt.Errorf("kube-proxy does not serve after %s: %w", limit, err)
	}
	took := time.Since(p.started)
	if err := p.wait(ctx, p.idle); err != nil {
		return Usage{}, fmt.Errorf("kube-proxy is busy after %s: %w", limit, err)
	}
	return p.usage(took)
}

func (p *Proxy) wait(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the end of its log:\n%s", err, lastLines(p.log))
		case <-time.After(poll):
		}
	}
}

// idle tells whether kube-proxy runs no program.
func (p *Proxy) idle() error {
	pattern := fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid)
	threads, err := filepath.Glob(pattern)
	if err == nil && len(threads) == 0 {
		err = fmt.Errorf("no file %s", pattern)
	}
	if err != nil {
		return fmt.Errorf("list the programs that kube-proxy runs: %w", err)
	}
	for _, path := range threads {
		children, err := os.ReadFile(path)
		if err == nil && len(children) > 0 { // a thread may end
			return fmt.Errorf("it runs programs: %s", children)
		}
	}
	return nil
}

func (p *Proxy) usage(took time.Duration) (u Usage, err error) {
	u.Took = took
	pid := p.cmd.Process.Pid
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("read what kube-proxy used: %w", err)
	}
	u.CPU = cpuTime(string(stat))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("read what kube-proxy used: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, _ := strconv.ParseFloat(f[1], 64) // the kernel wrote it
			u.RSS = kib / 1024
		}
	}
	return u, nil
}

// cpuTime is the time of a process and of its children that ended, by the text of
// its /proc/PID/stat.
func cpuTime(stat string) time.Duration {
	// The name in the second field may hold anything, parentheses too.
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	const userTime = 11 // utime, stime, cutime, cstime: fields 14 to 17
	sum := 0
	for i := userTime; i < min(userTime+4, len(fields)); i++ {
		n, _ := strconv.Atoi(fields[i]) // the kernel wrote it
		sum += n
	}
	return time.Duration(sum) * time.Second / ticks
}

// Stop ends kube-proxy. Its rules end with the node's namespace.
func (p *Proxy) Stop() { stop(p.cmd) }
