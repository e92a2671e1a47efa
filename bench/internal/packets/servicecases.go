package packets

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/placid-net/placid/bench/internal/cluster"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// Paths of packets to services, as the tables name them. Those to a pod without
// service are measured beside them.
const (
	pathService         = "from_pod → service"
	pathServiceReply    = "from_pod → service, reply"
	pathServiceRotating = "from_pod → service, 15,000 flows in turn"
	pathServiceNew      = "from_pod → service, new flow (SYN)"
	pathServiceNewAll   = "from_pod → every service in turn, new flow (SYN)"
	pathNodePort        = "from_netdev → node port, pod of the node"
	pathNodePortReply   = "from_pod → client of a node port, reply"
	pathNodePortNew     = "from_netdev → node port, new flow (SYN)"
	pathMasquerade      = "from_pod → outside, masqueraded"
	pathMasqueradeReply = "from_netdev → pod, masqueraded, reply"
	pathMasqueradeNew   = "from_pod → outside, masqueraded, new flow (SYN)"
)

// numbered are as many flows to one port as there are numbers for.
const numbered = 1 << flowBits

// asked is the number of the service that established flows go to: the last of the
// fewest.
const asked = minCount - 1

// serviceProbes are the ways that services add, and those without to compare with.
func (c *serviceChild) serviceProbes(w world) ([]probe, error) {
	talked := w.inside(clientPod, clientPods)
	rotating := established(pathRotating, talked)
	rotating.flows = flows{count: rotatingFlows, target: rotatingPort}
	fresh := newFlow(pathNew, w.inside(newClientPod, clientPods).there)
	out := []probe{established(pathLocal, talked), rotating, fresh}

	address, outside := cluster.Address(asked, w.is6), node.Outside(w.is6)
	for _, way := range []struct {
		there, new           side
		path, reply, newPath string
	}{
		{
			w.from(clientPod, address, sourcePort, cluster.Port), w.from(newClientPod, address, 0, cluster.Port),
			pathService, pathServiceReply, pathServiceNew,
		},
		{
			w.arriving(outside, w.self, sourcePort, cluster.NodePort), w.arriving(outside, w.self, 0, cluster.NodePort),
			pathNodePort, pathNodePortReply, pathNodePortNew,
		},
		{
			w.from(clientPod, outside, sourcePort, targetPort), w.from(newClientPod, outside, 0, targetPort),
			pathMasquerade, pathMasqueradeReply, pathMasqueradeNew,
		},
	} {
		back, err := c.openTranslated(w, way.there, flows{})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way.path, err)
		}
		out = append(out, open(way.path, way.there), open(way.reply, back), newFlow(way.newPath, way.new))
	}
	many := open(pathServiceRotating, w.from(clientPod, address, 0, cluster.Port))
	many.flows = flows{count: rotatingFlows, target: cluster.Port}
	if _, err := c.openTranslated(w, many.side, many.flows); err != nil {
		return nil, fmt.Errorf("%s: %w", pathServiceRotating, err)
	}
	all := newFlow(pathServiceNewAll, w.from(newClientPod, address, 0, cluster.Port))
	first := cluster.Address(0, w.is6).As16()
	all.flows.addrs, all.flows.addr = uint32(c.count), binary.BigEndian.Uint16(first[14:])
	return append(out, many, all), nil
}

// open is a case of a flow that is open.
func open(path string, s side) probe {
	return probe{path: path, side: s, verdict: verdictRedirect, reason: forwarded}
}

// newFlow is a case of SYNs, each of another flow: of another source port.
func newFlow(path string, s side) probe {
	p := open(path, s.sending(opening))
	p.table, p.flows = emptied, flows{count: numbered, target: s.frame.dst.Port()}
	return p
}

// ends are those of a flow as its origin sends it.
type ends struct{ src, dst netip.AddrPort }

// unanswered finds the targets of flows without an answer, which have one entry: the
// one that answers meet, whose sources are those of the origins.
func (c *serviceChild) unanswered() (map[ends]netip.AddrPort, error) {
	out := map[ends]netip.AddrPort{}
	var key abi.CCtKey
	var e abi.CCtEntry
	it := c.fresh.Iterate()
	for it.Next(&key, &e) {
		origin := netorder.HostAddrPort(e.Nat.Addr[1], e.Nat.Port[1])
		for side := range key.Addr {
			if at := netorder.HostAddrPort(key.Addr[side], key.Port[side]); at != origin {
				out[ends{origin, netorder.HostAddrPort(e.Nat.Addr[0], e.Nat.Port[0])}] = at
			}
		}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read the table of new flows: %w", err)
	}
	return out, nil
}

// translation gives where a flow's packets go to, and the source that they have there.
func (c *serviceChild) translation(src, dst netip.AddrPort, unanswered map[ends]netip.AddrPort) (target, source netip.AddrPort, err error) {
	key := node.FlowKey(src, dst)
	var e abi.CCtEntry
	if c.fresh.Lookup(&key, &e) != nil {
		if at, ok := unanswered[ends{src, dst}]; ok {
			return at, src, nil
		}
		if err = c.confirmed.Lookup(&key, &e); err != nil { // it was open before
			return target, source, err
		}
	}
	return netorder.HostAddrPort(e.Nat.Addr[1], e.Nat.Port[1]), netorder.HostAddrPort(e.Nat.Addr[0], e.Nat.Port[0]), nil
}

// openTranslated shakes hands as talk.open does, where each answer comes from the
// target that the programs have chosen, to the source that they gave. It returns
// the first flow's other side.
func (c *serviceChild) openTranslated(w world, there side, f flows) (back side, err error) {
	if err = there.sending(opening).speak(f); err != nil {
		return back, fmt.Errorf("open a flow: %w", err)
	}
	unanswered, err := c.unanswered()
	if err != nil {
		return back, err
	}
	voices := voices{}
	defer voices.close()
	for i := range max(1, f.count) {
		src, dst := there.frame.src, there.frame.dst
		if f.count > 0 {
			src, dst = flowPorts(src.Addr(), dst.Addr(), i, f.target)
		}
		target, source, findErr := c.translation(src, dst, unanswered)
		if findErr != nil {
			return back, fmt.Errorf("look for the flow from %s to %s: %w", src, dst, findErr)
		}
		s, wayErr := w.answering(target, source)
		if wayErr != nil {
			return back, wayErr
		}
		if err = voices.speak(s.sending(answer)); err != nil {
			return back, err
		}
		if i == 0 {
			back = s
		}
	}
	if err = there.sending(data).speak(f); err != nil {
		return back, fmt.Errorf("open a flow: %w", err)
	}
	return back, talk{there: there}.established(f)
}

// answering is what the target of a flow sends.
func (w world) answering(src, dst netip.AddrPort) (side, error) {
	if !src.Addr().IsValid() || src.Port() == 0 {
		return side{}, fmt.Errorf("a flow is not translated: its target is %s", src)
	}
	for i := range w.pods {
		if w.addr(i) == src.Addr() {
			return w.from(i, dst.Addr(), src.Port(), dst.Port()), nil
		}
	}
	return w.arriving(src.Addr(), dst.Addr(), src.Port(), dst.Port()), nil
}

// voices are programs, by their names, that single packets are given to.
type voices map[string]target

func (v voices) speak(s side) error {
	t, ok := v[s.program]
	if !ok {
		var err error
		if t, err = s.target(flows{}); err != nil {
			return err
		}
		v[s.program] = t
	}
	return s.say(t)
}

func (v voices) close() {
	for _, t := range v {
		_ = t.program.Close()
	}
}
