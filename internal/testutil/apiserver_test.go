package testutil

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestAPIServerBinaries(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("KUBEBUILDER_ASSETS", "")
	t.Setenv("PLACID_LAB_CACHE", cache)
	for _, name := range []string{"bin-a/kube-apiserver", "bin-b/kube-apiserver", "bin-b/etcd", "bin-c/etcd"} {
		if dir, err := apiServerIn(cache); err != nil || dir != "" && name != "bin-c/etcd" {
			t.Errorf("before there is %s: %q, %v", name, dir, err)
		}
		path := filepath.Join(cache, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := APIServerBinaries(t), filepath.Join(cache, "bin-b"); got != want {
		t.Errorf("in the lab's cache: %s, want %s", got, want)
	}
	t.Setenv("KUBEBUILDER_ASSETS", "/assets")
	if got := APIServerBinaries(t); got != "/assets" {
		t.Errorf("with KUBEBUILDER_ASSETS: %s", got)
	}
}

// TestRequired: what is missing skips a test, and fails it where nothing may be
// skipped.
func TestRequired(t *testing.T) {
	for _, tc := range []struct {
		value           string
		skipped, failed bool
	}{{"", true, false}, {"0", true, false}, {"1", false, true}} {
		t.Setenv(RequireEnv, tc.value)
		f := &fakeT{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			missing(f, "needs the moon")
		}()
		<-done
		if f.skipped != tc.skipped || f.failed != tc.failed {
			t.Errorf("%s=%q: skipped %t, failed %t", RequireEnv, tc.value, f.skipped, f.failed)
		}
	}
}

// fakeT notes how a test would have ended.
type fakeT struct {
	testing.TB
	skipped, failed bool
}

func (f *fakeT) Helper() {}

func (f *fakeT) Skip(...any) { f.skipped = true; runtime.Goexit() }

func (f *fakeT) Fatalf(string, ...any) { f.failed = true; runtime.Goexit() }
