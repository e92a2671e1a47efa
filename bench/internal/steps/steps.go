package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath"
)

const (
	hostDevice = "plcbench"
	spareName  = "plpbench"
	podDevice  = "eth0"
)

// Results are the samples of each step, in milliseconds.
type Results struct {
	// Moved: a spare pair's end is moved into the pod's namespace. Made: it is
	// made there.
	Moved, Made map[string][]float64
	Rounds      int
	Crowded     Crowded
}

// spec is what Child gets.
type spec struct {
	Node   node.Spec `json:"node"`
	Rounds int       `json:"rounds"`
}

// Step is one step's name, and whether a pod waits for it in each way.
type Step struct {
	Name                string
	MovedWait, MadeWait bool
}

// Names of steps.
const (
	stepCreate    = "create the pair"
	stepSysctl    = "sysctl of the host side"
	stepAttach    = "attach the program, pin the link"
	stepOpen      = "open the pod's namespace"
	stepMove      = "move the device, and name it"
	stepHostUp    = "host side up, alias"
	stepAddrs     = "addresses in the pod"
	stepPodUp     = "pod's side up"
	stepPodRoutes = "neighbours and routes in the pod"
	stepNode      = "neighbours and routes on the node"
	stepFile      = "endpoint's file"
	stepMap       = "three entries of the endpoint map"
	stepUnpin     = "DEL: unpin the link"
	stepDelete    = "DEL: delete the pair"
)

// Steps lists all steps in their order.
func Steps() []Step {
	return []Step{
		{stepCreate, false, true},
		{stepSysctl, false, true},
		{stepAttach, false, true},
		{stepOpen, true, true},
		{stepMove, true, false},
		{stepHostUp, true, true},
		{stepAddrs, true, true},
		{stepPodUp, true, true},
		{stepPodRoutes, true, true},
		{stepNode, true, true},
		{stepFile, true, true},
		{stepMap, true, true},
		{stepDelete, false, false},
		{stepUnpin, false, false},
	}
}

// Child is the process of a node: it reads a node.Spec, measures, and writes
// Results, both as JSON.
func Child(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) (err error) {
	var s spec
	if err = json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("read the node's description: %w", err)
	}
	n, err := node.Start(ctx, s.Node, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	program, err := ebpf.LoadPinnedProgram(node.Root+"/programs/from_pod", nil)
	if err != nil {
		return fmt.Errorf("open the program: %w", err)
	}
	defer func() { _ = program.Close() }()
	table, err := node.OpenTable(datapath.EndpointMap)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	// The agent's folder is on a tmpfs too. Nobody else sees this one.
	const folder = "/run"
	if err = unix.Mount("tmpfs", folder, "tmpfs", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", folder, err)
	}
	r := Results{Moved: map[string][]float64{}, Made: map[string][]float64{}, Rounds: s.Rounds}
	for range s.Rounds {
		for _, i := range rand.Perm(2) {
			w := &way{moved: i == 0, samples: r.Made, program: program, table: table, folder: folder}
			if w.moved {
				w.samples = r.Moved
			}
			if err = w.run(); err != nil {
				return err
			}
		}
	}
	if r.Crowded, err = crowded(ctx, n, s.Rounds); err != nil {
		return fmt.Errorf("many policies: %w", err)
	}
	return json.NewEncoder(out).Encode(r)
}

// way is one pod's interface, made and removed.
type way struct {
	moved   bool // or made in the pod's namespace
	samples map[string][]float64
	program *ebpf.Program
	table   *ebpf.Map // of endpoints
	folder  string

	pod   *netlab.Namespace
	inPod *netlink.Handle
	ns    netns.NsHandle
	host  netlink.Link
	peer  netlink.Link
}

// step times one step.
func (w *way) step(name string, f func() error) error {
	began := time.Now()
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	w.samples[name] = append(w.samples[name], float64(time.Since(began))/float64(time.Millisecond))
	return nil
}
