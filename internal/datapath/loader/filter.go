package loader

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// filterPriority and filterHandle are the place of to_pod among the filters of a
// device's egress.
const (
	filterPriority = 1
	filterHandle   = 1
)

// ensureFilter makes prog the filter of the device's egress. It replaces another
// program in one step; no packet passes by. It tells whether it had to change
// anything.
func ensureFilter(ifindex int, key LinkKey, prog *ebpf.Program) (changed bool, err error) {
	want, err := programID(prog)
	if err != nil {
		return false, err
	}
	have, err := filterOf(ifindex)
	if err == nil && have != nil && have.Id == int(want) {
		return false, nil
	}
	attrs := netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
	err = netlink.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: "clsact"})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return false, filterError(key, err)
	}
	err = netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex, Parent: netlink.HANDLE_MIN_EGRESS, Handle: filterHandle,
			Protocol: unix.ETH_P_ALL, Priority: filterPriority,
		},
		Fd: prog.FD(), Name: ToPod, DirectAction: true,
	})
	if err != nil {
		return false, filterError(key, err)
	}
	return true, nil
}

func filterError(key LinkKey, err error) error {
	if errors.Is(err, unix.ENODEV) {
		err = ErrNoDevice
	}
	return fmt.Errorf("attach %s to %s: %w", key.Program, key.Device, err)
}

// filterOf returns the device's to_pod filter, or nil.
func filterOf(ifindex int) (*netlink.BpfFilter, error) {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	filters, err := netlink.FilterList(link, netlink.HANDLE_MIN_EGRESS)
	if err != nil {
		return nil, fmt.Errorf("list filters: %w", err)
	}
	for _, f := range filters {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Priority == filterPriority {
			return b, nil
		}
	}
	return nil, nil
}

// hasFilter tells whether to_pod runs on the named device.
func hasFilter(device string) bool {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return false
	}
	f, err := filterOf(l.Attrs().Index)
	return err == nil && f != nil
}

// removeFilter takes to_pod off the device. An absent device or filter is success.
func removeFilter(device string) error {
	l, err := netlink.LinkByName(device)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find device %s: %w", device, err)
	}
	f, err := filterOf(l.Attrs().Index)
	if err != nil || f == nil {
		return err
	}
	if err := netlink.FilterDel(f); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("detach %s from %s: %w", ToPod, device, err)
	}
	return nil
}
