package packets

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/bench/internal/bpf"
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
	pathReply        = "from_pod → pod of the node, reply"
	pathRotating     = "from_pod → pod of the node, 15,000 flows in turn"
	pathNew          = "from_pod → pod of the node, new flow (SYN)"
	pathNewFull      = "the same, table of new flows full"
	pathRemote       = "from_pod → other node, by the routing table"
	pathOutside      = "from_pod → outside"
	pathStack        = "from_pod → the node itself"
	pathFromNode     = "to_pod, from the node itself"
	pathTunnel       = "from_pod → tunnel"
	pathDenied       = "from_pod, denied by policy"
	pathSpoofed      = "from_pod, wrong source: dropped"
	pathArrives      = "from_netdev → pod"
	pathArrivesTurn  = "from_netdev → every pod in turn"
	pathArrivesStack = "from_netdev → the node itself"
	pathLeaves       = "to_netdev"
	pathEncap        = "to_overlay"
	pathDecap        = "from_overlay → pod"
	pathEmpty        = "an empty program, alone"
	pathLookup       = "one hash look-up, 16-byte key"
	pathLongLookup   = "one hash look-up, 40-byte key"
	pathLPM          = "one LPM look-up, 128-bit key"
)

// Texts of the counters that cases must move.
const (
	forwarded = "Forwarded"
	toStack   = "To stack"
	spoofed   = "Invalid source ip"
	denied    = "Policy denied"
)

const (
	rotatingFlows = 15000
	// endlessFlows are more than a case can use up.
	endlessFlows = 1 << 30
	rotatingPort = 20000
	newPort      = 30000
	newFullPort  = 40000
)

// probe is one case: what a program sees, and what must come of it.
type probe struct {
	path    string
	own     string // a program of bench.bpf.c in place of the side's
	side    side
	frames  []frame // in turn; none for the side's own
	flows   flows
	table   tableState
	verdict uint32
	reason  string
	talks   []talk // that are opened first; each has the flows
}

// tableState is how the table of new flows is found by each sample.
type tableState int

const (
	asItIs tableState = iota
	emptied
	filled
)

// world is a node as the cases see it, in one family.
type world struct {
	device, overlay netlink.Link // overlay is nil in native routing
	self, remote    netip.Addr   // this node, and a pod of another
	pods            []state.Endpoint
	groups          map[node.Group][2]int // the pods of each group, by their index
	is6             bool
}

func (w world) addr(pod int) netip.Addr {
	if w.is6 {
		return w.pods[pod].IPv6
	}
	return w.pods[pod].IPv4
}

// from is what a pod sends.
func (w world) from(pod int, dst netip.Addr, sport, dport uint16) side {
	router, mac := pair.RouterMAC(), w.pods[pod].MAC
	return side{program: loader.FromPod, ifindex: w.pods[pod].HostIndex, frame: frame{
		srcMAC: mac[:], dstMAC: router[:],
		src: netip.AddrPortFrom(w.addr(pod), sport), dst: netip.AddrPortFrom(dst, dport),
	}}
}

// arriving is what reaches the node.
func (w world) arriving(src, dst netip.Addr, sport, dport uint16) side {
	return side{program: loader.FromNetdev, ifindex: w.device.Attrs().Index, frame: frame{
		srcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, dstMAC: w.device.Attrs().HardwareAddr,
		src: netip.AddrPortFrom(src, sport), dst: netip.AddrPortFrom(dst, dport),
	}}
}

// unwrapped is what comes out of the tunnel.
func (w world) unwrapped(src, dst netip.Addr, sport, dport uint16) side {
	s := w.arriving(src, dst, sport, dport)
	s.program, s.ifindex, s.vni = loader.FromOverlay, w.overlay.Attrs().Index, datapath.TunnelVNI
	s.frame.dstMAC = w.overlay.Attrs().HardwareAddr
	return s
}

// inside is a connection between two pods of the node.
func (w world) inside(a, b int) talk {
	return talk{w.from(a, w.addr(b), sourcePort, targetPort), w.from(b, w.addr(a), targetPort, sourcePort)}
}

// outward is a connection of a pod with an address elsewhere.
func (w world) outward(pod int, to netip.Addr) talk {
	return talk{w.from(pod, to, sourcePort, targetPort), w.arriving(to, w.addr(pod), targetPort, sourcePort)}
}

// inward is one that begins elsewhere.
func (w world) inward(from netip.Addr, pod int) talk {
	return talk{w.arriving(from, w.addr(pod), sourcePort, targetPort), w.from(pod, from, targetPort, sourcePort)}
}

// established is a case that measures the first side of a connection.
func established(path string, t talk) probe {
	return probe{path: path, side: t.there, verdict: verdictRedirect, reason: forwarded, talks: []talk{t}}
}

// inTurn is a case that measures the first sides of several, in turn.
func inTurn(path string, talks []talk) probe {
	p := established(path, talks[0])
	p.talks = talks
	for _, t := range talks {
		p.frames = append(p.frames, t.there.frame)
	}
	return p
}

// localProbes depend on how many endpoints there are.
func (w world) localProbes() []probe {
	var local, arrives []talk
	for i := range w.pods[1:] {
		local, arrives = append(local, w.inside(0, i+1)), append(arrives, w.inward(w.remote, i+1))
	}
	return []probe{
		established(pathLocal, local[0]), inTurn(pathLocalTurn, local),
		established(pathArrives, arrives[0]), inTurn(pathArrivesTurn, arrives),
	}
}

// nativeProbes are the ways of a node in native routing.
func (w world) nativeProbes() []probe {
	wrong := w.from(0, w.self, sourcePort, targetPort)
	wrong.frame.src = netip.AddrPortFrom(w.addr(1), sourcePort)
	toSelf := w.arriving(w.remote, w.self, sourcePort, targetPort)
	leaving := toSelf
	leaving.program = loader.ToNetdev
	stack := talk{w.from(0, w.self, sourcePort, targetPort), w.arriving(w.self, w.addr(0), targetPort, sourcePort)}
	stack.back.program, stack.back.ifindex = loader.ToPod, w.pods[0].HostIndex
	own := func(path, name string) probe {
		return probe{path: path, own: name, side: toSelf, verdict: verdictContinue}
	}
	return []probe{
		established(pathRemote, w.outward(0, w.remote)),
		{path: pathStack, side: stack.there, verdict: verdictContinue, reason: toStack, talks: []talk{stack}},
		{path: pathFromNode, side: stack.back, verdict: verdictContinue, reason: forwarded, talks: []talk{stack}},
		{path: pathSpoofed, side: wrong, verdict: verdictDrop, reason: spoofed},
		{path: pathArrivesStack, side: toSelf, verdict: verdictContinue, reason: toStack},
		{path: pathLeaves, side: leaving, verdict: verdictContinue, reason: forwarded},
		own(pathEmpty, bpf.BenchProgEmpty), own(pathLookup, bpf.BenchProgHashLookup),
		own(pathLongLookup, bpf.BenchProgLongHashLookup), own(pathLPM, bpf.BenchProgLpmLookup),
	}
}

// policyProbes are the ways of two pods under the same policies.
func (w world) policyProbes(g node.Group) []probe {
	a, b := w.groups[g][0], w.groups[g][1]
	outside := node.Outside(w.is6)
	talked := w.inside(a, b)
	reply := established(pathReply, talked)
	reply.side = talked.back
	rotating := established(pathRotating, talked)
	rotating.flows = flows{count: rotatingFlows, target: rotatingPort}
	fresh := probe{
		path: pathNew, side: talked.there.sending(opening), table: emptied, verdict: verdictRedirect, reason: forwarded,
		flows: flows{count: endlessFlows, target: newPort},
	}
	out := []probe{
		established(pathLocal, talked), reply, rotating, fresh,
		established(pathOutside, w.outward(a, outside)), established(pathArrives, w.inward(outside, b)),
	}
	if g == node.GroupOpen {
		full := fresh
		full.path, full.table, full.flows.target = pathNewFull, filled, newFullPort
		return append(out, full)
	}
	return append(out, probe{
		path: pathDenied, side: w.from(a, w.addr(b), sourcePort, node.DeniedPort).sending(opening),
		verdict: verdictDrop, reason: denied,
	})
}

// tunnelProbes are what a tunnel adds.
func (w world) tunnelProbes() []probe {
	out := talk{w.from(0, w.remote, sourcePort, targetPort), w.unwrapped(w.remote, w.addr(0), targetPort, sourcePort)}
	in := talk{w.unwrapped(w.remote, w.addr(1), sourcePort, targetPort), w.from(1, w.remote, targetPort, sourcePort)}
	encap := out.there
	encap.program, encap.ifindex = loader.ToOverlay, w.overlay.Attrs().Index
	return []probe{
		established(pathTunnel, out),
		{path: pathEncap, side: encap, verdict: verdictContinue, reason: forwarded},
		established(pathDecap, in),
	}
}

// wire gives the probe's frames in their size.
func (p probe) wire(size int) ([][]byte, error) {
	list := p.frames
	if len(list) == 0 {
		list = []frame{p.side.frame}
	}
	var out [][]byte
	for _, f := range list {
		f.size = size
		b, err := f.bytes()
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}
