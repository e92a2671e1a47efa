package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/placid-net/placid/bench/internal/netlab"
)

// Measure runs this program again, with childArgs, in the namespace and with
// mounts of its own: it gives it spec as JSON on its standard input, waits for
// its end, and reads what it wrote as JSON into results, a pointer.
func Measure(ctx context.Context, in *netlab.Namespace, spec, results any, childArgs ...string) error {
	input, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("write the node's description: %w", err)
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe", childArgs...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &output, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := in.Start(cmd); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if err := json.Unmarshal(output.Bytes(), results); err != nil {
		return fmt.Errorf("read the node's results: %w", err)
	}
	return nil
}
