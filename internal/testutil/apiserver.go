package testutil

import (
	"os"
	"path/filepath"
	"testing"
)

// APIServerBinaries returns the folder of a kube-apiserver and its etcd: the one
// that KUBEBUILDER_ASSETS names, or the one in which the lab keeps them. Without
// them it skips the test; with RequireEnv set it fails.
func APIServerBinaries(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		return dir
	}
	cache := os.Getenv("PLACID_LAB_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			missing(t, "needs a kube-apiserver, and there is no home directory to look for the lab's in: "+err.Error())
		}
		cache = filepath.Join(home, ".cache", "placid-lab")
	}
	dir, err := apiServerIn(cache)
	if err != nil {
		t.Fatalf("look for the lab's kube-apiserver: %v", err)
	}
	if dir == "" {
		missing(t, "needs a kube-apiserver with etcd, in KUBEBUILDER_ASSETS or in "+cache+" (`make lab-build` makes them)")
	}
	return dir
}

// apiServerIn returns the folder of the lab's cache that has both programs, or "".
func apiServerIn(cache string) (string, error) {
	found, err := filepath.Glob(filepath.Join(cache, "bin-*", "kube-apiserver"))
	if err != nil {
		return "", err
	}
	for _, f := range found {
		dir := filepath.Dir(f)
		if _, err := os.Stat(filepath.Join(dir, "etcd")); err == nil {
			return dir, nil
		}
	}
	return "", nil
}
