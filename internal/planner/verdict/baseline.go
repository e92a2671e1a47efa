package verdict

import (
	"context"
	"fmt"
)

// Baseline is a side that many others are compared with, under the same policies.
type Baseline struct {
	base *base
	side *side
}

// NewBaseline compiles a side.
func NewBaseline(cluster Cluster, s Side) *Baseline {
	b := newBase(cluster, s.Policies)
	return &Baseline{b, b.side(s)}
}

// Groups is how many groups of pods there are.
func (b *Baseline) Groups() int { return len(b.base.groups) }

// Same tells whether Compare would find no change on the way to another side,
// which must have the same policies and namespaces, and select in the same way. The
// error is that ctx ended.
func (b *Baseline) Same(ctx context.Context, now Side) (bool, error) {
	other := newSide(now, b.base.cluster, b.base.mentions, b.base.sets)
	if now.ByIdentity {
		other.compile(other.describe(b.base.groups, b.base.numbers))
	} else {
		other.compile(b.side.described)
	}
	c := b.base.compare([sides]*side{b.side, other}, Options{})
	for n := range c.classes {
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("compare verdicts: %w", err)
		}
		if len(c.from(n)) > 0 {
			return false, nil
		}
	}
	return true, nil
}
