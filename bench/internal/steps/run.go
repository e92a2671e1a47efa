package steps

import (
	"context"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
)

// Run measures in a node of its own: childArgs make this program call Child.
func Run(ctx context.Context, childArgs ...string) (r Results, err error) {
	self, err := netlab.New()
	if err != nil {
		return r, err
	}
	defer self.Close()
	other, err := netlab.New()
	if err != nil {
		return r, err
	}
	defer other.Close()
	if err = netlab.Join(node.Side(self, 1), node.Side(other, 2)); err != nil {
		return r, err
	}
	spec := node.Spec{Self: node.Describe(1), Device: node.Device}
	err = node.Measure(ctx, self, spec, &r, childArgs...)
	return r, err
}
