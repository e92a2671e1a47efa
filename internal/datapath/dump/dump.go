// Package dump reads whole tables of the kernel through netlink.
//
// Invariants: what it returns was read in one piece. The kernel marks a dump
// that others wrote into as possibly inconsistent; it is then read again.
package dump

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// attempts bounds how often a table that others write to is read.
const attempts = 20

// Whole calls list until the kernel was not interrupted while it answered. The
// error is list's own.
func Whole[T any](list func() (T, error)) (out T, err error) {
	for range attempts {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, err
}
