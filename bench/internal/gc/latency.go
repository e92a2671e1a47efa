package gc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/tcp"
)

// latencies measures round trips between the pods while each way, or none,
// makes pass after pass.
func (m *measurement) latencies(ctx context.Context) error {
	pods := make([]*netlab.Namespace, len(m.spec.Node.Pods))
	for i, p := range m.spec.Node.Pods {
		var err error
		if pods[i], err = netlab.Open(p.Netns); err != nil {
			return err
		}
		defer pods[i].Close()
	}
	stop, err := m.serve(pods[1])
	if err != nil {
		return err
	}
	defer stop()
	compared := []string{wayNone, wayKernel, wayBatch}
	for range m.spec.Size.Rounds {
		for _, i := range rand.Perm(len(compared)) {
			if err := m.latencyRound(ctx, pods[0], compared[i]); err != nil {
				return fmt.Errorf("round trips, collection %s: %w", compared[i], err)
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
	collecting, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	var work Work
	go func() {
		var err error
		for way != wayNone && collecting.Err() == nil && err == nil {
			var o outcome
			if o, err = collect(collecting, way, m.collector, m.table); err == nil {
				work.Passes++
			}
			work.CPU += o.cpu.Seconds()
		}
		done <- err
	}()
	duration := time.Duration(m.spec.Size.Seconds * float64(time.Second))
	cmd := m.child(ctx, m.spec.Client, strconv.Itoa(m.cpu), m.spec.Node.Pods[1].IPv4.String(), duration.String())
	var out strings.Builder
	cmd.Stdout = &out
	err := pod.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	cancel()
	if collected := <-done; !errors.Is(collected, context.Canceled) {
		err = errors.Join(err, collected)
	}
	if err != nil {
		return err
	}
	var l tcp.Latency
	if err := json.Unmarshal([]byte(out.String()), &l); err != nil {
		return fmt.Errorf("read the client's answer: %w", err)
	}
	m.report.Latency[way] = append(m.report.Latency[way], l)
	work.Passes += m.report.Work[way].Passes
	work.CPU += m.report.Work[way].CPU
	m.report.Work[way] = work
	return nil
}
