package packets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/bench/internal/cluster"
	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/state"
)

// ServicesConfig says how much to measure of services.
type ServicesConfig struct {
	Args     []string // make this program call ServicesChild
	Counts   []int    // of services; none less than minCount
	Short    bool
	Progress io.Writer
}

// ServicesReport is what was measured.
type ServicesReport struct {
	Counts  []int
	Samples int // of each case
	Results []ServiceResult
}

// ServiceResult is the cost of a case with so many services.
type ServiceResult struct {
	Result
	Services int `json:"services"`
}

const (
	// minCount is the least number of services: those that are asked are always there.
	minCount = 10
	// clientPod is the index of the pod that asks, newClientPod of the one whose flows
	// are all new; those of the backends follow.
	clientPod    = 0
	newClientPod = 1
	clientPods   = 2
	// setTimeout bounds how long a change of the number of services may take.
	setTimeout = time.Minute
)

// servicesSpec is what a child gets.
type servicesSpec struct {
	Node   node.Spec `json:"node"`
	Counts []int     `json:"counts"`
	Blocks int       `json:"blocks"` // visits of each count
	Rounds int       `json:"rounds"` // of each visit
}

// RunServices measures a node in native routing that serves services.
func RunServices(ctx context.Context, cfg ServicesConfig) (r ServicesReport, err error) {
	s := servicesSpec{Counts: cfg.Counts, Blocks: 4, Rounds: 15}
	if cfg.Short {
		s.Blocks, s.Rounds = 1, 4
	}
	r.Counts, r.Samples = cfg.Counts, s.Blocks*s.Rounds
	self, other, err := wire()
	if err != nil {
		return r, err
	}
	defer self.Close()
	defer other.Close()
	s.Node = node.Spec{
		Self: node.Describe(1), Peers: []state.Node{node.Describe(2)}, Device: node.Device,
		Tables:  datapath.TableSizes{Service: 1 << 16, Backend: 1 << 18}, // 40,000 and 200,000 of both families
		Serving: &node.Serving{Shape: cluster.Shape{IPv6: true, NodePort: true}},
	}
	for i := 1; i <= clientPods+cluster.Backends; i++ {
		pod, err := netlab.New()
		if err != nil {
			return r, err
		}
		defer pod.Close()
		p := node.Pod{Netns: pod.Path(), IPv4: node.PodAddr(1, i, false), IPv6: node.PodAddr(1, i, true)}
		s.Node.Pods = append(s.Node.Pods, p)
		if i > clientPods {
			shape := &s.Node.Serving.Shape
			shape.Pods = append(shape.Pods, p.IPv4, p.IPv6)
		}
	}
	_, _ = fmt.Fprintln(cfg.Progress, "services: packets")
	if err := node.Measure(ctx, self, s, &r.Results, cfg.Args...); err != nil {
		return r, fmt.Errorf("measure packets of services: %w", err)
	}
	return r, nil
}

// ServicesChild is the process of a node: it reads what to do, measures, and
// writes ServiceResults, all as JSON.
func ServicesChild(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) (err error) {
	var s servicesSpec
	if err = json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("read the node's description: %w", err)
	}
	c := serviceChild{child: child{spec: s.Node, rounds: s.Rounds}, shape: s.Node.Serving.Shape}
	if c.node, err = node.Start(ctx, s.Node, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.node.Close()) }()
	if c.pods, err = c.node.Endpoints(); err != nil {
		return err
	}
	if c.services, err = c.node.ServeAll(ctx, c.shape, minCount, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.services.Close()) }()
	if err = c.openTables(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.closeTables()) }()
	results, err := c.visits(ctx, s)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(results)
}

type serviceChild struct {
	child
	shape                       cluster.Shape
	services                    *node.Services
	count                       int // of services, minCount at first
	frontends, fresh, confirmed *ebpf.Map
}

func (c *serviceChild) openTables() error {
	c.count = minCount
	var errs [3]error
	c.frontends, errs[0] = node.OpenTable(datapath.FrontendMap)
	c.fresh, errs[1] = node.OpenTable(datapath.CTNewMap)
	c.confirmed, errs[2] = node.OpenTable(datapath.CTTCPMap)
	return errors.Join(errs[:]...)
}

func (c *serviceChild) closeTables() error {
	return errors.Join(c.frontends.Close(), c.fresh.Close(), c.confirmed.Close())
}

// visits measures the counts in random order, each several times, so that what
// changes with time is in all of them.
func (c *serviceChild) visits(ctx context.Context, s servicesSpec) ([]ServiceResult, error) {
	type sum struct {
		result Result
		samples
	}
	sums := map[int][]sum{}
	for range s.Blocks {
		for _, i := range rand.Perm(len(s.Counts)) {
			count := s.Counts[i]
			if err := c.set(ctx, count); err != nil {
				return nil, err
			}
			all, err := c.open()
			if err != nil {
				return nil, fmt.Errorf("%d services: %w", count, err)
			}
			if err := sampleAll(all, s.Rounds); err != nil {
				return nil, fmt.Errorf("%d services: %w", count, err)
			}
			if sums[count] == nil {
				sums[count] = make([]sum, len(all))
			}
			for k, one := range all {
				sums[count][k].join(one.samples)
				sums[count][k].result = one.finish()
			}
		}
	}
	var out []ServiceResult
	for _, count := range s.Counts {
		for _, one := range sums[count] {
			one.sum(&one.result)
			out = append(out, ServiceResult{one.result, count})
		}
	}
	return out, nil
}

// open opens all cases of both families.
func (c *serviceChild) open() ([]*series, error) {
	var all []*series
	for _, is6 := range []bool{false, true} {
		w, err := c.world(is6)
		if err != nil {
			return nil, err
		}
		probes, err := c.serviceProbes(w)
		if err != nil {
			return nil, err
		}
		for _, p := range probes {
			s, err := openSeries(c.node, p, Result{IPv6: is6, Size: small, Pods: len(c.pods)})
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// set makes count services, and waits until the kernel has them and no others.
func (c *serviceChild) set(ctx context.Context, count int) error {
	for ; c.count < count; c.count++ {
		if err := c.services.PutNumber(c.shape, c.count); err != nil {
			return err
		}
	}
	for ; c.count > count; c.count-- {
		if err := c.services.Drop(c.shape, c.count-1); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, setTimeout)
	defer cancel()
	const poll = 20 * time.Millisecond
	for {
		wrong, err := c.wrong()
		if err != nil || wrong < 0 {
			return errors.Join(err, c.services.Check())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("service %d of %d is not in the kernel as it should be after %s", wrong, count, setTimeout)
		case <-time.After(poll):
		}
	}
}

// wrong is a service whose frontends are not in the kernel as they should be;
// negative: none.
func (c *serviceChild) wrong() (int, error) {
	for i := range cluster.Max {
		for _, is6 := range []bool{false, true} {
			addr, port := netorder.AddrPort(netip.AddrPortFrom(cluster.Address(i, is6), cluster.Port))
			var f abi.CFrontend
			err := c.frontends.Lookup(&abi.CFrontendKey{Addr: addr, Port: port, Proto: unix.IPPROTO_TCP}, &f)
			if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return i, fmt.Errorf("look for the frontend of service %d: %w", i, err)
			}
			if (err == nil) != (i < c.count) {
				return i, nil
			}
		}
	}
	return -1, nil
}
