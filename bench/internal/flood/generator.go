package flood

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
)

// generator puts frames on the wire before the node.
type generator struct {
	socket int
	frames [][]byte
	next   int
}

func newGenerator(outside *netlab.Namespace, all [][]byte) (*generator, error) {
	g := &generator{frames: all}
	err := outside.Do(func() (err error) {
		dev, err := net.InterfaceByName(node.Device)
		if err != nil {
			return err
		}
		if g.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.Bind(g.socket, &unix.SockaddrLinklayer{Ifindex: dev.Index}),
			unix.SetsockoptInt(g.socket, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1),
		)
	})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	return g, nil
}

func (g *generator) close() error { return unix.Close(g.socket) }

// perSecond is how many frames are sent a second. More than two CPUs can answer
// would measure how they share the CPUs, and not what becomes of the flows.
const perSecond = 40000

// longest is when a flood ends that a busy machine could not finish.
const longest = 60 * time.Second

// run sends on the given CPU until the time is up and every frame was sent once,
// and returns how many it sent and how long it took.
func (g *generator) run(cpu int, least time.Duration) (sent int, took time.Duration, err error) {
	runtime.LockOSThread() // for good: the thread stays bound
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return 0, 0, fmt.Errorf("bind to CPU %d: %w", cpu, err)
	}
	const burst = 64 // between two looks at the clock
	began := time.Now()
	for took < least || sent < len(g.frames) && took < longest {
		for range burst {
			_, err := unix.Write(g.socket, g.frames[g.next])
			if errors.Is(err, unix.ENOBUFS) {
				continue // the receiver's queue is full: the same again
			}
			if err != nil {
				return sent, took, fmt.Errorf("send a frame: %w", err)
			}
			g.next = (g.next + 1) % len(g.frames)
			sent++
		}
		took = time.Since(began)
		if ahead := time.Duration(sent)*time.Second/perSecond - took; ahead > 0 {
			time.Sleep(ahead)
		}
	}
	return sent, took, nil
}
