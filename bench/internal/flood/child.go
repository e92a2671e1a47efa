package flood

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/stats"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/loader"
)

// Report is what was measured.
type Report struct {
	Size size `json:"size"`
	// Calm and Flooded are the rounds' phases, in pairs.
	Calm    []Phase `json:"calm"`
	Flooded []Phase `json:"flooded"`
	// Established is how many flows were followed, Forgotten how many of them
	// the node had to learn anew, or has not any more.
	Established int `json:"established"`
	Forgotten   int `json:"forgotten"`
}

// Phase is some seconds with or without the flood.
type Phase struct {
	Clients []ClientPhase `json:"clients"`
	Sent    int           `json:"sent"`    // frames of the flood
	Rate    float64       `json:"rate"`    // of them, a second
	Dropped int           `json:"dropped"` // of them, by the wire: the node was too slow
	Arrived int           `json:"arrived"` // packets that from_netdev passed on to the pod
	Evicted int           `json:"evicted"` // new flows that others took the place of
}

// ClientPhase is what clients of one kind saw. Times are in microseconds.
type ClientPhase struct {
	Name       string  `json:"name"`
	Trips      int     `json:"trips"`
	P50        float64 `json:"p50"` // of round trips
	P99        float64 `json:"p99"`
	Lost       int     `json:"lost"`   // connections that ended
	Opened     int     `json:"opened"` // new connections
	Failed     int     `json:"failed"`
	ConnectP50 float64 `json:"connectP50"` // with one round trip
	ConnectP99 float64 `json:"connectP99"`
}

// Child is the process of the node: it reads a spec, measures, and writes the
// Report, both as JSON.
func Child(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) (err error) {
	var s spec
	if err = json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("read the node's description: %w", err)
	}
	m := measurement{spec: s, report: Report{Size: s.Size}}
	// The generator takes the first CPU; all threads that come follow this one.
	if err = node.BindProcess(runtime.NumCPU() - 1); err != nil {
		return err
	}
	if m.node, err = node.Start(ctx, s.Node, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.node.Close()) }()
	if err = m.open(ctx); err == nil {
		err = m.rounds(ctx)
	}
	if err = errors.Join(err, m.close()); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(m.report)
}

type measurement struct {
	spec      spec
	node      *node.Node
	generator *generator
	outside   *netlab.Namespace
	clients   []*client
	openers   []*client
	counter   *conntrack.Counter
	closers   []func() error
	report    Report
}

func (m *measurement) close() error {
	var errs []error
	for _, c := range m.clients {
		c.close()
	}
	for _, f := range m.closers {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// open prepares everything that the rounds need.
func (m *measurement) open(ctx context.Context) error {
	eps, err := m.node.Endpoints()
	if err != nil {
		return err
	}
	if err = m.node.Enforce(ctx, map[uint32]node.Group{eps[0].ID: node.GroupServer}); err != nil {
		return err
	}
	var ns [3]*netlab.Namespace
	for i, path := range []string{m.spec.Outside, m.spec.Node.Pods[0].Netns, m.spec.Node.Pods[1].Netns} {
		if ns[i], err = netlab.Open(path); err != nil {
			return err
		}
		m.closers = append(m.closers, func() error { ns[i].Close(); return nil })
	}
	server, err := serve(ns[1])
	if err != nil {
		return err
	}
	m.closers = append(m.closers, server.Close)
	m.outside = ns[0]
	m.clients = clients(ns[2], ns[0], m.spec.Node.Pods[0])
	m.openers = clients(ns[2], ns[0], m.spec.Node.Pods[0])
	if err = m.openGenerator(ns[0]); err != nil {
		return err
	}
	return m.openCounter()
}

func (m *measurement) openGenerator(outside *netlab.Namespace) error {
	t := target{random: rand.New(rand.NewPCG(1, 1)), addrs: [2]netip.Addr{m.spec.Node.Pods[0].IPv4, m.spec.Node.Pods[0].IPv6}}
	dev, err := net.InterfaceByName(node.Device)
	if err != nil {
		return fmt.Errorf("find %s: %w", node.Device, err)
	}
	t.dstMAC = dev.HardwareAddr
	err = outside.Do(func() error {
		far, farErr := net.InterfaceByName(node.Device)
		if farErr == nil {
			t.srcMAC = far.HardwareAddr
		}
		return farErr
	})
	if err != nil {
		return fmt.Errorf("find the far end of %s: %w", node.Device, err)
	}
	all, err := frames(t, m.spec.Size.Frames)
	if err != nil {
		return err
	}
	if m.generator, err = newGenerator(outside, all); err != nil {
		return err
	}
	m.closers = append(m.closers, m.generator.close)
	return nil
}

func (m *measurement) openCounter() error {
	outer, err := node.OpenMap(datapath.CTNewMap)
	if err != nil {
		return err
	}
	m.closers = append(m.closers, outer.Close)
	if m.counter, err = conntrack.NewCounter(map[string]*ebpf.Map{datapath.CTNewMap: outer}); err != nil {
		return err
	}
	m.closers = append(m.closers, m.counter.Close)
	return nil
}

// rounds measures calm and flooded phases in turn, on the same connections.
func (m *measurement) rounds(ctx context.Context) error {
	for _, c := range m.clients {
		if err := c.establish(ctx, m.spec.Size.Conns); err != nil {
			return err
		}
	}
	births, err := m.births()
	if err != nil {
		return err
	}
	m.report.Established = len(births)
	for range m.spec.Size.Rounds {
		for _, flooded := range []bool{false, true} {
			p, phaseErr := m.phase(ctx, flooded)
			if phaseErr != nil {
				return phaseErr
			}
			_, _ = fmt.Fprintf(os.Stderr, "flood: phase %d of %d\n", len(m.report.Calm)+len(m.report.Flooded)+1, 2*m.spec.Size.Rounds)
			if flooded {
				m.report.Flooded = append(m.report.Flooded, p)
			} else {
				m.report.Calm = append(m.report.Calm, p)
			}
		}
	}
	after, err := m.births()
	for key, born := range births {
		if after[key] != born {
			m.report.Forgotten++
		}
	}
	return err
}

// births tells when the node learned of each established flow, in jiffies.
func (m *measurement) births() (map[abi.CCtKey]uint32, error) {
	table, err := node.OpenTable(datapath.CTTCPMap)
	if err != nil {
		return nil, err
	}
	defer func() { _ = table.Close() }()
	out := map[abi.CCtKey]uint32{}
	for _, c := range m.clients {
		for _, conn := range c.conns {
			key := node.FlowKey(flow(conn))
			var e abi.CCtEntry
			if err := table.Lookup(&key, &e); errors.Is(err, ebpf.ErrKeyNotExist) {
				continue
			} else if err != nil {
				return nil, fmt.Errorf("look for an established flow: %w", err)
			}
			out[key] = uint32(e.State >> 32)
		}
	}
	return out, nil
}

// phase lets all clients work for a while.
func (m *measurement) phase(ctx context.Context, flooded bool) (p Phase, err error) {
	before, err := m.counts()
	if err != nil {
		return p, err
	}
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	seconds := time.Duration(m.spec.Size.Seconds * float64(time.Second))
	var wg sync.WaitGroup
	p.Clients = make([]ClientPhase, len(m.clients))
	wg.Go(func() {
		defer cancel()
		if !flooded {
			time.Sleep(seconds)
			return
		}
		var took time.Duration
		p.Sent, took, err = m.generator.run(0, seconds)
		p.Rate = float64(p.Sent) / took.Seconds()
	})
	for i := range m.clients {
		wg.Go(func() { m.work(working, i, &p.Clients[i]) })
	}
	wg.Wait()
	if err != nil {
		return p, err
	}
	after, err := m.counts()
	p.Arrived, p.Dropped = after.arrived-before.arrived, after.dropped-before.dropped
	if flooded {
		p.Evicted = max(0, p.Sent-p.Dropped-(after.entries-before.entries))
	}
	return p, err
}

// work exchanges data on the established connections, and opens new ones.
func (m *measurement) work(ctx context.Context, i int, p *ClientPhase) {
	var trips, connects []float64
	var wg sync.WaitGroup
	wg.Go(func() { trips, p.Lost = m.clients[i].exchange(ctx) })
	wg.Go(func() { connects, p.Failed = m.openers[i].open(ctx) })
	wg.Wait()
	p.Name, p.Trips, p.Opened = m.clients[i].name, len(trips), len(connects)
	if len(trips) == 0 || len(connects) == 0 {
		return
	}
	p.P50, p.P99 = stats.Median(trips), stats.Quantile(trips, 0.99)
	p.ConnectP50, p.ConnectP99 = stats.Median(connects), stats.Quantile(connects, 0.99)
}

// counts are numbers of the node that only grow, but for the entries.
type counts struct {
	entries int // of the table of new flows
	arrived int // packets that from_netdev passed on
	dropped int // frames that the far end of the node's device could not hand over
}

func (m *measurement) counts() (c counts, err error) {
	n, _, err := m.counter.Count()
	if err != nil {
		return c, err
	}
	c.entries = int(n[datapath.CTNewMap])
	counters, err := m.node.Counters()
	if err != nil {
		return c, err
	}
	for _, one := range counters {
		if one.Program == loader.FromNetdev && one.Reason == datapath.ReasonText(abi.CReasonREASON_FORWARDED) {
			c.arrived += int(one.Packets)
		}
	}
	err = m.outside.Do(func() error {
		l, linkErr := netlink.LinkByName(node.Device)
		if linkErr == nil {
			c.dropped = int(l.Attrs().Statistics.TxDropped)
		}
		return linkErr
	})
	return c, err
}
