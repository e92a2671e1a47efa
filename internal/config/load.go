package config

import (
	"slices"

	"github.com/spf13/pflag"

	"github.com/placid-net/placid/internal/agentapi"
)

// Sources says where Load takes values from, besides the defaults.
type Sources struct {
	// Dir is the config directory unless the flag --config-dir or PLACID_CONFIG_DIR
	// names another; empty reads none. A directory that is named must exist.
	Dir string
	// Env is the environment, "NAME=value" each, as os.Environ gives it.
	Env []string
	// Flags are parsed flags that BindFlags registered; nil reads none.
	Flags *pflag.FlagSet
}

// Loaded is a configuration that was checked as a whole.
type Loaded struct {
	// Config holds the effective values.
	Config Config
	// Warnings are sentences about keys that were set and do nothing, sorted.
	Warnings []string

	entries []agentapi.ConfigEntry
	sources Sources
	dir     string // the config directory, empty if there is none
}

// Entries returns the effective value of every key in canonical form with the
// source that set it, sorted by key.
func (l *Loaded) Entries() []agentapi.ConfigEntry { return slices.Clone(l.entries) }

// Load merges the sources and checks the result. The error holds every problem of
// every source, one a line, sorted; each line names the key, the value, where it
// was set and what is allowed.
func Load(src Sources) (*Loaded, error) {
	r := newResolver()
	names := allNames()
	foreignEnv := readEnv(src.Env, envForeignPrefix, names)
	env := readEnv(src.Env, envPrefix, names)
	flags := readFlags(src.Flags)

	dir := setting{key: dirKey, value: src.Dir, where: "default"}
	all := slices.Concat(foreignEnv, env, flags)
	for _, s := range all {
		if s.key == dirKey {
			dir = s
		}
	}
	var files []setting
	if dir.value != "" {
		var problems []error
		files, problems = readDir(dir.value, dir.where)
		r.problems = append(r.problems, problems...)
	}
	for _, s := range files {
		r.apply(s)
	}
	for _, s := range all {
		if s.key != dirKey {
			r.apply(s)
		}
	}
	r.finish()
	if err := r.err(); err != nil {
		return nil, err
	}
	l := &Loaded{Config: r.cfg, Warnings: r.warningList(), sources: src, dir: dir.value}
	for _, k := range Keys() {
		s := r.effective(k.Name)
		l.entries = append(l.entries, agentapi.ConfigEntry{Key: k.Name, Value: s.value, Source: s.source, Doc: k.Doc})
	}
	return l, nil
}
