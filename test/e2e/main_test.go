package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the cluster tests make network namespaces and nodes: run them as root")
		os.Exit(1)
	}
	if err := removeStaleLabs(); err != nil {
		fmt.Fprintln(os.Stderr, "remove labs of killed runs:", err)
		os.Exit(1)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-interrupted
		fmt.Fprintf(os.Stderr, "%s: taking the labs away\n", s)
		running.downAll()
		os.Exit(1)
	}()
	os.Exit(m.Run())
}

// removeStaleLabs ends the labs of test processes that are gone.
func removeStaleLabs() error {
	out, err := exec.CommandContext(context.Background(), labScript, "list").Output()
	if err != nil {
		return fmt.Errorf("lab list: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		parts := regexp.MustCompile(`^e2e-(\d+)-`).FindStringSubmatch(name)
		if parts == nil || isTestProcess(parts[1]) {
			continue
		}
		fmt.Fprintln(os.Stderr, "removing lab", name, "of a killed run")
		if err := labDown(name); err != nil {
			return err
		}
	}
	return nil
}

// isTestProcess tells whether the process lives and is one of this package.
func isTestProcess(pid string) bool {
	exe, err := os.Readlink(filepath.Join("/proc", pid, "exe"))
	return err == nil && strings.HasPrefix(filepath.Base(exe), "e2e.test")
}
