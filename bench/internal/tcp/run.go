package tcp

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/placid-net/placid/bench/internal/node"
)

// Names of paths, as the tables have them.
const (
	PathRaw           = "veth pair"
	PathRouted        = "kernel routing"
	PathLimit         = "bare bpf_redirect_peer"
	PathLocal         = "Placid"
	PathPolicy        = "Placid, both pods isolated, one rule"
	PathNative        = "Placid, native"
	PathTunnel        = "Placid, vxlan"
	PathRoutedApart   = "kernel routing, two nodes"
	PathTunnelRouting = "kernel routing and vxlan, two nodes"
)

// Size is how much to measure.
type Size struct {
	Rounds   int
	Duration time.Duration // of each mode of each path in a round
}

// NewSize returns the size of a run that is published, or of a short one.
func NewSize(short bool) Size {
	if short {
		return Size{Rounds: 3, Duration: 60 * time.Millisecond}
	}
	return Size{Rounds: 15, Duration: 200 * time.Millisecond}
}

// Args are the arguments that make this program call node.Child, Serve and
// Call; the last two are followed by mode and CPU, Call also by the address and
// the time.
type Args struct{ Node, Server, Client []string }

// Sample is the series of one path: a rate a round, per second.
type Sample struct {
	Path  string
	Base  string // what it is compared with; empty for a base itself
	Mode  Mode
	IPv6  bool
	Rates []float64
}

// Run measures all paths in all modes and families.
func Run(ctx context.Context, args Args, size Size, progress func(done, total int)) ([]Sample, error) {
	t := &topology{nodeArgs: args.Node}
	defer t.close()
	paths, err := t.paths()
	if err != nil {
		return nil, fmt.Errorf("make the paths: %w", err)
	}
	r := runner{args: args, cpu: runtime.NumCPU() - 1, size: size}
	defer r.stop()
	var samples []Sample
	for _, p := range paths {
		for _, m := range Modes() {
			if err := r.serve(p, m); err != nil {
				return nil, err
			}
			for _, is6 := range families() {
				samples = append(samples, Sample{Path: p.Name, Base: p.Base, Mode: m, IPv6: is6})
			}
		}
	}
	return samples, r.rounds(ctx, paths, samples, progress)
}

// rounds measures all samples in random order, but those that are compared
// with each other in a row, so that the same noise is in them.
func (r *runner) rounds(ctx context.Context, paths []Path, samples []Sample, progress func(done, total int)) error {
	groups := map[string][]int{}
	for i, s := range samples {
		key := fmt.Sprint(cmp.Or(s.Base, s.Path), s.Mode, s.IPv6)
		groups[key] = append(groups[key], i)
	}
	names := slices.Collect(maps.Keys(groups))
	perPath := len(samples) / len(paths)
	for round := range r.size.Rounds {
		progress(round+1, r.size.Rounds)
		for _, g := range rand.Perm(len(names)) {
			members := groups[names[g]]
			for _, m := range rand.Perm(len(members)) {
				s := &samples[members[m]]
				rate, err := r.call(ctx, paths[members[m]/perPath], s.Mode, s.IPv6)
				if err != nil {
					return err
				}
				s.Rates = append(s.Rates, rate)
			}
		}
	}
	return nil
}

func (t *topology) paths() ([]Path, error) {
	var errs []error
	var out []Path
	add := func(p Path, err error) {
		if err != nil {
			err = fmt.Errorf("%s: %w", p.Name, err)
		}
		out, errs = append(out, p), append(errs, err)
	}
	add(t.raw(PathRaw))
	add(t.routed(PathRouted, PathRaw))
	add(t.limit(PathLimit, PathRaw))
	add(t.local(PathLocal, PathRaw, node.GroupOpen))
	add(t.local(PathPolicy, PathRaw, node.GroupPorts))
	add(t.kernelApart(PathRoutedApart, false))
	add(t.apart(PathNative, PathRoutedApart, false))
	add(t.kernelApart(PathTunnelRouting, true))
	add(t.apart(PathTunnel, PathTunnelRouting, true))
	return out, errors.Join(errs...)
}

// runner starts servers and clients.
type runner struct {
	args    Args
	cpu     int
	size    Size
	servers []*exec.Cmd
}

func (r *runner) stop() {
	for _, s := range r.servers {
		_ = s.Process.Kill()
		_ = s.Wait()
	}
}

// child prepares a process of this program that the runtime leaves alone.
func child(ctx context.Context, args []string, more ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append(slices.Clip(args), more...)...)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	return cmd
}

func (r *runner) serve(p Path, m Mode) error {
	cmd := child(context.Background(), r.args.Server, string(m), strconv.Itoa(r.cpu))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start the server of %s: %w", p.Name, err)
	}
	if err := p.server.Start(cmd); err != nil {
		return fmt.Errorf("start the server of %s: %w", p.Name, err)
	}
	r.servers = append(r.servers, cmd)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("the server of %s (%s) did not become ready: %w", p.Name, m, err)
	}
	return nil
}

func (r *runner) call(ctx context.Context, p Path, m Mode, is6 bool) (float64, error) {
	cmd := child(ctx, r.args.Client, string(m), strconv.Itoa(r.cpu), p.addrs[is6].String(), r.size.Duration.String())
	var out strings.Builder
	cmd.Stdout = &out
	if err := p.client.Start(cmd); err != nil {
		return 0, fmt.Errorf("start the client of %s: %w", p.Name, err)
	}
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("%s, %s (IPv6: %t): %w", p.Name, m, is6, err)
	}
	rate, err := strconv.ParseFloat(strings.TrimSpace(out.String()), 64)
	if err != nil {
		return 0, fmt.Errorf("%s, %s (IPv6: %t): read the rate: %w", p.Name, m, is6, err)
	}
	return rate, nil
}
