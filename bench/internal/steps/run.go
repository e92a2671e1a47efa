package steps

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
)

// Run measures in a node of its own: childArgs make this program call Child.
func Run(ctx context.Context, childArgs ...string) (r Results, err error) {
	self, err := netlab.New()
	if err != nil {
		return r, err
	}
	defer self.Close()
	other, err := netlab.New()
	if err != nil {
		return r, err
	}
	defer other.Close()
	if err = netlab.Join(node.Side(self, 1), node.Side(other, 2)); err != nil {
		return r, err
	}
	input, err := json.Marshal(node.Spec{Self: node.Describe(1), Device: node.Device})
	if err != nil {
		return r, fmt.Errorf("write the node's description: %w", err)
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe", childArgs...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &output, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := self.Start(cmd); err != nil {
		return r, fmt.Errorf("start the node: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return r, fmt.Errorf("node: %w", err)
	}
	if err := json.Unmarshal(output.Bytes(), &r); err != nil {
		return r, fmt.Errorf("read the node's results: %w", err)
	}
	return r, nil
}
