package k8s

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeKubeconfig(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{"apiVersion":"v1","kind":"Config","current-context":"c",
		"clusters":[{"name":"c","cluster":{"server":"` + server + `"}}],
		"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
		"users":[{"name":"u","user":{"token":"kubeconfig-token"}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeAccount lays down the service account that a pod finds.
func writeAccount(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRESTConfig(t *testing.T) {
	kubeconfig := writeKubeconfig(t, "https://10.0.0.9:6443")
	account := writeAccount(t, "token", "ca.crt")
	const override = "https://192.0.2.1:6443"
	tests := []struct {
		name     string
		conn     Connection
		inPod    bool
		account  string
		wantHost string
		wantErr  string // part of the error
	}{
		{name: "kubeconfig", conn: Connection{Kubeconfig: kubeconfig}, wantHost: "https://10.0.0.9:6443"},
		{name: "kubeconfig, other URL", conn: Connection{Kubeconfig: kubeconfig, APIServer: override}, wantHost: override},
		{name: "pod", inPod: true, account: account, wantHost: "https://[fd00::1]:443"},
		{name: "pod, other URL", conn: Connection{APIServer: override}, inPod: true, account: account, wantHost: override},
		{name: "host network before services work", conn: Connection{APIServer: override}, account: account, wantHost: override},
		{name: "not a pod", account: account, wantErr: "set k8s-kubeconfig-path, or k8s-api-server"},
		{name: "no token", inPod: true, account: writeAccount(t, "ca.crt"), wantErr: "token: no such file"},
		{name: "no CA", inPod: true, account: writeAccount(t, "token"), wantErr: "ca.crt: no such file"},
		{name: "no kubeconfig", conn: Connection{Kubeconfig: "/nowhere"}, wantErr: "read kubeconfig /nowhere"},
		{name: "no scheme", conn: Connection{APIServer: "192.0.2.1:6443"}, wantErr: `k8s-api-server "192.0.2.1:6443" is not a URL such as`},
		{name: "other scheme", conn: Connection{APIServer: "ftp://h"}, wantErr: "is not a URL such as"},
		{name: "no rate", conn: Connection{Kubeconfig: kubeconfig, Burst: -1}, wantErr: "burst -1, want both more than 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			t.Setenv("KUBERNETES_SERVICE_PORT", "443")
			if tt.inPod {
				t.Setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
			}
			tt.conn.QPS, tt.conn.UserAgent = 5, "ua"
			if tt.conn.Burst == 0 {
				tt.conn.Burst = 10
			}
			cfg, err := tt.conn.restConfig(tt.account)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error is %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Host != tt.wantHost || cfg.UserAgent != "ua" || cfg.RateLimiter == nil {
				t.Errorf("host %q, user agent %q, limiter %v, want host %q", cfg.Host, cfg.UserAgent, cfg.RateLimiter, tt.wantHost)
			}
			if tt.conn.Kubeconfig != "" && cfg.BearerToken != "kubeconfig-token" {
				t.Errorf("token is %q, want the kubeconfig's", cfg.BearerToken)
			}
			if tt.account != "" && (cfg.BearerTokenFile != filepath.Join(account, "token") || cfg.CAFile != filepath.Join(account, "ca.crt")) {
				t.Errorf("token file %q, CA file %q, want those of %s", cfg.BearerTokenFile, cfg.CAFile, account)
			}
		})
	}
}
