package resize

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/tcp"
	"github.com/placid-net/placid/internal/datapath"
)

// beginAfter is when something begins to move: the client has its connection then,
// so that the flow that is measured moves too.
const beginAfter = 100 * time.Millisecond

// latencyWays are what goes on while round trips are measured.
func latencyWays() []string { return []string{wayNone, wayIdle, wayKernel, wayBatch} }

// latencies measures round trips between the pods while each way, or none, moves
// all flows.
func (m *measurement) latencies(ctx context.Context) error {
	ns := make([]*netlab.Namespace, len(m.spec.Node.Pods))
	for i, p := range m.spec.Node.Pods {
		var err error
		if ns[i], err = netlab.Open(p.Netns); err != nil {
			return err
		}
		defer ns[i].Close()
	}
	stop, err := m.serve(ns[1])
	if err != nil {
		return err
	}
	defer stop()
	compared := latencyWays()
	for range m.spec.Size.Rounds {
		for _, i := range rand.Perm(len(compared)) {
			if err := m.latencyRound(ctx, ns[0], compared[i]); err != nil {
				return fmt.Errorf("round trips, %s: %w", compared[i], err)
			}
		}
	}
	return nil
}

func (m *measurement) child(ctx context.Context, args []string, more ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append(slices.Clip(args), more...)...)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	return cmd
}

// serve starts the server in a pod, until stop is called.
func (m *measurement) serve(pod *netlab.Namespace) (stop func(), err error) {
	cmd := m.child(context.Background(), m.spec.Server, string(tcp.RoundTrips), strconv.Itoa(m.cpu))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	if err := pod.Start(cmd); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		stop()
		return nil, fmt.Errorf("the server did not become ready: %w", err)
	}
	return stop, nil
}

func (m *measurement) latencyRound(ctx context.Context, pod *netlab.Namespace, way string) error {
	moving, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		Work
		err error
	}
	done := make(chan answer, 1)
	go func() {
		w, err := m.work(moving, way)
		done <- answer{w, err}
	}()
	l, err := m.trips(ctx, pod)
	cancel()
	a := <-done
	if err = errors.Join(err, a.err); err != nil {
		return err
	}
	m.report.Latency[way] = append(m.report.Latency[way], l)
	sum := m.report.Work[way]
	sum.add(a.Work)
	m.report.Work[way] = sum
	unfinished, err := m.collector.Moving(datapath.CTTCPMap)
	if err == nil && unfinished {
		err = m.end(ctx, m.spec.Size.Entries)
	}
	return err
}

// work moves or copies all flows to a table of twice their size until ctx ends.
func (m *measurement) work(ctx context.Context, way string) (w Work, err error) {
	entries := 2 * m.spec.Size.tableSize()
	select {
	case <-ctx.Done():
		return w, nil
	case <-time.After(beginAfter):
	}
	_, cpu, err := timed(func() error {
		switch way {
		case wayIdle:
			err = idle(ctx)
		case wayKernel:
			w, err = m.moveUntil(ctx, entries)
		case wayBatch:
			w, err = m.copyUntil(ctx, entries)
		}
		return err
	})
	w.CPU = cpu
	return w, err
}

// idle keeps a thread of the idle class busy until ctx ends: what the scheduler does
// otherwise when there is one is no cost of a move.
func idle(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: nobody else may get a thread like this
		err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
		for err == nil && ctx.Err() == nil {
			continue
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("set scheduling policy idle: %w", err)
	}
	return nil
}

// copyUntil copies all flows to another table of that size again and again, until
// ctx ends.
func (m *measurement) copyUntil(ctx context.Context, entries uint32) (w Work, err error) {
	for ctx.Err() == nil {
		to, err := m.flows().Sized(entries)
		if err != nil {
			return w, err
		}
		n, err := copyFlows(ctx, m.flows().Table.Map(), to)
		w.Entries += uint64(n)
		if err = errors.Join(err, to.Close()); errors.Is(err, context.Canceled) {
			return w, nil
		}
		if err != nil {
			return w, err
		}
		w.Ended++
	}
	return w, nil
}

// trips runs the client in its pod.
func (m *measurement) trips(ctx context.Context, pod *netlab.Namespace) (l tcp.Latency, err error) {
	duration := time.Duration(m.spec.Size.Seconds * float64(time.Second))
	cmd := m.child(ctx, m.spec.Client, strconv.Itoa(m.cpu), m.pods[1].IPv4.String(), duration.String())
	var out strings.Builder
	cmd.Stdout = &out
	if err = pod.Start(cmd); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return l, fmt.Errorf("run the client: %w", err)
	}
	if err = json.Unmarshal([]byte(out.String()), &l); err != nil {
		return l, fmt.Errorf("read the client's answer: %w", err)
	}
	return l, nil
}
