package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Log messages of the agent that are waited for.
const (
	messageAttached = "programs attached"
	messageReady    = "ready for pods"
)

const (
	startTimeout = 30 * time.Second
	maxLogLines  = 40 // kept for an error
)

// Start is how long one start of the agent took, in milliseconds: from the
// start of its process as seen from outside, and by its own log.
type Start struct {
	Attached, Ready       float64
	AttachedLog, ReadyLog float64
}

// process is a running agent.
type process struct {
	cmd   *exec.Cmd
	lines chan string
}

// startAgent starts the agent and waits until it is ready for pods.
func startAgent(ctx context.Context, binary string, flags []string, env []string) (*process, Start, error) {
	cmd := exec.Command(binary, flags...)
	cmd.Env = env
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, Start{}, fmt.Errorf("start the agent: %w", err)
	}
	p := &process{cmd: cmd, lines: make(chan string, 1024)}
	began := time.Now()
	if err = cmd.Start(); err != nil {
		return nil, Start{}, fmt.Errorf("start the agent: %w", err)
	}
	go p.readLog(stderr)
	s, err := p.waitReady(ctx, began)
	if err != nil {
		return nil, Start{}, errors.Join(err, p.kill())
	}
	return p, s, nil
}

func (p *process) readLog(r io.Reader) {
	defer close(p.lines)
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		select {
		case p.lines <- scanner.Text():
		default: // nobody reads any more
		}
	}
}

func (p *process) waitReady(ctx context.Context, began time.Time) (s Start, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var seen []string
	for {
		var line string
		var ok bool
		select {
		case line, ok = <-p.lines:
		case <-ctx.Done():
		}
		if !ok {
			last := seen[max(0, len(seen)-maxLogLines):]
			return s, fmt.Errorf("the agent did not become ready; its log:\n%s", strings.Join(last, "\n"))
		}
		seen = append(seen, line)
		now := milliseconds(time.Since(began))
		switch {
		case strings.Contains(line, strconv.Quote(messageAttached)):
			s.Attached, s.AttachedLog = now, logged(line)
		case strings.Contains(line, strconv.Quote(messageReady)):
			s.Ready, s.ReadyLog = now, logged(line)
			return s, nil
		}
	}
}

// logged is the value of the key after, in milliseconds.
func logged(line string) float64 {
	i := slices.IndexFunc(strings.Fields(line), func(f string) bool { return strings.HasPrefix(f, "after=") })
	if i < 0 {
		return 0
	}
	d, err := time.ParseDuration(strings.TrimPrefix(strings.Fields(line)[i], "after="))
	if err != nil {
		return 0
	}
	return milliseconds(d)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// kill ends the agent as kill -9 does.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill the agent: %w", err)
	}
	_ = p.cmd.Wait() // it tells of the kill
	return nil
}

// memory is the agent's resident memory in MiB; anon is what of it is not
// mapped from its own binary.
func (p *process) memory() (rss, anon float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read the agent's memory: %w", err)
	}
	return statusMiB(string(b), "VmRSS:"), statusMiB(string(b), "RssAnon:"), nil
}

func statusMiB(status, key string) float64 {
	for line := range strings.Lines(status) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != key {
			continue
		}
		kib, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return 0
		}
		return kib / 1024
	}
	return 0
}
