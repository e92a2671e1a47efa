package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"

	"github.com/placid-net/placid/bench/internal/netlab"
)

// Child is the process of a node: it reads a Spec from in, starts the node,
// writes a line to out, and ends when in does.
func Child(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) error {
	input := json.NewDecoder(in)
	var spec Spec
	if err := input.Decode(&spec); err != nil {
		return fmt.Errorf("read the node's description: %w", err)
	}
	n, err := Start(ctx, spec, log)
	if err != nil {
		return err
	}
	if err = n.serveChild(ctx, spec.Serving, log); err != nil {
		return errors.Join(err, n.Close())
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return errors.Join(err, n.Close())
	}
	var more any
	if err := input.Decode(&more); !errors.Is(err, io.EOF) {
		return errors.Join(fmt.Errorf("wait for the end: %w", err), n.Close())
	}
	return n.Close()
}

// serveChild serves what a Spec says, until the node ends.
func (n *Node) serveChild(ctx context.Context, s *Serving, log *slog.Logger) error {
	if s == nil {
		return nil
	}
	served, err := n.ServeAll(ctx, s.Shape, s.Count, log)
	if err == nil {
		n.served = served
	}
	return err
}

// Process is a node in a process of its own.
type Process struct {
	cmd   *exec.Cmd
	input io.WriteCloser
}

// Spawn starts a node in the namespace and waits until its pods are connected.
// childArgs are the arguments that make this program call Child.
func Spawn(in *netlab.Namespace, spec Spec, childArgs ...string) (*Process, error) {
	cmd := exec.Command("/proc/self/exe", childArgs...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start node %s: %w", spec.Self.Name, err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start node %s: %w", spec.Self.Name, err)
	}
	if err := in.Start(cmd); err != nil {
		return nil, fmt.Errorf("start node %s: %w", spec.Self.Name, err)
	}
	p := &Process{cmd: cmd, input: input}
	if err := json.NewEncoder(input).Encode(spec); err != nil {
		return nil, errors.Join(fmt.Errorf("describe node %s: %w", spec.Self.Name, err), p.Close())
	}
	if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("node %s did not become ready: %w", spec.Self.Name, err), p.Close())
	}
	return p, nil
}

// Close ends the process.
func (p *Process) Close() error { return errors.Join(p.input.Close(), p.cmd.Wait()) }
