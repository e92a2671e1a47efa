package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/placid-net/placid/internal/config"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/conntrack"
)

// followInterval is how often the configuration is looked at. The kubelet takes
// about a minute to bring a changed ConfigMap.
const followInterval = 5 * time.Second

// live follows the configuration while the agent runs.
type live struct {
	apply func(cfg config.Config) error
	log   *slog.Logger

	mu       sync.Mutex
	loaded   *config.Loaded // in force
	restarts []string       // keys that changed and need a restart
	failed   error          // why the live keys are not in force
}

// run applies changes of live keys until ctx ends.
func (l *live) run(ctx context.Context) error {
	l.current().Follow(ctx, followInterval, l.log, func(now *config.Loaded, keys, needRestart []string) {
		l.changed(now, needRestart)
		if len(keys) > 0 {
			l.applyAll(ctx, now.Config, keys)
		}
	})
	return nil
}

// changed takes the configuration that is in force from now on.
func (l *live) changed(now *config.Loaded, needRestart []string) {
	l.mu.Lock()
	l.loaded, l.restarts = now, slices.Clone(needRestart)
	l.mu.Unlock()
	for _, key := range needRestart {
		l.log.Warn("a changed key needs a restart", "key", key)
	}
}

// applyAll puts the live keys in force, and tries until that works.
func (l *live) applyAll(ctx context.Context, cfg config.Config, keys []string) {
	for {
		err := l.apply(cfg)
		l.mu.Lock()
		l.failed = err
		l.mu.Unlock()
		if err == nil {
			l.log.Info("changed configuration is in force", "keys", keys)
			return
		}
		l.log.Error("apply changed configuration", "keys", keys, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(followInterval):
		}
	}
}

func (l *live) current() *config.Loaded {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loaded
}

// warnings are sentences about the configuration.
func (l *live) warnings() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Clone(l.loaded.Warnings)
	if l.failed != nil {
		out = append(out, fmt.Sprintf("changed configuration is not in force yet: %v", l.failed))
	}
	for _, key := range l.restarts {
		out = append(out, fmt.Sprintf("key %s has changed in the config directory; restart placid-agent on this node to use it", key))
	}
	return out
}

// timeouts are those of conntrack.
func timeouts(cfg config.Config) datapath.Timeouts {
	return datapath.Timeouts{
		TCP: cfg.CTTimeoutRegularTCP, TCPSyn: cfg.CTTimeoutRegularSyn, TCPFin: cfg.CTTimeoutRegularFin, Any: cfg.CTTimeoutRegularAny,
		ServiceTCP: cfg.CTTimeoutServiceTCP, ServiceAny: cfg.CTTimeoutServiceAny,
	}
}

// schedule is that of the collection of dead flows.
func schedule(cfg config.Config) conntrack.Schedule {
	return conntrack.Schedule{Fixed: cfg.ConntrackGCInterval, Max: cfg.ConntrackGCMaxInterval}
}

// applyLive puts the live keys in force.
func (a *Agent) applyLive(cfg config.Config) error {
	a.security.SetAuditAll(cfg.PolicyAuditMode)
	a.datapath.Conntrack().SetSchedule(schedule(cfg))
	return errors.Join(a.datapath.SetTimeouts(timeouts(cfg)), a.applySizes(cfg))
}
