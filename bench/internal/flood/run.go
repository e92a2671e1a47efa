package flood

import (
	"context"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath"
)

// size is how much is measured.
type size struct {
	Table   uint32  `json:"table"` // entries of the table of new flows
	Frames  int     `json:"frames"`
	Rounds  int     `json:"rounds"`
	Seconds float64 `json:"seconds"` // of each phase
	Conns   int     `json:"conns"`   // established, of each kind of client
}

// factor is how many times the table the flood's frames are.
const factor = 12

func newSize(short bool) size {
	s := size{Table: 65536, Rounds: 3, Seconds: 4, Conns: 100}
	if short {
		s.Table, s.Rounds, s.Seconds, s.Conns = 4096, 2, 1, 20
	}
	s.Frames = factor * int(s.Table)
	return s
}

// spec is what Child gets.
type spec struct {
	Node    node.Spec `json:"node"`
	Size    size      `json:"size"`
	Outside string    `json:"outside"` // path of the namespace before the node
}

// Run measures in a node of its own: args make this program call Child.
func Run(ctx context.Context, short bool, args ...string) (r Report, err error) {
	ns := make([]*netlab.Namespace, 4)
	for i := range ns {
		if ns[i], err = netlab.New(); err != nil {
			return r, err
		}
		defer ns[i].Close()
	}
	self, outside := ns[0], ns[1]
	if err = netlab.Join(node.Side(self, 1), node.Side(outside, 2)); err != nil {
		return r, err
	}
	mac, err := outside.MAC(node.Device)
	if err != nil {
		return r, err
	}
	for i, is6 := range []bool{false, true} {
		far, near := node.Underlay(2, is6).Addr(), node.Underlay(1, is6).Addr()
		if err = self.AddNeighbour(node.Device, far, mac); err != nil {
			return r, err
		}
		if err = self.AddDefaultRoute(node.Device, far); err != nil {
			return r, err
		}
		if err = outside.AddRoute(node.Device, node.Describe(1).PodCIDRs[i], near); err != nil {
			return r, err
		}
	}
	s := spec{Size: newSize(short), Outside: outside.Path()}
	s.Node = node.Spec{
		Self: node.Describe(1), Device: node.Device, Tables: datapath.TableSizes{Embryonic: s.Size.Table},
	}
	for i, pod := range ns[2:] {
		s.Node.Pods = append(s.Node.Pods, node.Pod{
			Netns: pod.Path(), IPv4: node.PodAddr(1, i+1, false), IPv6: node.PodAddr(1, i+1, true),
		})
	}
	err = node.Measure(ctx, self, s, &r, args...)
	return r, err
}
