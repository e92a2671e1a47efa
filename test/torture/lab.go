package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	bpffs  = "/sys/fs/bpf"
	device = "eth0"
)

// Addresses of the lab.
var (
	nodeAddr    = netip.MustParseAddr("192.0.2.1")
	outsideAddr = netip.MustParseAddr("192.0.2.9")
	podRange    = netip.MustParsePrefix("10.1.1.0/24")
	clientAddr  = netip.MustParseAddr("10.1.1.10")
	serverAddrs = []netip.Addr{netip.MustParseAddr("10.1.1.21"), netip.MustParseAddr("10.1.1.22")}
	serviceAddr = netip.MustParseAddr("172.20.0.1")
)

// Ports that are served.
const (
	tcpPorts   = 16   // from each of the next two: one has too few source ports for all connections
	longPorts  = 8    // of these, the first: those of long connections, and of no others
	tcpPort    = 8000 // of what the service serves
	directPort = 9000 // of what only pods that know of it ask for
	queryPort  = 53
)

// space is a network namespace without a name: it ends with the processes that are
// in it.
type space struct{ handle netns.NsHandle }

func newSpace() (*space, error) {
	s := &space{}
	err := elsewhere(func() (err error) {
		s.handle, err = netns.New()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	// Nobody is to speak IPv6 here.
	return s, s.do(func() error { return errors.Join(up("lo"), sysctl("net/ipv6/conf/default/disable_ipv6", "1")) })
}

// elsewhere runs f on a thread that comes back to its namespace.
func elsewhere(f func() error) error {
	runtime.LockOSThread()
	old, err := netns.Get()
	if err != nil {
		return err
	}
	defer func() { _ = old.Close() }()
	result := f()
	if err := netns.Set(old); err != nil {
		return errors.Join(result, err) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return result
}

// do runs f in the namespace.
func (s *space) do(f func() error) error {
	return elsewhere(func() error {
		if err := netns.Set(s.handle); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// path names the namespace to other processes.
func (s *space) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(s.handle)) }

func sysctl(key, value string) error {
	if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s: %w", key, err)
	}
	return nil
}

func up(name string) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

func addAddr(name string, a netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}})
	}
	if err != nil {
		return fmt.Errorf("add %s to %s: %w", a, name, err)
	}
	return up(name)
}

// lab is the node's own namespace, in which this process is, and the others.
type lab struct {
	outside, client *space
	servers         []*space
}

// newLab makes the namespaces; pods have no interfaces yet.
func newLab() (*lab, error) {
	if err := unix.Mount("bpf", bpffs, "bpf", 0, "mode=0700"); err != nil {
		return nil, fmt.Errorf("mount a BPF file system: %w", err)
	}
	l := &lab{}
	var err error
	for _, s := range []**space{&l.outside, &l.client} {
		if *s, err = newSpace(); err != nil {
			return nil, err
		}
	}
	for range serverAddrs {
		s, spaceErr := newSpace()
		if spaceErr != nil {
			return nil, spaceErr
		}
		l.servers = append(l.servers, s)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = device
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: device, PeerNamespace: netlink.NsFd(int(l.outside.handle))}
	if err = netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("join node and outside: %w", err)
	}
	err = errors.Join(up("lo"), addAddr(device, nodeAddr), l.outside.do(func() error { return addAddr(device, outsideAddr) }),
		l.client.do(func() error {
			return errors.Join(sysctl("net/ipv4/ip_local_port_range", "1024 65535"), sysctl("net/ipv4/tcp_tw_reuse", "1"))
		}))
	for _, s := range append([]*space{l.outside}, l.servers...) {
		err = errors.Join(err, s.do(func() error { return sysctl("net/core/somaxconn", "16384") }))
	}
	return l, err
}

// process is a child in a namespace, that says a line when it is ready and ends
// when its input does.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start runs this program in a role. spec is what it reads first.
func start(in *space, role string, spec any) (*process, error) {
	p := &process{cmd: exec.Command("/proc/self/exe")}
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := in.do(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	if err := json.NewEncoder(p.in).Encode(spec); err != nil {
		return nil, fmt.Errorf("tell %s what to do: %w", role, errors.Join(err, p.close()))
	}
	return p, p.ready(role)
}

func (p *process) ready(what string) error {
	if _, err := p.out.ReadString('\n'); err != nil {
		return fmt.Errorf("wait for %s: %w", what, errors.Join(err, p.close()))
	}
	return nil
}

func (p *process) close() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }
