package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Sentinels for errors.Is.
var (
	// ErrExhausted: no free address, or no free range, is left.
	ErrExhausted = errors.New("exhausted")
	// ErrNoCIDR: the node has no pod CIDR of the family that was asked for.
	ErrNoCIDR = errors.New("no pod CIDR")
	// ErrConflict: somebody else holds the address or the range.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: an argument is not usable.
	ErrInvalid = errors.New("invalid")
)

// ExhaustedError says that all addresses of a family are held or quarantined.
// It is ErrExhausted.
type ExhaustedError struct {
	Family      Families
	CIDRs       []netip.Prefix
	Capacity    int // addresses that pods can get
	Used        int
	Quarantined int
	// NextFree is when the first quarantined address can be used; zero when
	// none is quarantined.
	NextFree time.Time
}

// Error implements error.
func (e *ExhaustedError) Error() string {
	next := "none until a pod is deleted"
	if !e.NextFree.IsZero() {
		next = "the next one is free at " + e.NextFree.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("no free %s address in %s: of %d addresses %d are used and %d rest after use (ipam-address-reuse-delay); %s",
		e.Family, joinPrefixes(e.CIDRs), e.Capacity, e.Used, e.Quarantined, next)
}

// Is makes errors.Is(err, ErrExhausted) true.
func (e *ExhaustedError) Is(target error) bool { return target == ErrExhausted }

// PoolExhaustedError says that the pools of a family have no free range for
// another node. It is ErrExhausted.
type PoolExhaustedError struct {
	Family Families
	Pools  []Pool
	Total  int // ranges in all pools
	Used   int // ranges that a node holds, wholly or in part
}

// Error implements error.
func (e *PoolExhaustedError) Error() string {
	pools := make([]string, len(e.Pools))
	for i, p := range e.Pools {
		pools[i] = p.String()
	}
	return fmt.Sprintf("no free %s pod CIDR in pool %s: %d of %d are used; add a pool to cluster-pool-%s-cidr",
		e.Family, strings.Join(pools, ", "), e.Used, e.Total, strings.ToLower(e.Family.String()))
}

// Is makes errors.Is(err, ErrExhausted) true.
func (e *PoolExhaustedError) Is(target error) bool { return target == ErrExhausted }

// ConflictError says that a node's range overlaps one that an older node holds.
// It is ErrConflict.
type ConflictError struct {
	Node       string
	Prefix     netip.Prefix
	HeldBy     string
	HeldPrefix netip.Prefix
}

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("pod CIDR %s of node %s overlaps %s, which the older node %s keeps; drain node %s and delete its PlacidNode to get another",
		e.Prefix, e.Node, e.HeldPrefix, e.HeldBy, e.Node)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

func joinPrefixes(ps []netip.Prefix) string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
	}
	return strings.Join(out, ", ")
}
