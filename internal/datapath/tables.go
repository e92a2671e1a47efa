package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/abi"
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
	table *ebpf.Map
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
	have, err := o.list()
	if err != nil {
		return 0, err
	}
	var errs []error
	repaired := 0
	for key, want := range desired {
		if got, ok := have[key]; ok && got == want {
			continue
		}
		if err := o.Update(ctx, key, want); err != nil {
			errs = append(errs, &reconcile.RowError[K]{Key: key, Err: err})
			continue
		}
		repaired++
	}
	for key := range have {
		if _, ok := desired[key]; ok {
			continue
		}
		if err := o.Delete(ctx, key); err != nil {
			errs = append(errs, err)
			continue
		}
		repaired++
	}
	return repaired, errors.Join(errs...)
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

func toAddr(a netip.Addr) abi.CAddr { return abi.CAddr{B: a.As16()} }

func fromAddr(a abi.CAddr) netip.Addr { return netip.AddrFrom16(a.B).Unmap() }

// mappedBits is the length of ::ffff:0:0/96, below which IPv4 lies.
const mappedBits = 96

func endpointCodec() codec[netip.Addr, endpointRow, abi.CEndpointKey, abi.CEndpoint] {
	return codec[netip.Addr, endpointRow, abi.CEndpointKey, abi.CEndpoint]{
		key:     func(a netip.Addr) abi.CEndpointKey { return abi.CEndpointKey{Addr: toAddr(a)} },
		fromKey: func(k abi.CEndpointKey) netip.Addr { return fromAddr(k.Addr) },
		value: func(r endpointRow) abi.CEndpoint {
			return abi.CEndpoint{Ifindex: uint32(r.Index), Flags: r.Flags, Id: r.ID, Mac: r.MAC}
		},
		fromValue: func(v abi.CEndpoint) endpointRow {
			return endpointRow{Index: int(v.Ifindex), Flags: v.Flags, ID: v.Id, MAC: state.MAC(v.Mac)}
		},
	}
}

func ipcacheCodec() codec[netip.Prefix, netip.Addr, abi.CIpcacheKey, abi.CIpcacheEntry] {
	return codec[netip.Prefix, netip.Addr, abi.CIpcacheKey, abi.CIpcacheEntry]{
		key: func(p netip.Prefix) abi.CIpcacheKey {
			bits := p.Bits()
			if p.Addr().Is4() {
				bits += mappedBits
			}
			return abi.CIpcacheKey{PrefixLen: uint32(bits), Addr: toAddr(p.Addr())}
		},
		fromKey: func(k abi.CIpcacheKey) netip.Prefix {
			a, bits := fromAddr(k.Addr), int(k.PrefixLen)
			if a.Is4() {
				bits -= mappedBits
			}
			return netip.PrefixFrom(a, bits)
		},
		value:     func(a netip.Addr) abi.CIpcacheEntry { return abi.CIpcacheEntry{TunnelEndpoint: toAddr(a)} },
		fromValue: func(v abi.CIpcacheEntry) netip.Addr { return fromAddr(v.TunnelEndpoint) },
	}
}
