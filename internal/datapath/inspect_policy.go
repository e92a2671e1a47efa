package datapath

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/datapath/loader"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// This file reads the tables of identities and policy for people.

// hexID is how sets, prefixes and lists of ports are named to people.
func hexID(id uint64) string { return strconv.FormatUint(id, 16) }

func dumpIdentities(table *loader.Table, dump *agentapi.MapDump) error {
	ops := tableOps[netip.Addr, uint32, abi.CIdentityKey, abi.CIdentityEntry]{IdentityMap, table, identityCodec()}
	rows, err := ops.list()
	if err != nil {
		return err
	}
	dump.Info.Entries = uint64(len(rows))
	dump.Columns = []string{"ADDRESS", "IDENTITY"}
	for _, addr := range slices.SortedFunc(maps.Keys(rows), netip.Addr.Compare) {
		dump.Rows = append(dump.Rows, []string{addr.String(), strconv.FormatUint(uint64(rows[addr]), 10)})
	}
	return nil
}

// peerText names a peer: a number is an identity.
func peerText(id policy.PeerID) string {
	switch {
	case id == policy.PeerAny:
		return "any"
	case uint64(id) <= uint64(state.IdentityMax):
		return strconv.FormatUint(uint64(id), 10)
	}
	return "cidr:" + hexID(uint64(id))
}

func portsText(id policy.PortsID) string {
	if id == policy.PortsAll {
		return "all"
	}
	return hexID(uint64(id))
}

func (w *policyWriter) dumpEntries(dump *agentapi.MapDump) error {
	rows, err := w.entries.list()
	if err != nil {
		return err
	}
	dump.Info.Entries = uint64(len(rows))
	dump.Columns = []string{"SET", "PEER", "PORTS"}
	keys := slices.SortedFunc(maps.Keys(rows), func(a, b policy.EntryKey) int {
		return cmp.Or(cmp.Compare(a.Set, b.Set), cmp.Compare(a.Peer, b.Peer))
	})
	for _, key := range keys {
		dump.Rows = append(dump.Rows, []string{hexID(uint64(key.Set)), peerText(key.Peer), portsText(rows[key])})
	}
	return nil
}

func (w *policyWriter) dumpCIDRs(dump *agentapi.MapDump) error {
	rows, err := w.cidrs.list()
	if err != nil {
		return err
	}
	dump.Info.Entries = uint64(len(rows))
	dump.Columns = []string{"PREFIX", "PEER"}
	for _, p := range slices.SortedFunc(maps.Keys(rows), netip.Prefix.Compare) {
		dump.Rows = append(dump.Rows, []string{p.String(), peerText(rows[p])})
	}
	return nil
}

func dumpPorts(table *loader.Table, dump *agentapi.MapDump) error {
	dump.Columns = []string{"LIST", "RANGES", "MORE"}
	var key uint64
	var list abi.CPortList
	it := table.Iterate()
	for it.Next(&key, &list) {
		var ranges []string
		for _, r := range list.Ranges[:min(int(list.Count), len(list.Ranges))] {
			ranges = append(ranges, rangeText(r))
		}
		more := ""
		if list.More != 0 {
			more = hexID(list.More)
		}
		dump.Rows = append(dump.Rows, []string{hexID(key), strings.Join(ranges, ","), more})
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read %s: %w", PortMap, err)
	}
	dump.Info.Entries = uint64(len(dump.Rows))
	slices.SortFunc(dump.Rows, func(a, b []string) int { return cmp.Compare(a[0], b[0]) })
	return nil
}

// rangeText gives e.g. "80-80/6", "deny 0-65535/0 outside".
func rangeText(r abi.CPortRange) string {
	text := fmt.Sprintf("%d-%d/%d", r.First, r.Last, r.Proto)
	if r.Flags&uint8(abi.CPortFlagsPORT_DENY) != 0 {
		text = "deny " + text
	}
	if r.Flags&uint8(abi.CPortFlagsPORT_OUTSIDE) != 0 {
		text += " outside"
	}
	return text
}

func (s *settings) dump(dump *agentapi.MapDump) error {
	var v abi.CSettings
	if err := s.table.Lookup(uint32(0), &v); err != nil {
		return fmt.Errorf("read %s: %w", SettingsMap, err)
	}
	seconds := func(t abi.CCtTimeout) string {
		return strconv.FormatFloat(float64(v.Timeout[t])/float64(max(v.Hz, 1)), 'f', 0, 64)
	}
	dump.Columns = []string{"SETTING", "VALUE"}
	dump.Rows = [][]string{
		{"epoch", strconv.FormatUint(uint64(v.Epoch), 10)},
		{"has-cidrs", strconv.FormatBool(v.HasCidrs != 0)},
		{"has-denies", strconv.FormatBool(v.HasDenies != 0)},
		{"jiffies-per-second", strconv.FormatUint(uint64(v.Hz), 10)},
		{"timeout-tcp-seconds", seconds(abi.CCtTimeoutCT_TIMEOUT_TCP)},
		{"timeout-tcp-syn-seconds", seconds(abi.CCtTimeoutCT_TIMEOUT_TCP_SYN)},
		{"timeout-tcp-fin-seconds", seconds(abi.CCtTimeoutCT_TIMEOUT_TCP_FIN)},
		{"timeout-any-seconds", seconds(abi.CCtTimeoutCT_TIMEOUT_ANY)},
	}
	return nil
}
