package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// terwayConf is the example of Alibaba's document, with one field that nothing
// corresponds to.
const terwayConf = `{
  "cniVersion": "0.4.0",
  "name": "terway",
  "type": "terway",
  "eniip_virtual_type": "IPvlan",
  "frobnicate": true,
  "cilium_args": "--bpf-map-dynamic-size-ratio=0.003 --bpf-ct-timeout-regular-tcp=1h"
}
`

func TestConfigImport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "10-terway.conf")
	if err := os.WriteFile(file, []byte(terwayConf), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args  []string
		stdin string
		want  []string
	}{
		"file":      {[]string{file}, "", []string{"bpf-map-dynamic-size-ratio: \"0.003\"", "bpf-ct-timeout-regular-tcp: 1h"}},
		"stdin":     {[]string{"-"}, terwayConf, []string{"bpf-map-dynamic-size-ratio: \"0.003\""}},
		"json":      {[]string{"-", "-o", "json"}, terwayConf, []string{`"bpf-map-dynamic-size-ratio": "0.003"`}},
		"configmap": {[]string{"-", "-o", "configmap"}, terwayConf, []string{"kind: ConfigMap", "name: placid-config", "namespace: kube-system", `bpf-map-dynamic-size-ratio: "0.003"`}},
	} {
		t.Run(name, func(t *testing.T) {
			r := placid(t, nil, tc.stdin, append([]string{"config", "import"}, tc.args...)...)
			if r.code != ExitOK {
				t.Errorf("exit code is %d, want 0", r.code)
			}
			for _, want := range tc.want {
				if !strings.Contains(r.stdout, want) {
					t.Errorf("stdout lacks %q:\n%s", want, r.stdout)
				}
			}
			if !strings.Contains(r.stderr, "not understood: line 6, frobnicate = true") {
				t.Errorf("stderr does not name the unknown field:\n%s", r.stderr)
			}
		})
	}
}

func TestConfigImportErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		args  string
		stdin string
		code  int
		want  string
	}{
		"no file":     {"/nonexistent/10-terway.conf", "", ExitFailed, "/nonexistent/10-terway.conf: no such file"},
		"not JSON":    {"-", "{", ExitFailed, "line 1"},
		"empty":       {"-", "", ExitFailed, "import -"},
		"bad value":   {"-", `{"type":"terway","cilium_args":"--bpf-map-dynamic-size-ratio=7"}`, ExitFailed, "bpf-map-dynamic-size-ratio"},
		"no argument": {"", "", ExitUsage, "import FILE|- takes exactly one argument, got 0"},
		"bad output":  {"- -o table", "", ExitUsage, "want yaml, json or configmap"},
	} {
		t.Run(name, func(t *testing.T) {
			r := placid(t, nil, tc.stdin, append([]string{"config", "import"}, strings.Fields(tc.args)...)...)
			if r.code != tc.code || !strings.Contains(r.stderr, tc.want) {
				t.Errorf("exit code %d, stderr %q; want %d and %q", r.code, r.stderr, tc.code, tc.want)
			}
			if r.stdout != "" {
				t.Errorf("stdout is %q, want nothing", r.stdout)
			}
		})
	}
}

// TestConfigKeys checks that the reference is complete and needs no agent.
func TestConfigKeys(t *testing.T) {
	text := placid(t, nil, "", "config", "keys")
	machine := placid(t, nil, "", "config", "keys", "-o", "json")
	if text.code != ExitOK || machine.code != ExitOK {
		t.Fatalf("exit codes are %d and %d: %s%s", text.code, machine.code, text.stderr, machine.stderr)
	}
	keys := keyReferences()
	if len(keys) < 40 {
		t.Errorf("only %d keys", len(keys))
	}
	for _, k := range keys {
		if !strings.Contains(text.stdout, k.Key+"\n  "+k.Doc+"\n") {
			t.Errorf("text lacks key %s", k.Key)
		}
		if !strings.Contains(machine.stdout, `"key": "`+k.Key+`"`) {
			t.Errorf("JSON lacks key %s", k.Key)
		}
	}
}
