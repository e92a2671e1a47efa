package config

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// configMap is a directory as kubelet mounts a ConfigMap: the files are links into
// a hidden directory behind a link, which is swapped when the ConfigMap changes.
type configMap struct {
	dir      string
	versions int
}

func newConfigMap(t *testing.T, data map[string]string) *configMap {
	t.Helper()
	m := &configMap{dir: t.TempDir()}
	m.set(t, data)
	return m
}

// set makes data the content, in the order in which kubelet does it.
func (m *configMap) set(t *testing.T, data map[string]string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	old, _ := os.Readlink(filepath.Join(m.dir, "..data"))
	m.versions++
	version := fmt.Sprintf("..version%d", m.versions)
	must(os.Mkdir(filepath.Join(m.dir, version), 0o755))
	for key, value := range data {
		must(os.WriteFile(filepath.Join(m.dir, version, key), []byte(value), 0o600))
	}
	must(os.Symlink(version, filepath.Join(m.dir, "..data_tmp")))
	must(os.Rename(filepath.Join(m.dir, "..data_tmp"), filepath.Join(m.dir, "..data")))
	entries, err := os.ReadDir(m.dir)
	must(err)
	for _, e := range entries {
		if _, ok := data[e.Name()]; !ok && !strings.HasPrefix(e.Name(), ".") {
			must(os.Remove(filepath.Join(m.dir, e.Name())))
		}
	}
	for key := range data {
		if _, err := os.Lstat(filepath.Join(m.dir, key)); err != nil {
			must(os.Symlink(filepath.Join("..data", key), filepath.Join(m.dir, key)))
		}
	}
	if old != "" {
		must(os.RemoveAll(filepath.Join(m.dir, old)))
	}
}

func mustLoad(t *testing.T, src Sources) *Loaded {
	t.Helper()
	l, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestChanges(t *testing.T) {
	before := mustLoad(t, Sources{Flags: flagsWith(t, "--mtu=1400", "--devices=a b")})
	for _, tc := range []struct {
		flags             string
		live, needRestart string
	}{
		{"--mtu=1400 --devices=a,b", "", ""},
		{"--mtu=1500 --devices=a,b", "", "mtu"},
		{"--mtu=1400 --devices=b,a", "", "devices"},
		{"--mtu=1400 --devices=a,b --bpf-ct-timeout-regular-tcp=8000s", "", ""},
		{"--mtu=1400 --devices=a,b --bpf-ct-timeout-regular-tcp=2h13m20s", "", ""},
		{"--mtu=1400 --devices=a,b --bpf-ct-timeout-regular-tcp=1h --policy-audit-mode", "bpf-ct-timeout-regular-tcp policy-audit-mode", ""},
		{"--mtu=1400 --devices=a,b --bpf-nat-global-max=4096 --bpf-map-dynamic-size-ratio=0.003", "bpf-map-dynamic-size-ratio bpf-nat-global-max", ""},
		{"--mtu=1400 --devices=a,b --bpf-map-memory-budget=268435456 --bpf-lb-map-max=65536", "bpf-map-memory-budget", ""},
		{"--mtu=1400 --devices=a,b --node-port-range=30000,32767 --bpf-lb-maglev-table-size=16381", "", ""},
		{"--mtu=1400 --devices=a,b --node-port-range=30000-32000 --bpf-ct-timeout-service-tcp=1h", "bpf-ct-timeout-service-tcp", "node-port-range"},
		{
			"--conntrack-gc-interval=30s --conntrack-gc-max-interval=1m --enable-policy=always --labels=k8s:app", "conntrack-gc-interval conntrack-gc-max-interval",
			"devices enable-policy labels mtu",
		},
	} {
		after := mustLoad(t, Sources{Flags: flagsWith(t, strings.Fields(tc.flags)...)})
		live, needRestart := Changes(before, after)
		if strings.Join(live, " ") != tc.live || strings.Join(needRestart, " ") != tc.needRestart {
			t.Errorf("%s: live %q, restart %q", tc.flags, live, needRestart)
		}
	}
}

func TestReloadReadsTheSourcesAgain(t *testing.T) {
	m := newConfigMap(t, map[string]string{"mtu": "1400", "policy-audit-mode": "false", "bpf-ct-timeout-regular-any": "10s"})
	flags, env := flagsWith(t, "--policy-audit-mode=false"), []string{"PLACID_BPF_CT_TIMEOUT_REGULAR_ANY=20s", "PLACID_CONFIG_DIR=" + m.dir}
	l := mustLoad(t, Sources{Dir: "/not/this/one", Env: env, Flags: flags})
	m.set(t, map[string]string{"mtu": "1500", "policy-audit-mode": "true", "bpf-ct-timeout-regular-any": "30s"})
	again, err := l.Reload()
	if err != nil {
		t.Fatal(err)
	}
	// Environment and flags keep their precedence.
	if c := again.Config; c.MTU != 1500 || c.PolicyAuditMode || c.CTTimeoutRegularAny != 20*time.Second {
		t.Errorf("%+v", c)
	}
	if l.Config.MTU != 1400 {
		t.Error("Reload changed what it began with")
	}
	m.set(t, map[string]string{"mtu": "big"})
	_, err = again.Reload()
	wantLines(t, err, []string{`mtu="big"`, "is not a whole number"})
	if again, err = mustLoad(t, Sources{}).Reload(); err != nil || again.Config.MTU != 0 {
		t.Errorf("without sources: %v", err)
	}
}

// told is what onChange was called with.
type told struct {
	now               *Loaded
	live, needRestart []string
}

// entryOf gives the line of `placid config` for a key.
func entryOf(l *Loaded, key string) entry {
	entries := l.Entries()
	return entries[slices.IndexFunc(entries, func(e entry) bool { return e.Key == key })]
}

// A ConfigMap's life: each step sets its content; the follower looks twice, so that
// a content that did not change must do nothing.
func TestFollower(t *testing.T) {
	m := newConfigMap(t, map[string]string{"mtu": "1400", "bpf-ct-timeout-regular-tcp": "1h"})
	started := mustLoad(t, Sources{Dir: m.dir, Flags: flagsWith(t, "--bpf-ct-timeout-regular-any=45s")})
	var logged bytes.Buffer
	var calls []told
	f := &follower{
		started: started, now: started, log: slog.New(slog.NewTextHandler(&logged, nil)),
		onChange: func(now *Loaded, live, needRestart []string) { calls = append(calls, told{now, live, needRestart}) },
	}
	for _, step := range []struct {
		name              string
		data              map[string]string
		called            bool
		live, needRestart string
		tcp, mtu          string // in force afterwards
		logged            string // a part of what is logged; empty: nothing
	}{
		{"as it was", map[string]string{"mtu": "1400", "bpf-ct-timeout-regular-tcp": "1h"}, false, "", "", "1h0m0s", "1400", ""},
		{"written in another way", map[string]string{"mtu": "1400\n", "bpf-ct-timeout-regular-tcp": "60m"}, false, "", "", "1h0m0s", "1400", ""},
		{"a live key", map[string]string{"mtu": "1400", "bpf-ct-timeout-regular-tcp": "2h"}, true, "bpf-ct-timeout-regular-tcp", "", "2h0m0s", "1400", ""},
		{"a key that needs a restart", map[string]string{"mtu": "1500", "bpf-ct-timeout-regular-tcp": "2h"}, true, "", "mtu", "2h0m0s", "1400", ""},
		{"it changes again", map[string]string{"mtu": "1600", "bpf-ct-timeout-regular-tcp": "2h"}, false, "", "mtu", "2h0m0s", "1400", ""},
		{"both", map[string]string{"mtu": "1600", "debug": "true", "bpf-ct-timeout-regular-tcp": "3h"}, true, "bpf-ct-timeout-regular-tcp", "debug mtu", "3h0m0s", "1400", ""},
		{"a bad value", map[string]string{"mtu": "1400", "bpf-ct-timeout-regular-tcp": "soon", "policy-audit-mode": "true"}, false, "", "debug mtu", "3h0m0s", "1400", "soon"},
		{"another bad value", map[string]string{"mtu": "1400", "bpf-ct-timeout-regular-tcp": "4h", "no-such-key": "1"}, false, "", "debug mtu", "3h0m0s", "1400", "no-such-key"},
		{"settings that contradict each other", map[string]string{"enable-ipv4": "false", "enable-ipv6": "false", "bpf-ct-timeout-regular-tcp": "4h"}, false, "", "", "3h0m0s", "1400", "no address at all"},
		{"a flag wins", map[string]string{"mtu": "1600", "debug": "true", "bpf-ct-timeout-regular-tcp": "3h", "bpf-ct-timeout-regular-any": "9s"}, false, "", "debug mtu", "3h0m0s", "1400", "good again"},
		{"set back", map[string]string{"mtu": "1400", "bpf-ct-timeout-regular-tcp": "3h"}, true, "", "", "3h0m0s", "1400", ""},
		{"a new warning", map[string]string{"mtu": "1400", "bpf-ct-timeout-regular-tcp": "3h", "enable-hubble": "true"}, false, "", "", "3h0m0s", "1400", "flows are not exported"},
		{"the same warning", map[string]string{"mtu": "1400", "bpf-ct-timeout-regular-tcp": "2h", "enable-hubble": "true"}, true, "bpf-ct-timeout-regular-tcp", "", "2h0m0s", "1400", ""},
		{"everything removed", map[string]string{}, true, "bpf-ct-timeout-regular-tcp", "mtu", "2h13m20s", "1400", ""},
	} {
		m.set(t, step.data)
		calls, logged = nil, bytes.Buffer{}
		f.look()
		once := logged.Len()
		f.look()
		if logged.Len() != once || len(calls) > 1 {
			t.Errorf("%s: looking twice: %d calls, logged %s", step.name, len(calls), logged.String())
		}
		if (len(calls) == 1) != step.called {
			t.Fatalf("%s: %d calls", step.name, len(calls))
		}
		if step.called {
			c := calls[0]
			if strings.Join(c.live, " ") != step.live || strings.Join(c.needRestart, " ") != step.needRestart || c.now != f.now {
				t.Errorf("%s: live %q, restart %q", step.name, c.live, c.needRestart)
			}
		}
		tcp, mtu := entryOf(f.now, "bpf-ct-timeout-regular-tcp"), entryOf(f.now, "mtu")
		if tcp.Value != step.tcp || mtu.Value != step.mtu || f.now.Config.CTTimeoutRegularTCP.String() != step.tcp || fmt.Sprint(f.now.Config.MTU) != step.mtu {
			t.Errorf("%s: in force are %+v and %+v", step.name, tcp, mtu)
		}
		if f.now.Config.CTTimeoutRegularAny != 45*time.Second || f.now.Config.PolicyAuditMode || f.now.Config.Debug {
			t.Errorf("%s: %+v", step.name, f.now.Config)
		}
		if (logged.Len() > 0) != (step.logged != "") || !strings.Contains(logged.String(), step.logged) {
			t.Errorf("%s: logged %q, want %q", step.name, logged.String(), step.logged)
		}
	}
	if started.Config.CTTimeoutRegularTCP != time.Hour || entryOf(started, "bpf-ct-timeout-regular-tcp").Value != "1h0m0s" {
		t.Error("following changed what the process began with")
	}
	if e := entryOf(f.now, "bpf-ct-timeout-regular-tcp"); e.Source != "default" {
		t.Errorf("%+v", e)
	}
}

// A directory that goes away is a bad configuration, not an empty one.
func TestFollowerWithoutDirectory(t *testing.T) {
	m := newConfigMap(t, map[string]string{"bpf-ct-timeout-regular-tcp": "1h"})
	started := mustLoad(t, Sources{Dir: m.dir})
	var logged bytes.Buffer
	f := &follower{
		started: started, now: started, log: slog.New(slog.NewTextHandler(&logged, nil)),
		onChange: func(_ *Loaded, live, needRestart []string) { t.Errorf("called with %q %q", live, needRestart) },
	}
	f.look()
	if err := os.RemoveAll(m.dir); err != nil {
		t.Fatal(err)
	}
	f.look()
	if !strings.Contains(logged.String(), "not applied") || f.now.Config.CTTimeoutRegularTCP != time.Hour {
		t.Errorf("%s %v", logged.String(), f.now.Config.CTTimeoutRegularTCP)
	}
}

func TestFollow(t *testing.T) {
	m := newConfigMap(t, map[string]string{"bpf-ct-timeout-regular-tcp": "1h"})
	started := mustLoad(t, Sources{Dir: m.dir})
	m.set(t, map[string]string{"bpf-ct-timeout-regular-tcp": "2h"}) // after the start, before Follow
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := make(chan time.Duration, 4) // the timeout of each call
		done := make(chan struct{})
		go func() {
			defer close(done)
			started.Follow(ctx, time.Minute, slog.New(slog.DiscardHandler), func(now *Loaded, _, _ []string) {
				calls <- now.Config.CTTimeoutRegularTCP
			})
		}()
		want := func(when string, want ...time.Duration) {
			t.Helper()
			synctest.Wait()
			var got []time.Duration
			for range len(calls) {
				got = append(got, <-calls)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		want("at the start", 2*time.Hour)
		m.set(t, map[string]string{"bpf-ct-timeout-regular-tcp": "3h"})
		time.Sleep(59 * time.Second)
		want("before the interval")
		time.Sleep(time.Second)
		want("after the interval", 3*time.Hour)
		time.Sleep(time.Hour)
		want("without a change")
		cancel()
		<-done
	})
	// Without a directory there is nothing to follow.
	mustLoad(t, Sources{}).Follow(t.Context(), time.Hour, slog.New(slog.DiscardHandler), func(*Loaded, []string, []string) {
		t.Error("called without a config directory")
	})
}

// What is in force is a mix of old and new settings, so no check may need a live
// key and one that is not to fit to each other.
func TestChecksDoNotMixLiveKeys(t *testing.T) {
	r := newResolver()
	for _, c := range checks() {
		for _, key := range c.keys {
			if r.keys[key].Live != r.keys[c.keys[0]].Live {
				t.Errorf("the check of %q mixes live keys with others", c.keys)
			}
		}
	}
	var live []string
	for _, k := range Keys() {
		if k.Live {
			live = append(live, k.Name)
			if !strings.HasSuffix(k.Doc, liveDoc) {
				t.Errorf("%s does not say that it is live: %s", k.Name, k.Doc)
			}
		}
	}
	if want := []string{
		"bpf-ct-embryonic-max", "bpf-ct-global-any-max", "bpf-ct-global-tcp-max",
		"bpf-ct-timeout-regular-any", "bpf-ct-timeout-regular-tcp", "bpf-ct-timeout-regular-tcp-fin", "bpf-ct-timeout-regular-tcp-syn",
		"bpf-ct-timeout-service-any", "bpf-ct-timeout-service-tcp",
		"bpf-lb-affinity-map-max", "bpf-lb-maglev-map-max", "bpf-lb-map-max", "bpf-lb-service-backend-map-max", "bpf-lb-service-map-max",
		"bpf-lb-source-range-map-max", "bpf-map-autosize", "bpf-map-dynamic-size-ratio", "bpf-map-memory-budget", "bpf-nat-global-max",
		"bpf-policy-map-max", "bpf-sock-rev-map-max",
		"conntrack-gc-interval", "conntrack-gc-max-interval", "policy-audit-mode",
	}; !slices.Equal(live, want) {
		t.Errorf("live keys are %q", live)
	}
}
