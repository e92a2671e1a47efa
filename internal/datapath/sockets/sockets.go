package sockets

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// ErrNotSupported is returned when the kernel cannot end sockets. It needs
// CONFIG_INET_DIAG_DESTROY.
var ErrNotSupported = errors.New("the kernel does not end sockets (CONFIG_INET_DIAG_DESTROY): processes that talk to a backend that is gone find out by their own timeouts")

// Ended counts what End did.
type Ended struct {
	Sockets int // that were ended
	Entries int // of the table, that are removed
}

// End ends every socket that a service led to one of the backends, by their ids,
// in the network namespaces of these paths; "" is the calling process's, and one
// that is gone is success. Table is the table of such sockets, whose entries for
// the backends are removed. Nothing may choose the backends any more. After an
// error other than ErrNotSupported the entries stay, and it can be tried again.
func End(ctx context.Context, table *ebpf.Map, namespaces []string, backends []uint32) (Ended, error) {
	var out Ended
	gone := make(map[uint32]bool, len(backends))
	for _, id := range backends {
		gone[id] = true
	}
	keys, err := entriesOf(table, gone)
	if err != nil || len(keys) == 0 {
		return out, err
	}
	peers := make(map[uint64][]netip.AddrPort, len(keys))
	for _, k := range keys {
		peers[k.Cookie] = append(peers[k.Cookie], peerOf(k))
	}
	var unsupported error
	for _, path := range namespaces {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		n, err := endIn(path, peers)
		out.Sockets += n
		if errors.Is(err, ErrNotSupported) {
			unsupported = err
			break
		}
		if err != nil {
			return out, err
		}
	}
	for _, k := range keys {
		if err := table.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return out, fmt.Errorf("forget socket to %s: %w", peerOf(k), err)
		}
		out.Entries++
	}
	return out, unsupported
}

// entriesOf returns the keys of entries for the backends.
func entriesOf(table *ebpf.Map, backends map[uint32]bool) ([]abi.CSockKey, error) {
	const batch = 4096
	keys, values := make([]abi.CSockKey, batch), make([]abi.CSockEntry, batch)
	var out []abi.CSockKey
	var cursor ebpf.MapBatchCursor
	for {
		n, err := table.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			if backends[values[i].Backend] {
				out = append(out, keys[i])
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read sockets of services: %w", err)
		}
	}
}

func peerOf(k abi.CSockKey) netip.AddrPort { return netorder.HostAddrPort(k.Addr, k.Port) }

// endIn ends the sockets of one namespace that have one of the peers, by their
// cookies.
func endIn(path string, peers map[uint64][]netip.AddrPort) (ended int, err error) {
	ns, ok, err := open(path)
	if err != nil || !ok {
		return 0, err
	}
	defer ns.close()
	var doomed []socket
	err = ns.list(func(s socket) error {
		if slices.Contains(peers[s.cookie], s.peer) {
			doomed = append(doomed, s)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, s := range doomed {
		if err := ns.end(s); err != nil {
			return ended, err
		}
		ended++
	}
	return ended, nil
}
