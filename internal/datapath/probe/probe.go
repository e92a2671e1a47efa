// Package probe finds out what the running kernel can do, before anything is
// made in it.
//
// Invariants: a probe leaves nothing behind; the answer "no" names the first
// kernel that has the feature and what happens without it.
package probe

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/agentapi"
)

// ErrNoPermission is returned when the process may not use BPF at all.
var ErrNoPermission = errors.New("no permission to use BPF")

// ErrMissing is returned when the kernel lacks something indispensable.
var ErrMissing = errors.New("the kernel lacks features that Placid cannot do without")

// feature is one row of the table of probes.
type feature struct {
	name     string
	since    string // first kernel
	required bool
	effect   string // what is off without it; for optional ones
	probe    func() error
}

// Features returns what the kernel has. The error names every indispensable
// feature that is missing and wraps ErrMissing, or ErrNoPermission.
func Features() ([]agentapi.Feature, error) {
	return run(table())
}

func table() []feature {
	helper := func(fn asm.BuiltinFunc) func() error {
		return func() error { return features.HaveProgramHelper(ebpf.SchedCLS, fn) }
	}
	mapType := func(mt ebpf.MapType) func() error {
		return func() error { return features.HaveMapType(mt) }
	}
	return []feature{
		{"tcx links", "6.6", true, "", probeTCX},
		{"map in map", "4.12", true, "", mapType(ebpf.ArrayOfMaps)},
		{"longest prefix match map", "4.11", true, "", mapType(ebpf.LPMTrie)},
		{"bpf_fib_lookup", "4.18", true, "", helper(asm.FnFibLookup)},
		{"bpf_redirect_peer", "5.10", true, "", helper(asm.FnRedirectPeer)},
		{"bpf_redirect_neigh", "5.10", true, "", helper(asm.FnRedirectNeigh)},
		{"bpf_ktime_get_coarse_ns", "5.11", true, "", helper(asm.FnKtimeGetCoarseNs)},
		{"IPv6", "any, with CONFIG_IPV6", false, "pods get no IPv6 addresses", probeIPv6},
	}
}

func run(table []feature) ([]agentapi.Feature, error) {
	out := make([]agentapi.Feature, 0, len(table))
	var missing []error
	for _, f := range table {
		err := f.probe()
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("probe %s: %w: run as root, in a pod with securityContext.privileged (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON at least)",
				f.name, ErrNoPermission)
		}
		row := agentapi.Feature{Name: f.name, Available: err == nil, Required: f.required, Since: f.since}
		if err != nil {
			row.Effect = f.effect
			if f.required {
				missing = append(missing, fmt.Errorf("%s (needs Linux %s)", f.name, f.since))
			}
		}
		out = append(out, row)
	}
	if len(missing) > 0 {
		return out, fmt.Errorf("%w (this is %s): %w", ErrMissing, Kernel(), errors.Join(missing...))
	}
	return out, nil
}

// probeTCX asks which programs run on the loopback device, which every network
// namespace has.
func probeTCX() error {
	const loopback = 1
	_, err := link.QueryPrograms(link.QueryOptions{Target: loopback, Attach: ebpf.AttachTCXIngress})
	return err
}

func probeIPv6() error {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err
}

// Kernel returns the running kernel's release, e.g. "6.18.44".
func Kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
