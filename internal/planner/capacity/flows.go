package capacity

import (
	"strings"
	"time"

	"github.com/placid-net/placid/internal/config"
	"github.com/placid-net/placid/internal/planner/snapshot"
)

// How many entries flows take: as many begin a second as live that long. Little's
// law (L = λW) gives the number of entries that are there on average; tables should
// have room for more.
//
// A TCP connection is there while it is open and for bpf-ct-timeout-regular-tcp-fin
// after it has ended, one of UDP while it is open and for
// bpf-ct-timeout-regular-any. A question of DNS has its answer and nothing more: it
// never gets established, and stays among Placid's embryonic flows until it times
// out, in Cilium's table of flows that are not TCP. Flows out of the cluster have
// two entries where they are translated in the conntrack table (Placid), or two of
// the NAT table (Cilium).

// flowForms are what flows take on a node.
type flowForms struct {
	tcp, other, embryonic, nat, sockets form
	model                               string
}

// handshake is how long an ordinary connection is half open: the time to the other
// side and back, with room for a slow one.
const handshake = time.Second

// flowsOn gives what the rates come to on a node.
func flowsOn(n *nodeCensus, set *settings, rates []Rate) *flowForms {
	f := &flowForms{tcp: form{}, other: form{}, embryonic: form{}, nat: form{}, sockets: form{}}
	var words []string
	for _, r := range rates {
		per := form{}
		if r.PerPod {
			per = n.own
		} else {
			per.add(1, byFixedHere)
		}
		if set.platform == snapshot.Placid {
			f.placid(per, r, &set.cfg)
		} else {
			f.cilium(per, r, &set.cfg)
		}
		words = append(words, r.String())
	}
	f.model = "rate × lifetime, for " + strings.Join(words, ", ")
	return f
}

// outward tells whether the flows leave the cluster, under the node's address.
func (r Rate) outward() bool { return r.Kind == FlowTCPOut || r.Kind == FlowUDPOut }

// live adds the entries of as many flows as begin in a lifetime.
func (r Rate) live(to, per form, lifetime time.Duration, each float64) {
	to.join(per, r.Second*lifetime.Seconds()*each)
}

// placid adds flows of one kind as Placid keeps them: half open ones apart from
// established ones, translated ones twice.
func (f *flowForms) placid(per form, r Rate, cfg *config.Config) {
	entries := 1.0
	if r.outward() {
		entries = 2
	}
	switch r.Kind {
	case FlowTCP, FlowTCPOut:
		r.live(f.tcp, per, r.Open+cfg.CTTimeoutRegularFin, entries)
	case FlowUDP, FlowUDPOut:
		r.live(f.other, per, r.Open+cfg.CTTimeoutRegularAny, entries)
	case FlowDNS:
		r.live(f.embryonic, per, cfg.CTTimeoutRegularAny, 1)
		return
	case FlowSYN:
		r.live(f.embryonic, per, cfg.CTTimeoutRegularSyn, 1)
		return
	}
	r.live(f.embryonic, per, handshake, entries)
	r.live(f.sockets, per, r.Open, 1)
}

// cilium adds flows of one kind as Cilium keeps them: in the table of their
// protocol from the first packet, translations in a table of their own, twice.
func (f *flowForms) cilium(per form, r Rate, cfg *config.Config) {
	table, lifetime := f.tcp, r.Open+cfg.CTTimeoutRegularFin
	switch r.Kind {
	case FlowTCP, FlowTCPOut:
	case FlowUDP, FlowUDPOut:
		table, lifetime = f.other, r.Open+cfg.CTTimeoutRegularAny
	case FlowDNS:
		table, lifetime = f.other, cfg.CTTimeoutRegularAny
	case FlowSYN:
		lifetime = cfg.CTTimeoutRegularSyn
	}
	r.live(table, per, lifetime, 1)
	if r.outward() {
		r.live(f.nat, per, lifetime, 2)
	}
}
