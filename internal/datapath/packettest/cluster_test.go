package packettest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/policy/policytest"
	"github.com/placid-net/placid/internal/state"
)

// clusterCases is how many packets are compared with the oracle, at least.
const clusterCases = 100_000

// TestClusters compares what the programs do with what the policies of random
// clusters say: the compiler, the tables, and the programs that read them.
//
// Every cluster is tried twice: as it is, with new flows, and after a change,
// with the flows that began before.
func TestClusters(t *testing.T) {
	n := newNode(t, options{defaultRoute: true})
	n.clear(t, datapath.EndpointMap)
	r := &clusterRun{node: n, t: t}
	n.ns.Do(t, func() {
		for seed := uint64(1); r.cases() < clusterCases && !t.Failed(); seed++ {
			r.cluster(seed)
		}
	})
	t.Logf("%d flows that are new: %d allowed, %d denied, %d audited; %d packets of flows after a change, %d of them denied",
		r.fresh, r.allowed, r.denied, r.audited, r.old, r.cut)
	if min(r.allowed, r.denied) < r.fresh/5 || r.audited < r.fresh/50 || r.cut < r.old/50 {
		t.Error("too few cases of a kind: the test has become useless")
	}
}

type clusterRun struct {
	*node
	t     *testing.T
	where string     // in which cluster and step
	rows  []tableRow // that the cluster has in tables
	sport uint16
	epoch uint32

	fresh, allowed, denied, audited, old, cut int
}

func (r *clusterRun) cases() int { return r.fresh + r.old }

// tableRow is a row of a table that goes with the cluster.
type tableRow struct {
	table string
	key   any
}

// flowCase is a packet of a cluster, and what became of the first one like it.
type flowCase struct {
	policytest.Packet
	talk
	began bool // it was allowed, so there is a flow
}

func (r *clusterRun) cluster(seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 9)) //nolint:gosec // the same clusters in every run
	c := policytest.Random(rng)
	e := c.Engine()
	e.Take()
	r.where = fmt.Sprintf("seed %d", seed)
	r.write(c, e.Tables(), true)
	var flows []*flowCase
	for _, p := range c.Packets(rng, 120) {
		if !speakable(p.From) || !speakable(p.To) {
			continue
		}
		f := &flowCase{Packet: p, talk: r.talkOf(p)}
		r.first(c, f)
		flows = append(flows, f)
	}
	r.where = fmt.Sprintf("seed %d, after the change", seed)
	for i := range 1 + rng.IntN(2) {
		np := c.RandomPolicy(rng, i) // takes the place of one with its name, if there is one
		c.Policies = slices.DeleteFunc(c.Policies, func(o state.NetworkPolicy) bool { return o.Key() == np.Key() })
		c.Policies = append(c.Policies, np)
		e.SetPolicy(np)
	}
	revokes := e.Take().Revokes
	r.write(c, e.Tables(), revokes)
	for _, f := range flows {
		if f.began {
			r.again(c, f, revokes)
		}
	}
	r.clean()
}

// speakable tells whether packets from and to an address are for policy at all.
func speakable(a netip.Addr) bool {
	if a.Is4() && (a.As4()[0] == 0 || a.As4()[0] == 255) {
		return false
	}
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.IsLinkLocalUnicast()
}

// talkOf makes a flow that was not there before.
func (r *clusterRun) talkOf(p policytest.Packet) talk {
	r.sport = max(r.sport+1, 1024)
	return talk{layers.IPProtocol(p.Protocol), at(p.From, r.sport), at(p.To, p.Port)}
}

// answers are the flags of what comes back.
const answers = "SA"

// first sends the first packet of a flow, and makes some flows established.
func (r *clusterRun) first(c policytest.Cluster, f *flowCase) {
	want, audit := c.Allowed(f.Packet), auditedOnly(c, f.Packet)
	f.began = want
	r.fresh++
	switch {
	case !want:
		r.denied++
	case audit:
		r.audited++
	default:
		r.allowed++
	}
	r.compare(c, f, "S", want, audit)
	if want && r.sport%3 == 0 { // a whole conversation
		r.compare(c, f, answers, true, false)
		r.compare(c, f, "A", true, false)
	}
}

// auditedOnly tells whether a packet that passes does so because of audit mode.
func auditedOnly(c policytest.Cluster, p policytest.Packet) bool {
	if !c.Allowed(p) {
		return false
	}
	egress, ingress := false, false
	if from := c.PodAt(p.From); from != nil && from.Endpoint != 0 {
		_, egress = c.AllowedEgress(p)
	}
	if to := c.PodAt(p.To); to != nil && to.Endpoint != 0 {
		_, ingress = c.AllowedIngress(p)
	}
	return egress || ingress
}

// again sends one more packet of a flow that began before the change, and an
// answer, in either order. Where nothing was taken away, nothing is judged.
func (r *clusterRun) again(c policytest.Cluster, f *flowCase, revokes bool) {
	want := c.Allowed(f.Packet)
	if !revokes && !want {
		r.t.Errorf("%s: %s was allowed and is not any more, but the engine says that nothing was revoked", r.where, f.talk)
	}
	host := slices.Contains(c.Node, f.From)
	for i := range 2 {
		answer := (i == 0) == (f.a.Port()%2 == 0)
		r.old++
		if !want && !host {
			r.cut++
		}
		// Judged by the first of the two only, unless that was dropped.
		audit := revokes && i == 0 && !host && auditedOnly(c, f.Packet)
		flags := "A"
		if answer {
			flags = answers
		}
		r.compare(c, f, flags, want || host, audit)
	}
}

// compare sends a packet and looks at what policy did to it. What else may
// become of it, by the routing table, is not this test's.
func (r *clusterRun) compare(c policytest.Cluster, f *flowCase, flags string, want, audit bool) {
	in := r.clusterInput(c, f, flags)
	dropped, audited, err := r.judgement(in)
	if err != nil {
		r.t.Fatalf("%s: %s: %v", r.where, f.talk, err)
	}
	if dropped == want || audited != audit {
		r.t.Fatalf("%s: %s, %s: denied %t, audited %t; the policies say allowed %t, audited %t\n%+v",
			r.where, f.talk, flags, dropped, audited, want, audit, c.Policies)
	}
}

// judgement sends a packet and tells what policy did to it, by the counters.
func (r *clusterRun) judgement(in input) (dropped, audited bool, err error) {
	reasons := [...]abi.CReason{abi.CReasonDROP_POLICY, abi.CReasonDROP_POLICY_DENY, abi.CReasonREASON_AUDITED}
	var before, after [len(reasons)]abi.CMetricsValue
	read := func(into *[len(reasons)]abi.CMetricsValue) (err error) {
		for i, reason := range reasons {
			into[i], err = r.counter(counter{hookOf(in.program), reason})
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err = read(&before); err != nil {
		return false, false, err
	}
	if _, err = r.testRun(r.loader.Program(in.program), in, 0, 1); err != nil {
		return false, false, err
	}
	err = read(&after)
	return before[0] != after[0] || before[1] != after[1], before[2] != after[2], err
}

// clusterInput is the packet where this node sees it first.
func (r *clusterRun) clusterInput(c policytest.Cluster, f *flowCase, flags string) input {
	src, dst, answer := f.From, f.To, flags == answers
	if answer {
		src, dst = dst, src
	}
	eth, in := fromWire(), input{program: loader.FromNetdev, device: nativeDevice}
	if p := c.PodAt(src); p != nil && p.Endpoint != 0 {
		in = input{program: loader.FromPod, device: podA.device}
		eth = podA.ether(0)
	} else if slices.Contains(c.Node, src) {
		in = input{program: loader.ToPod, device: podA.device}
	}
	l4 := f.layers4(flags, answer)
	if src.Is4() {
		in.frame = packet4(r.t, eth, src, dst, proto4(f.proto), l4...)
	} else {
		in.frame = packet6(r.t, eth, src, dst, next6(f.proto), l4...)
	}
	return in
}

// write makes the tables those of a cluster.
func (r *clusterRun) write(c policytest.Cluster, t policy.Tables, bump bool) {
	r.clean()
	r.writePolicy(t)
	for _, p := range c.Pods {
		for _, a := range p.Addrs {
			if p.Endpoint == 0 {
				r.row(datapath.IdentityMap, &abi.CIdentityKey{Addr: netorder.Addr(a)}, &abi.CIdentityEntry{Identity: p.Identity})
				continue
			}
			under, flags := t.Endpoints[p.Endpoint], abi.CEndpointFlags(0)
			if under.AuditIngress {
				flags |= auditIngress
			}
			if under.AuditEgress {
				flags |= auditEgress
			}
			r.row(datapath.EndpointMap, &abi.CEndpointKey{Addr: netorder.Addr(a)}, &abi.CEndpoint{
				Ifindex: uint32(r.index[podA.device]), Flags: uint32(flags), Id: p.Endpoint, Mac: [6]byte(podA.mac),
				Identity: p.Identity, IngressSet: uint64(under.Ingress), EgressSet: uint64(under.Egress),
			})
		}
	}
	for _, a := range c.Node {
		r.row(datapath.EndpointMap, &abi.CEndpointKey{Addr: netorder.Addr(a)},
			&abi.CEndpoint{Flags: uint32(abi.CEndpointFlagsENDPOINT_HOST)})
	}
	for _, a := range c.Nodes {
		r.row(datapath.IdentityMap, &abi.CIdentityKey{Addr: netorder.Addr(a)},
			&abi.CIdentityEntry{Identity: uint32(abi.CIdentityIDENTITY_REMOTE_NODE)})
	}
	if bump {
		r.epoch++
	}
	s := settings()
	s.Epoch, s.HasCidrs = r.epoch, uint16(min(len(t.CIDRs), 1))
	for _, ranges := range t.Ports {
		if slices.ContainsFunc(ranges, func(p policy.PortRange) bool { return p.Deny }) {
			s.HasDenies = 1
		}
	}
	r.setSettings(r.t, s)
}

func (r *clusterRun) writePolicy(t policy.Tables) {
	for id, ranges := range t.Ports {
		r.writePorts(uint64(id), ranges)
	}
	for id, set := range t.Sets {
		for peer, e := range set.Entries {
			r.row(datapath.PolicyMap, &abi.CPolicyKey{Set: uint64(id), Peer: uint64(peer)}, &abi.CPolicyEntry{Ports: uint64(e.Ports)})
		}
	}
	for p, peer := range t.CIDRs {
		key, value := cidrRow(p, uint64(peer))
		r.row(datapath.CIDRMap, &key, &value)
	}
}

func (r *clusterRun) writePorts(key uint64, ranges []policy.PortRange) {
	ranges = slices.SortedStableFunc(slices.Values(ranges), func(a, b policy.PortRange) int {
		switch {
		case a.Deny == b.Deny:
			return 0
		case a.Deny:
			return -1
		}
		return 1
	})
	for {
		var list abi.CPortList
		list.Count = uint32(min(len(ranges), len(list.Ranges)))
		for i, p := range ranges[:list.Count] {
			list.Ranges[i] = portRange(uint8(p.Protocol), p.First, p.Last)
			if p.Deny {
				list.Ranges[i] = deny(list.Ranges[i])
			}
			if p.Outside {
				list.Ranges[i] = outside(list.Ranges[i])
			}
		}
		ranges = ranges[list.Count:]
		if len(ranges) > 0 {
			list.More = key + 1
		}
		r.row(datapath.PortMap, new(key), &list)
		if len(ranges) == 0 {
			return
		}
		key++
	}
}

// row writes one row, and remembers it.
func (r *clusterRun) row(table string, key, value any) {
	r.put(r.t, table, key, value)
	r.rows = append(r.rows, tableRow{table, key})
}

// clean takes the cluster's rows out of the tables.
func (r *clusterRun) clean() {
	for _, x := range r.rows {
		if err := r.loader.Map(x.table).Table.Delete(x.key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			r.t.Fatalf("clean %s: %v", x.table, err)
		}
	}
	r.rows = r.rows[:0]
}
