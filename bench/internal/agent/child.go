package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// Spec tells the process inside the node what to measure.
type Spec struct {
	Folder string   `json:"folder"` // of the binaries
	Flags  []string `json:"flags"`  // the agent's
	Env    []string `json:"env"`    // the agent's
	Pods   int      `json:"pods"`
	Starts int      `json:"starts"` // how often each start is measured
}

// Results is everything that is measured inside the node. Times are
// milliseconds, memory MiB.
type Results struct {
	Cold, Idle, Full []Start // first start on a node; again without pods; again with pods

	Paced, PacedAgent []float64 // ADDs one every pace, and the agent's share of each
	Burst, Parallel   []float64 // ADDs one after the other; several at once
	Deletes           []float64 // DELs one after the other

	IdleRSS, IdleAnon, FullRSS, FullAnon float64
	Programs, Links                      int
	MapMemory                            float64
}

const (
	// pace is the time between two ADDs as kubelet makes them at most: it
	// starts five pods a second and a half by default.
	pace     = 100 * time.Millisecond
	parallel = 10
	settle   = 5 * time.Second // before memory is read
	quiet    = 2 * time.Second // before many calls, so that nothing of the last is under way
)

// Child is the process inside the node: it reads a Spec, measures, and writes
// Results, both as JSON.
func Child(ctx context.Context, in io.Reader, out io.Writer, progress io.Writer) error {
	var spec Spec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("read what to measure: %w", err)
	}
	m := &measurement{spec: spec, progress: progress}
	err := m.run(ctx)
	if m.agent != nil {
		err = errors.Join(err, m.agent.kill())
	}
	if m.pods != nil {
		err = errors.Join(err, m.pods.remove())
	}
	if err = errors.Join(err, m.cleanup(ctx)); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(m.results)
}

// measurement runs one step after the other.
type measurement struct {
	spec     Spec
	progress io.Writer
	agent    *process
	pods     *pods
	results  Results
}

func (m *measurement) run(ctx context.Context) error {
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"first starts", m.coldStarts},
		{"starts without pods", func(ctx context.Context) error { return m.restarts(ctx, &m.results.Idle) }},
		{"memory without pods", m.idleMemory},
		{"ADDs at a pace", m.paced},
		{"memory, programs and maps with pods", m.fullMemory},
		{"starts with pods", func(ctx context.Context) error { return m.restarts(ctx, &m.results.Full) }},
		{"DELs", m.deletes},
		{"ADDs in a burst", m.burst},
		{"ADDs at once", m.atOnce},
	} {
		_, _ = fmt.Fprintln(m.progress, "agent:", step.name)
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func (m *measurement) binary() string { return filepath.Join(m.spec.Folder, "placid-agent") }

func (m *measurement) start(ctx context.Context) (s Start, err error) {
	m.agent, s, err = startAgent(ctx, m.binary(), m.spec.Flags, m.spec.Env)
	return s, err
}

// cleanup removes every trace of Placid from the node.
func (m *measurement) cleanup(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, m.binary(), append([]string{"cleanup"}, m.spec.Flags...)...)
	cmd.Env = m.spec.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("clean the node: %w: %s", err, out)
	}
	return nil
}

func (m *measurement) coldStarts(ctx context.Context) error {
	for range m.spec.Starts {
		if m.agent != nil {
			if err := m.agent.kill(); err != nil {
				return err
			}
		}
		if err := m.cleanup(ctx); err != nil {
			return err
		}
		s, err := m.start(ctx)
		if err != nil {
			return err
		}
		m.results.Cold = append(m.results.Cold, s)
	}
	return nil
}

func (m *measurement) restarts(ctx context.Context, into *[]Start) error {
	for range m.spec.Starts {
		if err := m.agent.kill(); err != nil {
			return err
		}
		s, err := m.start(ctx)
		if err != nil {
			return err
		}
		*into = append(*into, s)
	}
	return nil
}

func (m *measurement) idleMemory(ctx context.Context) (err error) {
	if err = sleep(ctx, settle); err != nil {
		return err
	}
	m.results.IdleRSS, m.results.IdleAnon, err = m.agent.memory()
	return err
}

// paced adds every pod, one at a time and not faster than kubelet does.
func (m *measurement) paced(ctx context.Context) error {
	conf, err := pluginConf(confPath)
	if err != nil {
		return err
	}
	if m.pods, err = makePods(m.spec.Pods, conf); err != nil {
		return err
	}
	before, err := agentShare(ctx, "ADD")
	if err != nil {
		return err
	}
	for i := range m.spec.Pods {
		next := time.Now().Add(pace)
		took, err := m.pods.call(ctx, "ADD", i)
		if err != nil {
			return err
		}
		after, err := agentShare(ctx, "ADD")
		if err != nil {
			return err
		}
		m.results.Paced = append(m.results.Paced, took)
		m.results.PacedAgent = append(m.results.PacedAgent, after-before)
		before = after
		if err := sleep(ctx, time.Until(next)); err != nil {
			return err
		}
	}
	return nil
}

func (m *measurement) fullMemory(ctx context.Context) (err error) {
	if err = sleep(ctx, settle); err != nil {
		return err
	}
	if m.results.FullRSS, m.results.FullAnon, err = m.agent.memory(); err != nil {
		return err
	}
	if m.results.Programs, m.results.Links, err = countPrograms(); err != nil {
		return err
	}
	m.results.MapMemory, err = mapMemory()
	return err
}

func (m *measurement) deletes(ctx context.Context) error {
	took, err := m.each(ctx, "DEL", 1)
	m.results.Deletes = append(m.results.Deletes, took...)
	return err
}

func (m *measurement) burst(ctx context.Context) (err error) {
	if err = sleep(ctx, quiet); err != nil {
		return err
	}
	if m.results.Burst, err = m.each(ctx, "ADD", 1); err != nil {
		return err
	}
	_, err = m.each(ctx, "DEL", 1)
	return err
}

func (m *measurement) atOnce(ctx context.Context) (err error) {
	if err = sleep(ctx, quiet); err != nil {
		return err
	}
	if m.results.Parallel, err = m.each(ctx, "ADD", parallel); err != nil {
		return err
	}
	_, err = m.each(ctx, "DEL", parallel)
	return err
}

// each calls the plugin for every pod, so many at a time.
func (m *measurement) each(ctx context.Context, command string, workers int) ([]float64, error) {
	took, errs := make([]float64, m.spec.Pods), make([]error, m.spec.Pods)
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				took[i], errs[i] = m.pods.call(ctx, command, i)
			}
		})
	}
	for i := range m.spec.Pods {
		next <- i
	}
	close(next)
	wg.Wait()
	return took, errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
