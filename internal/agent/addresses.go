package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/placid-net/placid/internal/ipam"
	"github.com/placid-net/placid/internal/state"
)

// addresses connects the allocator to the files that outlive the agent.
type addresses struct {
	alloc    *ipam.Allocator
	families ipam.Families
	store    store
	now      func() time.Time
}

// allocate takes the families that the node has CIDRs of.
func (a *addresses) allocate(owner state.AttachmentID) (v4, v6 netip.Addr, err error) {
	var want ipam.Families
	for _, u := range a.alloc.Usage(a.now()) {
		switch {
		case u.Draining:
		case u.CIDR.Addr().Is4():
			want |= ipam.IPv4
		default:
			want |= ipam.IPv6
		}
	}
	if want &= a.families; want == 0 {
		return v4, v6, fmt.Errorf("this node has no pod CIDR of %s yet: the operator writes it to the node's PlacidNode object; see that object's status and the operator's log", a.families)
	}
	return a.alloc.Allocate(owner.String(), want, a.now())
}

// taken forgets that the endpoint's addresses once waited for reuse.
func (a *addresses) taken(ep state.Endpoint) error {
	var errs []error
	for _, addr := range ep.Addrs() {
		errs = append(errs, a.store.deleteReleased(addr))
	}
	return errors.Join(errs...)
}

// mark remembers that the addresses were given back, beyond the agent's life.
func (a *addresses) mark(at time.Time, addrs ...netip.Addr) error {
	var errs []error
	for _, addr := range addrs {
		if addr.IsValid() {
			errs = append(errs, a.store.putReleased(addr, at))
		}
	}
	return errors.Join(errs...)
}

// markReleased gives back the addresses of an endpoint that was not restored.
func (a *addresses) markReleased(ep state.Endpoint) error {
	now := a.now()
	for _, addr := range ep.Addrs() {
		a.alloc.RestoreQuarantine(addr, now, now)
	}
	return a.mark(now, ep.Addrs()...)
}

func (a *addresses) restore(ep state.Endpoint) error {
	var errs []error
	for _, addr := range ep.Addrs() {
		errs = append(errs, a.alloc.Restore(ep.Attachment.String(), addr))
	}
	return errors.Join(errs...)
}

func (a *addresses) restoreReleased() error {
	released, err := a.store.loadReleased()
	if err != nil {
		return err
	}
	for addr, at := range released {
		a.alloc.RestoreQuarantine(addr, at, a.now())
	}
	return nil
}

// forgetRested removes the files of addresses whose wait is over.
func (a *addresses) forgetRested() error {
	released, err := a.store.loadReleased()
	if err != nil {
		return err
	}
	for _, q := range a.alloc.Quarantined(a.now()) {
		delete(released, q.Addr)
	}
	var errs []error
	for addr := range released {
		errs = append(errs, a.store.deleteReleased(addr))
	}
	return errors.Join(errs...)
}
