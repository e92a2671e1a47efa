package testutil

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestCgroup(t *testing.T) {
	home, err := ownCgroup()
	if err != nil {
		t.Fatal(err)
	}
	var dir string
	cmd := exec.Command("sleep", "60")
	t.Run("Inside", func(t *testing.T) {
		dir = NewCgroup(t)
		InCgroup(t, dir, func() {
			if now, err := ownCgroup(); err != nil || now != dir {
				t.Errorf("inside, the process is in %s, %v", now, err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
		})
		if now, err := ownCgroup(); err != nil || now != home {
			t.Errorf("after that, the process is in %s, %v, want %s", now, err, home)
		}
	})
	if err := cmd.Wait(); err == nil {
		t.Error("a process that was left in the cgroup ended by itself")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("after the test: %v", err)
	}
}

// TestSweepCgroups leaves what a killed test process would, under the id of one
// that has ended, and what one that runs has.
func TestSweepCgroups(t *testing.T) {
	running := NewCgroup(t)
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(running), fmt.Sprintf("%s%d-%d", cgroupPrefix, ended.Process.Pid, time.Now().UnixNano()))
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := sweepCgroups(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("what a killed test left: %v", err)
	}
	if _, err := os.Stat(running); err != nil {
		t.Errorf("what a running test has: %v", err)
	}
}
