package packets

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/state"
)

// Paths that packets take, as the tables name them.
const (
	pathLocal        = "from_pod → pod of the node"
	pathLocalTurn    = "from_pod → every pod in turn"
	pathRemote       = "from_pod → other node, by the routing table"
	pathStack        = "from_pod → the node itself"
	pathTunnel       = "from_pod → tunnel"
	pathSpoofed      = "from_pod, wrong source: dropped"
	pathArrives      = "from_netdev → pod"
	pathArrivesTurn  = "from_netdev → every pod in turn"
	pathArrivesStack = "from_netdev → the node itself"
	pathLeaves       = "to_netdev"
	pathEncap        = "to_overlay"
	pathDecap        = "from_overlay → pod"
	pathLookup       = "one hash look-up, 16-byte key"
)

// Texts of the counters that cases must move.
const (
	forwarded = "Forwarded"
	toStack   = "To stack"
	spoofed   = "Invalid source ip"
)

// probe is one case: a program, what it sees, and what must come of it.
type probe struct {
	path    string
	program string // by its pin; empty for the look-up
	ifindex int
	vni     uint32
	frames  []frame
	verdict uint32
	reason  string
}

// world is a node as the cases see it, in one family.
type world struct {
	device, overlay netlink.Link // overlay is nil in native routing
	self, remote    netip.Addr   // this node, and a pod of another
	pods            []state.Endpoint
	is6             bool
}

func (w world) addr(ep state.Endpoint) netip.Addr {
	if w.is6 {
		return ep.IPv6
	}
	return ep.IPv4
}

// fromPod is a frame that the first pod sends.
func (w world) fromPod(dst netip.Addr) frame {
	router, mac := pair.RouterMAC(), w.pods[0].MAC
	return frame{srcMAC: mac[:], dstMAC: router[:], src: w.addr(w.pods[0]), dst: dst}
}

// fromNetwork is a frame that reaches the node.
func (w world) fromNetwork(dst netip.Addr) frame {
	return frame{
		srcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, dstMAC: w.device.Attrs().HardwareAddr, src: w.remote, dst: dst,
	}
}

// each makes a frame to every pod but the first.
func (w world) each(build func(netip.Addr) frame) []frame {
	var out []frame
	for _, ep := range w.pods[1:] {
		out = append(out, build(w.addr(ep)))
	}
	return out
}

// localProbes depend on how many endpoints there are.
func (w world) localProbes() []probe {
	toPod, arrives := w.each(w.fromPod), w.each(w.fromNetwork)
	pod, dev := w.pods[0].HostIndex, w.device.Attrs().Index
	return []probe{
		{path: pathLocal, program: loader.FromPod, ifindex: pod, frames: toPod[:1], verdict: verdictRedirect, reason: forwarded},
		{path: pathLocalTurn, program: loader.FromPod, ifindex: pod, frames: toPod, verdict: verdictRedirect, reason: forwarded},
		{path: pathArrives, program: loader.FromNetdev, ifindex: dev, frames: arrives[:1], verdict: verdictRedirect, reason: forwarded},
		{path: pathArrivesTurn, program: loader.FromNetdev, ifindex: dev, frames: arrives, verdict: verdictRedirect, reason: forwarded},
	}
}

// nativeProbes are the ways of a node in native routing.
func (w world) nativeProbes() []probe {
	pod, dev := w.pods[0].HostIndex, w.device.Attrs().Index
	other := w.fromPod(w.self)
	other.src = w.addr(w.pods[1])
	one := func(f frame) []frame { return []frame{f} }
	return []probe{
		{path: pathRemote, program: loader.FromPod, ifindex: pod, frames: one(w.fromPod(w.remote)), verdict: verdictRedirect, reason: forwarded},
		{path: pathStack, program: loader.FromPod, ifindex: pod, frames: one(w.fromPod(w.self)), verdict: verdictContinue, reason: toStack},
		{path: pathSpoofed, program: loader.FromPod, ifindex: pod, frames: one(other), verdict: verdictDrop, reason: spoofed},
		{path: pathArrivesStack, program: loader.FromNetdev, ifindex: dev, frames: one(w.fromNetwork(w.self)), verdict: verdictContinue, reason: toStack},
		{path: pathLeaves, program: loader.ToNetdev, ifindex: dev, frames: one(w.fromNetwork(w.self)), verdict: verdictContinue, reason: forwarded},
		{path: pathLookup, ifindex: dev, frames: one(w.fromNetwork(w.self)), verdict: verdictContinue},
	}
}

// tunnelProbes are what a tunnel adds.
func (w world) tunnelProbes() []probe {
	pod, overlay := w.pods[0].HostIndex, w.overlay.Attrs().Index
	arrived := w.fromNetwork(w.addr(w.pods[1]))
	arrived.dstMAC = w.overlay.Attrs().HardwareAddr
	sent := []frame{w.fromPod(w.remote)}
	return []probe{
		{path: pathTunnel, program: loader.FromPod, ifindex: pod, frames: sent, verdict: verdictRedirect, reason: forwarded},
		{path: pathEncap, program: loader.ToOverlay, ifindex: overlay, frames: sent, verdict: verdictContinue, reason: forwarded},
		{path: pathDecap, program: loader.FromOverlay, ifindex: overlay, vni: datapath.TunnelVNI, frames: []frame{arrived}, verdict: verdictRedirect, reason: forwarded},
	}
}

// open makes the runners of a probe: with its program, and with an empty one.
func (p probe) open(size int) (full, idle *runner, err error) {
	var frames [][]byte
	for _, f := range p.frames {
		f.size = size
		b, frameErr := f.bytes()
		if frameErr != nil {
			return nil, nil, frameErr
		}
		frames = append(frames, b)
	}
	t := target{own: "hash_lookup", attach: ebpf.AttachTCXIngress, vni: p.vni}
	if p.program != "" {
		if t.program, err = ebpf.LoadPinnedProgram(node.Root+"/programs/"+p.program, nil); err != nil {
			return nil, nil, fmt.Errorf("open program %s: %w", p.program, err)
		}
		defer func() { _ = t.program.Close() }()
	}
	if slices.Contains([]string{loader.ToNetdev, loader.ToOverlay}, p.program) {
		t.attach = ebpf.AttachTCXEgress
	}
	if full, err = newRunner(t, p.ifindex, frames); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", p.path, err)
	}
	idle, err = newRunner(target{own: "empty", attach: t.attach, vni: p.vni}, p.ifindex, frames)
	return full, idle, err
}
