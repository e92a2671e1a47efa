package config

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"
)

// Reload reads the sources that l was loaded from again: the config directory as
// it is now, and the environment and the flags that Load got. The error is Load's.
func (l *Loaded) Reload() (*Loaded, error) { return Load(l.sources) }

// Changes returns the keys whose effective values differ, sorted: those that are
// live, and those that need a restart. Keys that have no effect in this version
// are left out.
func Changes(before, after *Loaded) (live, needRestart []string) {
	a, b := reflect.ValueOf(before.Config), reflect.ValueOf(after.Config)
	for _, k := range Keys() {
		switch {
		case k.Later != "" || formatValue(a.Field(k.field).Interface()) == formatValue(b.Field(k.field).Interface()):
		case k.Live:
			live = append(live, k.Name)
		default:
			needRestart = append(needRestart, k.Name)
		}
	}
	return live, needRestart
}

// Follow looks at the config directory at once and then at every interval (above
// 0), until ctx ends. When its content changed and is a good configuration, it
// calls onChange with what is in force from now on, which is l with the new values
// of the live keys, with the live keys that changed, and with those of the others
// that differ from l: they need a restart. It does not call it for changes that
// change neither list.
//
// A bad configuration is logged once, with all its problems, and changes nothing.
// Without a config directory Follow returns at once.
func (l *Loaded) Follow(ctx context.Context, interval time.Duration, log *slog.Logger, onChange func(now *Loaded, live, needRestart []string)) {
	if l.dir == "" {
		return
	}
	f := &follower{started: l, now: l, log: log, onChange: onChange}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		f.look()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// follower is the state of Follow.
type follower struct {
	started  *Loaded // what the process began with
	now      *Loaded // what is in force
	log      *slog.Logger
	onChange func(now *Loaded, live, needRestart []string)

	judged   [sha256.Size]byte // the content that was looked at last
	bad      bool              // it was no good configuration
	restarts []string          // what onChange was told to need a restart
}

// look judges the content of the config directory if it is new.
func (f *follower) look() {
	dir := f.started.dir
	content := dirDigest(dir)
	if content == f.judged {
		return
	}
	loaded, err := f.started.Reload()
	if dirDigest(dir) != content {
		return // it changes right now: what was loaded may be half old, half new
	}
	f.judged = content
	if err != nil {
		f.bad = true
		f.log.Error("the changed configuration is not applied", "configDir", dir, "error", err)
		return
	}
	if f.bad {
		f.bad = false
		f.log.Info("the configuration is good again", "configDir", dir)
	}
	for _, w := range loaded.Warnings {
		if !slices.Contains(f.now.Warnings, w) {
			f.log.Warn("configuration", "warning", w)
		}
	}
	live, _ := Changes(f.now, loaded)
	_, restarts := Changes(f.started, loaded)
	f.now = f.started.withLive(loaded)
	if len(live) == 0 && slices.Equal(restarts, f.restarts) {
		return
	}
	f.restarts = restarts
	f.onChange(f.now, live, restarts)
}

// withLive returns l with the live keys and the warnings of from.
func (l *Loaded) withLive(from *Loaded) *Loaded {
	out := &Loaded{Config: l.Config, Warnings: from.Warnings, entries: slices.Clone(l.entries), sources: l.sources, dir: l.dir}
	for i, k := range Keys() { // entries have the same order
		if k.Live {
			reflect.ValueOf(&out.Config).Elem().Field(k.field).Set(reflect.ValueOf(from.Config).Field(k.field))
			out.entries[i] = from.entries[i]
		}
	}
	return out
}

// dirDigest tells one content of a config directory from another, also one that
// cannot be read.
func dirDigest(dir string) [sha256.Size]byte {
	settings, problems := readDir(dir, dirKey)
	h := sha256.New()
	for _, s := range settings {
		_, _ = fmt.Fprintf(h, "%q=%q\n", s.key, s.value) // a hash takes everything
	}
	for _, p := range problems {
		_, _ = fmt.Fprintf(h, "%q\n", p.Error())
	}
	return [sha256.Size]byte(h.Sum(nil))
}
