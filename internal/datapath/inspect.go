package datapath

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
)

// ErrNoMap is returned for the name of a map that does not exist.
var ErrNoMap = errors.New("no such map")

// ShortName is a map's name without its suffix, as the command line shows it.
func ShortName(name string) string { return strings.TrimSuffix(name, "_map") }

// Maps describes every map. Entries counts what the agent wrote; of an array
// every index.
func (d *Datapath) Maps() ([]agentapi.MapInfo, error) {
	var out []agentapi.MapInfo
	counts, _, err := d.counter.Count()
	if err != nil {
		return nil, err
	}
	for _, m := range d.loader.Maps() {
		info, err := d.mapInfo(m, counts)
		if err != nil {
			return nil, err
		}
		out = append(out, info)
	}
	return out, nil
}

func (d *Datapath) mapInfo(m *loader.Map, counts map[string]uint64) (agentapi.MapInfo, error) {
	info, err := m.Table.Map().Info()
	if err != nil {
		return agentapi.MapInfo{}, fmt.Errorf("inspect %s: %w", m.Name, err)
	}
	id, _ := info.ID()
	out := agentapi.MapInfo{
		Name: ShortName(m.Name), Type: info.Type.String(), ID: uint32(id),
		MaxEntries: info.MaxEntries, KeySize: info.KeySize, ValueSize: info.ValueSize,
		Entries: uint64(info.MaxEntries),
	}
	if n, ok := d.tableSize(m, counts); ok {
		out.Entries = n
	}
	return out, nil
}

// MapDump reads every entry of the map with that short name from the kernel.
func (d *Datapath) MapDump(short string) (agentapi.MapDump, error) {
	i := slices.IndexFunc(d.loader.Maps(), func(m *loader.Map) bool { return ShortName(m.Name) == short })
	if i < 0 {
		return agentapi.MapDump{}, fmt.Errorf("%w: %q", ErrNoMap, short)
	}
	m := d.loader.Maps()[i]
	counts, _, err := d.counter.Count()
	if err != nil {
		return agentapi.MapDump{}, err
	}
	info, err := d.mapInfo(m, counts)
	if err != nil {
		return agentapi.MapDump{}, err
	}
	dump := agentapi.MapDump{Info: info}
	switch m.Name {
	case EndpointMap:
		err = dumpEndpoints(m.Table, &dump)
	case IPCacheMap:
		err = dumpIPCache(m.Table, &dump)
	case IdentityMap:
		err = dumpIdentities(m.Table, &dump)
	case PolicyMap:
		err = d.policy.dumpEntries(&dump)
	case CIDRMap:
		err = d.policy.dumpCIDRs(&dump)
	case PortMap:
		err = dumpPorts(m.Table, &dump)
	case SettingsMap:
		err = d.settings.dump(&dump)
	case MetricsMap:
		err = d.dumpMetrics(&dump)
	case ICMPBudgetMap:
		err = dumpBudget(m.Table.Map(), &dump)
	default:
		err = fmt.Errorf("%w: %q has no text form; flows are shown by: placid bpf ct list", ErrNoMap, short)
	}
	return dump, err
}

func dumpEndpoints(table *loader.Table, dump *agentapi.MapDump) error {
	ops := tableOps[netip.Addr, endpointRow, abi.CEndpointKey, abi.CEndpoint]{EndpointMap, table, endpointCodec()}
	rows, err := ops.list()
	if err != nil {
		return err
	}
	dump.Info.Entries = uint64(len(rows))
	dump.Columns = []string{"ADDRESS", "ENDPOINT", "IFINDEX", "MAC", "FLAGS", "IDENTITY", "INGRESS-SET", "EGRESS-SET"}
	for _, addr := range slices.SortedFunc(maps.Keys(rows), netip.Addr.Compare) {
		r := rows[addr]
		dump.Rows = append(dump.Rows, []string{
			addr.String(), strconv.Itoa(int(r.ID)), strconv.Itoa(r.Index), r.MAC.String(), flagNames(r.Flags),
			strconv.FormatUint(uint64(r.Identity), 10), hexID(uint64(r.Ingress)), hexID(uint64(r.Egress)),
		})
	}
	return nil
}

func flagNames(flags uint32) string {
	names := []struct {
		bit  abi.CEndpointFlags
		name string
	}{
		{abi.CEndpointFlagsENDPOINT_HOST, "host"},
		{abi.CEndpointFlagsENDPOINT_SHAPED, "shaped"},
		{abi.CEndpointFlagsENDPOINT_LINK_LOCAL, "link-local"},
		{abi.CEndpointFlagsENDPOINT_AUDIT_INGRESS, "audit-ingress"},
		{abi.CEndpointFlagsENDPOINT_AUDIT_EGRESS, "audit-egress"},
	}
	var out []string
	for _, n := range names {
		if flags&uint32(n.bit) != 0 {
			out = append(out, n.name)
		}
	}
	return strings.Join(out, ",")
}

func dumpIPCache(table *loader.Table, dump *agentapi.MapDump) error {
	ops := tableOps[netip.Prefix, netip.Addr, abi.CIpcacheKey, abi.CIpcacheEntry]{IPCacheMap, table, ipcacheCodec()}
	rows, err := ops.list()
	if err != nil {
		return err
	}
	dump.Info.Entries = uint64(len(rows))
	dump.Columns = []string{"PREFIX", "TUNNEL-ENDPOINT"}
	for _, p := range slices.SortedFunc(maps.Keys(rows), func(a, b netip.Prefix) int {
		return strings.Compare(a.String(), b.String())
	}) {
		dump.Rows = append(dump.Rows, []string{p.String(), rows[p].String()})
	}
	return nil
}

func dumpBudget(table *ebpf.Map, dump *agentapi.MapDump) error {
	var perCPU []abi.CIcmpBudget
	if err := table.Lookup(uint32(0), &perCPU); err != nil {
		return fmt.Errorf("read %s: %w", ICMPBudgetMap, err)
	}
	dump.Columns = []string{"CPU", "TOKENS"}
	for cpu, b := range perCPU {
		dump.Rows = append(dump.Rows, []string{strconv.Itoa(cpu), strconv.FormatUint(b.Tokens, 10)})
	}
	return nil
}

func (d *Datapath) dumpMetrics(dump *agentapi.MapDump) error {
	counters, err := d.Counters()
	if err != nil {
		return err
	}
	dump.Columns = []string{"PROGRAM", "DIRECTION", "REASON", "PACKETS", "BYTES"}
	for _, c := range counters {
		dump.Rows = append(dump.Rows, []string{
			c.Program, c.Direction, c.Reason, strconv.FormatUint(c.Packets, 10), strconv.FormatUint(c.Bytes, 10),
		})
	}
	return nil
}
