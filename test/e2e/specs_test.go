package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const (
	conformanceScript = "../conformance/run"
	specsTimeout      = 10 * time.Minute
)

// TestSpecs runs a few of Kubernetes' own specs of services, which together meet
// every kind of them: those of `run --short`. All of them, and those of policy, run
// by `make conformance`.
func TestSpecs(t *testing.T) {
	l := startLab(t, "specs", "--dns", "--set", "routing-mode=native", "--set", followHints)
	out, err := filepath.Abs(filepath.Join("..", "..", "bin", "test", "specs"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), specsTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, conformanceScript, "--lab", l.name, "--suite", "network", "--short", "--out", out)
	cmd.Env = os.Environ()
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends its own processes
	cmd.WaitDelay = commandTimeout
	said, err := cmd.CombinedOutput()
	t.Logf("%s", said)
	if err != nil {
		t.Errorf("upstream's specs: %v; all that they said is in %s", err, out)
	}
}
