package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/placid-net/placid/internal/config"
)

// TestLive follows a config directory: live keys are applied, the others are
// warned about for as long as they differ, a bad value changes nothing.
func TestLive(t *testing.T) {
	dir := t.TempDir()
	set := func(key, value string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600))
	}
	set("routing-mode", "native")
	loaded, err := config.Load(config.Sources{Dir: dir})
	must(t, err)
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var all []config.Config // that were applied
		var broken error
		l := &live{loaded: loaded, log: slog.New(slog.DiscardHandler), apply: func(cfg config.Config) error {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, cfg)
			return broken
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.run(ctx) }()
		defer func() {
			cancel()
			must(t, <-done)
		}()
		look := func() []config.Config {
			time.Sleep(followInterval)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
		breaks := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			broken = err
		}
		applied := look()
		if len(applied) != 0 || len(l.warnings()) != 0 {
			t.Fatalf("without a change: %d applied, %q", len(applied), l.warnings())
		}
		set("policy-audit-mode", "true")
		set("bpf-ct-timeout-regular-tcp", "1h")
		applied = look()
		if len(applied) != 1 || !applied[0].PolicyAuditMode || timeouts(applied[0]).TCP != time.Hour || len(l.warnings()) != 0 {
			t.Fatalf("applied %d, warnings %q", len(applied), l.warnings())
		}
		set("routing-mode", "tunnel")
		applied = look()
		if w := l.warnings(); len(applied) != 1 || len(w) != 1 || !strings.Contains(w[0], "routing-mode") || l.current().Config.RoutingMode != "native" {
			t.Errorf("applied %d, warnings %q, mode %s", len(applied), w, l.current().Config.RoutingMode)
		}
		set("bpf-ct-timeout-regular-tcp", "soon")
		applied = look()
		if len(applied) != 1 || l.current().Config.CTTimeoutRegularTCP != time.Hour {
			t.Error("a bad value was applied")
		}
		breaks(errFake)
		set("bpf-ct-timeout-regular-tcp", "2h")
		set("routing-mode", "native")
		applied = look()
		if w := l.warnings(); len(applied) != 2 || len(w) != 1 || !strings.Contains(w[0], errFake.Error()) {
			t.Errorf("applied %d, warnings %q", len(applied), w)
		}
		breaks(nil)
		applied = look()
		if len(applied) != 3 || len(l.warnings()) != 0 || timeouts(applied[2]).TCP != 2*time.Hour {
			t.Errorf("applied %d, warnings %q", len(applied), l.warnings())
		}
	})
}
