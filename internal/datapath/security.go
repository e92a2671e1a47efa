package datapath

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// Security is who an endpoint is to others, and what it is under itself.
type Security struct {
	Identity uint32
	Policy   policy.EndpointPolicy
}

// securities holds the Security of endpoints by state.Endpoint.ID, also of those
// that are being connected. It is what the endpoint rows are made with.
type securities struct {
	mu sync.Mutex
	m  map[uint32]Security
}

func (s *securities) get(endpoint uint32) (Security, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, ok := s.m[endpoint]
	return sec, ok
}

// edit changes one endpoint's Security in place.
func (s *securities) edit(endpoint uint32, change func(*Security)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec := s.m[endpoint]
	change(&sec)
	s.m[endpoint] = sec
}

func (s *securities) forget(endpoint uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, endpoint)
}

func (s *securities) all() map[uint32]Security {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.m)
}

// isolated tells whether any endpoint is under a policy at all.
func (s *securities) isolated() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sec := range s.m {
		if sec.Policy.Ingress != policy.SetOpen || sec.Policy.Egress != policy.SetOpen {
			return true
		}
	}
	return false
}

// adopt takes over what an earlier agent left in the endpoint map: until the
// policies are known again, what was in force stays so.
func (s *securities) adopt(rows map[netip.Addr]endpointRow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rows {
		if r.Flags&uint32(abi.CEndpointFlagsENDPOINT_HOST) == 0 {
			s.m[r.ID] = r.security()
		}
	}
}

// SecurityOf returns what is in force for the endpoint.
func (d *Datapath) SecurityOf(endpoint uint32) (Security, bool) { return d.securities.get(endpoint) }

// SetIdentity changes who the endpoint is. Its flows are judged again if that
// can take a permission away.
func (d *Datapath) SetIdentity(ctx context.Context, endpoint, identity uint32) error {
	d.securities.edit(endpoint, func(s *Security) { s.Identity = identity })
	return d.applySecurity(ctx, endpoint)
}

// Forget drops what is known of an endpoint that is gone.
func (d *Datapath) Forget(endpoint uint32) { d.securities.forget(endpoint) }

// applySecurity writes the rows of an endpoint that is connected.
func (d *Datapath) applySecurity(ctx context.Context, endpoint uint32) error {
	ep, ok, err := d.tables.EndpointByID(endpoint)
	if err != nil || !ok {
		return err
	}
	return d.applyEndpoint(ctx, ep)
}

func (d *Datapath) applyEndpoint(ctx context.Context, ep state.Endpoint) error {
	sec, _ := d.securities.get(ep.ID)
	var errs []error
	for addr, row := range rowsOf(ep, sec) {
		errs = append(errs, d.endpoints.Apply(ctx, addr, row))
	}
	return errors.Join(errs...)
}

// endpointOps writes the endpoint map, and moves the epoch where flows remember
// what is no longer so.
type endpointOps struct {
	tableOps[netip.Addr, endpointRow, abi.CEndpointKey, abi.CEndpoint]
	settings *settings
	// additive tells that changes of sets only add permissions at the moment.
	additive *atomic.Bool
}

// Update writes the row.
func (o endpointOps) Update(ctx context.Context, addr netip.Addr, row endpointRow) error {
	old, had, err := o.get(addr)
	if err != nil {
		return err
	}
	if err := o.tableOps.Update(ctx, addr, row); err != nil {
		return err
	}
	if takesAway(old, had, row, o.additive.Load()) {
		return o.settings.bump()
	}
	return nil
}

// Delete removes the row.
func (o endpointOps) Delete(ctx context.Context, addr netip.Addr) error {
	_, had, err := o.get(addr)
	if err != nil {
		return err
	}
	if err := o.tableOps.Delete(ctx, addr); err != nil || !had {
		return err
	}
	return o.settings.bump()
}

// Prune compares the map with desired and changes only what differs.
func (o endpointOps) Prune(ctx context.Context, desired map[netip.Addr]endpointRow) (int, error) {
	return prune(ctx, o, o.tableOps, desired)
}

// takesAway tells whether flows that know the old row must be judged again.
func takesAway(old endpointRow, had bool, row endpointRow, additive bool) bool {
	sets := old.Ingress != row.Ingress || old.Egress != row.Egress
	if !had { // flows to it may have been judged as if it were not there
		return row.Ingress != policy.SetOpen
	}
	old.Ingress, old.Egress = row.Ingress, row.Egress
	return old != row || sets && !additive
}

// identityOps writes the identity map.
type identityOps struct {
	tableOps[netip.Addr, uint32, abi.CIdentityKey, abi.CIdentityEntry]
	settings   *settings
	securities *securities
}

// Update writes the row.
func (o identityOps) Update(ctx context.Context, addr netip.Addr, identity uint32) error {
	old, had, err := o.get(addr)
	if err != nil {
		return err
	}
	if err := o.tableOps.Update(ctx, addr, identity); err != nil {
		return err
	}
	if had && old != identity && o.securities.isolated() {
		return o.settings.bump()
	}
	return nil
}

// Delete removes the row.
func (o identityOps) Delete(ctx context.Context, addr netip.Addr) error {
	if err := o.tableOps.Delete(ctx, addr); err != nil {
		return err
	}
	// It can matter only to who gets the address next.
	if o.securities.isolated() {
		o.settings.bumpSoon()
	}
	return nil
}

// Prune compares the map with desired and changes only what differs.
func (o identityOps) Prune(ctx context.Context, desired map[netip.Addr]uint32) (int, error) {
	return prune(ctx, o, o.tableOps, desired)
}
