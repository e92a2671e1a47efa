package datapath

import (
	"errors"
	"net/netip"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

var (
	// ErrNoServices is returned when the programs have no tables of services.
	ErrNoServices = errors.New("the programs that run have no tables of services")
	// ErrNotSynced is returned for changes before the first SyncServices.
	ErrNotSynced = errors.New("services were not compared with the kernel yet")
)

// ServiceTable tells how full one table of services is.
type ServiceTable struct {
	Name    string // of the map
	Entries uint64
	Size    uint64 // the most entries that it takes
}

// FrontendState is one frontend in the kernel.
type FrontendState struct {
	// Addr is where it is reached. With port 0 and protocol 0 it says of its address
	// that it is one of services, and no more.
	Addr     netip.AddrPort
	Protocol state.Protocol
	Service  uint32 // id of the service's port; 0 with port 0
	// Flags are names of enum frontend_flags, such as "affinity".
	Flags    []string
	Affinity uint32    // seconds that a client keeps its backend; 0: none
	Outside  ListState // for clients outside the cluster
	Cluster  ListState // for pods and nodes
}

// ListState is one list of backends in the kernel.
type ListState struct {
	ID       uint32 // 0: no list
	Backends []BackendState
	Missing  int  // slots that should hold a backend and do not
	Maglev   bool // it has a Maglev table
}

// BackendState is one slot of a list.
type BackendState struct {
	Addr netip.AddrPort
	ID   uint32
}

// ApplyServices writes one update: deletions first, then each port whole or not
// at all. A port that does not fit is refused, see RefusedServices; what was
// there of it stays, and it comes in by itself when room appears. The error is
// one of the kernel's: what it left undone is mended by itself. ErrNotSynced
// before the first SyncServices, ErrNoServices where there are no tables.
func (d *Datapath) ApplyServices(u loadbalance.Update) error {
	if d.services == nil {
		return ErrNoServices
	}
	return d.services.apply(u)
}

// SyncServices makes the tables equal to all ports and addresses of services,
// and returns how many entries it had to write or remove. Call it first after a
// start, when everything is known: ids and entries that an earlier agent left are
// taken over, and what belongs to nobody is removed. Later calls are audits.
// ErrNoServices where there are no tables, unless there is nothing to write.
func (d *Datapath) SyncServices(all []loadbalance.Port, addresses []netip.Addr) (repaired int, err error) {
	if d.services == nil {
		if len(all)+len(addresses) == 0 {
			return 0, nil
		}
		return 0, ErrNoServices
	}
	return d.services.sync(all, addresses)
}

// RefusedServices returns the ports that there is no room for, the oldest refusal
// first.
func (d *Datapath) RefusedServices() []loadbalance.Refusal {
	if d.services == nil {
		return nil
	}
	return d.services.refusals()
}

// ServiceTables tells how full the tables of services are, by the names of their
// maps, sorted.
func (d *Datapath) ServiceTables() []ServiceTable {
	if d.services == nil {
		return nil
	}
	return d.serviceTables()
}

// InspectServices reads from the kernel which frontends there are and what they
// lead to, ordered by address, port and protocol.
func (d *Datapath) InspectServices() ([]FrontendState, error) {
	if d.services == nil {
		return nil, nil
	}
	return d.services.inspect()
}
