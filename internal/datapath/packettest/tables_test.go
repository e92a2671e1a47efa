package packettest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

const (
	open   = uint64(abi.CPolicyConstantsPOLICY_SET_OPEN)
	closed = uint64(abi.CPolicyConstantsPOLICY_SET_CLOSED)
	// anyPeer and allPorts are the entry that allows everything.
	anyPeer  = uint64(abi.CPolicyConstantsPOLICY_PEER_ANY)
	allPorts = uint64(abi.CPolicyConstantsPOLICY_PORTS_ALL)

	auditIngress = abi.CEndpointFlagsENDPOINT_AUDIT_INGRESS
	auditEgress  = abi.CEndpointFlagsENDPOINT_AUDIT_EGRESS
)

// Identities of the node's pods, in their order, and of a pod elsewhere.
const (
	identityA = 1001 + iota
	identityB
	identityC
	identityFar
)

// security is what a pod is under.
type security struct {
	ingress, egress uint64
	flags           abi.CEndpointFlags // audit
	identity        uint32             // 0: the pod's own; see nameless
}

// nameless is the identity of a pod that has none yet.
const nameless = ^uint32(0)

// fresh begins a test: nothing is known, everything is open.
func (n *node) fresh(t testing.TB) {
	t.Helper()
	for _, name := range []string{
		datapath.CTNewMap, datapath.CTTCPMap, datapath.CTAnyMap, datapath.FragmentMap,
		datapath.PolicyMap, datapath.PortMap, datapath.CIDRMap, datapath.IdentityMap,
	} {
		n.clear(t, name)
	}
	for _, p := range pods {
		n.under(t, p, security{})
	}
	n.setSettings(t, settings())
	for _, a := range []netip.Addr{far4, far6} {
		n.identify(t, a, identityFar)
	}
}

// under writes a pod's rows.
func (n *node) under(t testing.TB, p pod, s security) {
	t.Helper()
	i := slices.IndexFunc(pods, func(q pod) bool { return q.device == p.device })
	e := abi.CEndpoint{
		Ifindex: uint32(n.index[p.device]), Flags: uint32(p.flags | s.flags), Id: uint32(i + 1), Mac: [6]byte(p.mac),
		Identity: s.identity, IngressSet: s.ingress, EgressSet: s.egress,
	}
	switch s.identity {
	case 0:
		e.Identity = uint32(identityA + i)
	case nameless:
		e.Identity = 0
	}
	for _, a := range []netip.Addr{p.ip4, p.ip6} {
		key := abi.CEndpointKey{Addr: netorder.Addr(a)}
		n.put(t, datapath.EndpointMap, &key, &e)
	}
}

func (n *node) put(t testing.TB, name string, key, value any) {
	t.Helper()
	if err := n.loader.Map(name).Table.Put(key, value); err != nil {
		t.Fatalf("write %s: %v", name, err)
	}
}

// allow adds entries to a policy set: peers and their lists of ports.
func (n *node) allow(t testing.TB, set uint64, entries map[uint64]uint64) {
	t.Helper()
	for peer, ports := range entries {
		n.put(t, datapath.PolicyMap, &abi.CPolicyKey{Set: set, Peer: peer}, &abi.CPolicyEntry{Ports: ports})
	}
}

// forbid takes an entry away.
func (n *node) forbid(t testing.TB, set, peer uint64) {
	t.Helper()
	if err := n.loader.Map(datapath.PolicyMap).Table.Delete(&abi.CPolicyKey{Set: set, Peer: peer}); err != nil {
		t.Fatalf("delete from the policy map: %v", err)
	}
}

func portRange(proto uint8, first, last uint16) abi.CPortRange {
	return abi.CPortRange{First: first, Last: last, Proto: proto}
}

// ports writes a list; the records after the first have keys that follow its own.
func (n *node) ports(t testing.TB, list uint64, ranges ...abi.CPortRange) {
	t.Helper()
	for key := list; ; key++ {
		var r abi.CPortList
		r.Count = uint32(copy(r.Ranges[:], ranges))
		ranges = ranges[r.Count:]
		if len(ranges) > 0 {
			r.More = key + 1
		}
		n.put(t, datapath.PortMap, &key, &r)
		if len(ranges) == 0 {
			return
		}
	}
}

// block says which peer a prefix is.
func (n *node) block(t testing.TB, prefix string, peer uint64) {
	t.Helper()
	key, value := cidrRow(netip.MustParsePrefix(prefix), peer)
	n.put(t, datapath.CIDRMap, &key, &value)
	n.change(t, func(s *abi.CSettings) { s.HasCidrs = 1 })
}

func cidrRow(p netip.Prefix, peer uint64) (abi.CCidrKey, abi.CCidrEntry) {
	bits := uint32(p.Bits() + 128 - p.Addr().BitLen())
	return abi.CCidrKey{PrefixLen: bits, Addr: netorder.Addr(p.Addr())}, abi.CCidrEntry{Peer: peer}
}

// identify says who has an address of another node.
func (n *node) identify(t testing.TB, a netip.Addr, identity uint32) {
	t.Helper()
	n.put(t, datapath.IdentityMap, &abi.CIdentityKey{Addr: netorder.Addr(a)}, &abi.CIdentityEntry{Identity: identity})
}

func (n *node) settings(t testing.TB) (s abi.CSettings) {
	t.Helper()
	if err := n.loader.Map(datapath.SettingsMap).Table.Lookup(uint32(0), &s); err != nil {
		t.Fatalf("read settings: %v", err)
	}
	return s
}

func (n *node) setSettings(t testing.TB, s abi.CSettings) {
	t.Helper()
	if err := n.loader.Map(datapath.SettingsMap).Table.Map().Update(uint32(0), &s, ebpf.UpdateExist); err != nil {
		t.Fatalf("write settings: %v", err)
	}
}

func (n *node) change(t testing.TB, edit func(*abi.CSettings)) {
	t.Helper()
	s := n.settings(t)
	edit(&s)
	n.setSettings(t, s)
}

// bump moves the epoch: every flow is judged anew.
func (n *node) bump(t testing.TB) {
	t.Helper()
	n.change(t, func(s *abi.CSettings) { s.Epoch++ })
}
