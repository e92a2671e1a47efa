package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/placid-net/placid/internal/datapath/loader"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/reconcile"
	"github.com/placid-net/placid/internal/state"
)

// codec translates the rows of one map to the kernel's form and back.
type codec[K comparable, V comparable, CK, CV any] struct {
	key       func(K) CK
	value     func(V) CV
	fromKey   func(CK) K
	fromValue func(CV) V
}

// tableOps implements reconcile.Ops for a map that the agent alone writes.
type tableOps[K comparable, V comparable, CK, CV any] struct {
	name  string
	table *loader.Table
	codec codec[K, V, CK, CV]
}

// Update writes the row.
func (o tableOps[K, V, CK, CV]) Update(_ context.Context, key K, value V) error {
	ck, cv := o.codec.key(key), o.codec.value(value)
	if err := o.table.Put(&ck, &cv); err != nil {
		return fmt.Errorf("write %v to %s (%d entries at most): %w", key, o.name, o.table.MaxEntries(), err)
	}
	return nil
}

// Delete removes the row. An absent row is success.
func (o tableOps[K, V, CK, CV]) Delete(_ context.Context, key K) error {
	ck := o.codec.key(key)
	if err := o.table.Delete(&ck); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete %v from %s: %w", key, o.name, err)
	}
	return nil
}

// Prune compares the map with desired and changes only what differs.
func (o tableOps[K, V, CK, CV]) Prune(ctx context.Context, desired map[K]V) (int, error) {
	return prune(ctx, o, o, desired)
}

// writer is the part of reconcile.Ops that changes single rows.
type writer[K comparable, V any] interface {
	Update(ctx context.Context, key K, value V) error
	Delete(ctx context.Context, key K) error
}

// prune makes the table of from equal to desired by way of w.
func prune[K comparable, V comparable, CK, CV any](ctx context.Context, w writer[K, V], from tableOps[K, V, CK, CV], desired map[K]V) (int, error) {
	have, err := from.list()
	if err != nil {
		return 0, err
	}
	var errs []error
	repaired := 0
	for key, want := range desired {
		if got, ok := have[key]; ok && got == want {
			continue
		}
		if err := w.Update(ctx, key, want); err != nil {
			errs = append(errs, &reconcile.RowError[K]{Key: key, Err: err})
			continue
		}
		repaired++
	}
	for key := range have {
		if _, ok := desired[key]; ok {
			continue
		}
		if err := w.Delete(ctx, key); err != nil {
			errs = append(errs, err)
			continue
		}
		repaired++
	}
	return repaired, errors.Join(errs...)
}

// get reads one row.
func (o tableOps[K, V, CK, CV]) get(key K) (value V, ok bool, err error) {
	ck := o.codec.key(key)
	var cv CV
	err = o.table.Lookup(&ck, &cv)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return value, false, nil
	}
	if err != nil {
		return value, false, fmt.Errorf("read %v of %s: %w", key, o.name, err)
	}
	return o.codec.fromValue(cv), true, nil
}

func (o tableOps[K, V, CK, CV]) list() (map[K]V, error) {
	out := map[K]V{}
	var ck CK
	var cv CV
	it := o.table.Iterate()
	for it.Next(&ck, &cv) {
		out[o.codec.fromKey(ck)] = o.codec.fromValue(cv)
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", o.name, err)
	}
	return out, nil
}

// mappedBits is the length of ::ffff:0:0/96, below which IPv4 lies.
const mappedBits = 96

func endpointCodec() codec[netip.Addr, endpointRow, abi.CEndpointKey, abi.CEndpoint] {
	return codec[netip.Addr, endpointRow, abi.CEndpointKey, abi.CEndpoint]{
		key:     func(a netip.Addr) abi.CEndpointKey { return abi.CEndpointKey{Addr: netorder.Addr(a)} },
		fromKey: func(k abi.CEndpointKey) netip.Addr { return netorder.HostAddr(k.Addr) },
		value: func(r endpointRow) abi.CEndpoint {
			return abi.CEndpoint{
				Ifindex: uint32(r.Index), Flags: r.Flags, Id: r.ID, Mac: r.MAC,
				Identity: r.Identity, IngressSet: uint64(r.Ingress), EgressSet: uint64(r.Egress),
			}
		},
		fromValue: func(v abi.CEndpoint) endpointRow {
			return endpointRow{
				Index: int(v.Ifindex), Flags: v.Flags, ID: v.Id, MAC: state.MAC(v.Mac),
				Identity: v.Identity, Ingress: policy.SetID(v.IngressSet), Egress: policy.SetID(v.EgressSet),
			}
		},
	}
}

func identityCodec() codec[netip.Addr, uint32, abi.CIdentityKey, abi.CIdentityEntry] {
	return codec[netip.Addr, uint32, abi.CIdentityKey, abi.CIdentityEntry]{
		key:       func(a netip.Addr) abi.CIdentityKey { return abi.CIdentityKey{Addr: netorder.Addr(a)} },
		fromKey:   func(k abi.CIdentityKey) netip.Addr { return netorder.HostAddr(k.Addr) },
		value:     func(id uint32) abi.CIdentityEntry { return abi.CIdentityEntry{Identity: id} },
		fromValue: func(v abi.CIdentityEntry) uint32 { return v.Identity },
	}
}

// prefixBits is the length of a prefix in the 128-bit form.
func prefixBits(p netip.Prefix) uint32 {
	if p.Addr().Is4() {
		return uint32(p.Bits() + mappedBits)
	}
	return uint32(p.Bits())
}

// prefixOf is the inverse. The kernel keeps address bits beyond the length.
func prefixOf(bits uint32, addr abi.CAddr) netip.Prefix {
	a := netip.AddrFrom16(addr.B)
	if bits >= mappedBits && a.Is4In6() {
		return netip.PrefixFrom(a.Unmap(), int(bits)-mappedBits)
	}
	return netip.PrefixFrom(a, int(bits))
}

func cidrCodec() codec[netip.Prefix, policy.PeerID, abi.CCidrKey, abi.CCidrEntry] {
	return codec[netip.Prefix, policy.PeerID, abi.CCidrKey, abi.CCidrEntry]{
		key: func(p netip.Prefix) abi.CCidrKey {
			return abi.CCidrKey{PrefixLen: prefixBits(p), Addr: netorder.Addr(p.Addr())}
		},
		fromKey:   func(k abi.CCidrKey) netip.Prefix { return prefixOf(k.PrefixLen, k.Addr) },
		value:     func(id policy.PeerID) abi.CCidrEntry { return abi.CCidrEntry{Peer: uint64(id)} },
		fromValue: func(v abi.CCidrEntry) policy.PeerID { return policy.PeerID(v.Peer) },
	}
}

func policyCodec() codec[policy.EntryKey, policy.PortsID, abi.CPolicyKey, abi.CPolicyEntry] {
	return codec[policy.EntryKey, policy.PortsID, abi.CPolicyKey, abi.CPolicyEntry]{
		key: func(k policy.EntryKey) abi.CPolicyKey {
			return abi.CPolicyKey{Set: uint64(k.Set), Peer: uint64(k.Peer)}
		},
		fromKey: func(k abi.CPolicyKey) policy.EntryKey {
			return policy.EntryKey{Set: policy.SetID(k.Set), Peer: policy.PeerID(k.Peer)}
		},
		value:     func(p policy.PortsID) abi.CPolicyEntry { return abi.CPolicyEntry{Ports: uint64(p)} },
		fromValue: func(v abi.CPolicyEntry) policy.PortsID { return policy.PortsID(v.Ports) },
	}
}

func ipcacheCodec() codec[netip.Prefix, netip.Addr, abi.CIpcacheKey, abi.CIpcacheEntry] {
	return codec[netip.Prefix, netip.Addr, abi.CIpcacheKey, abi.CIpcacheEntry]{
		key: func(p netip.Prefix) abi.CIpcacheKey {
			return abi.CIpcacheKey{PrefixLen: prefixBits(p), Addr: netorder.Addr(p.Addr())}
		},
		fromKey:   func(k abi.CIpcacheKey) netip.Prefix { return prefixOf(k.PrefixLen, k.Addr) },
		value:     func(a netip.Addr) abi.CIpcacheEntry { return abi.CIpcacheEntry{TunnelEndpoint: netorder.Addr(a)} },
		fromValue: func(v abi.CIpcacheEntry) netip.Addr { return netorder.HostAddr(v.TunnelEndpoint) },
	}
}
