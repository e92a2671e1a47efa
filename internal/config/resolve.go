package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// resolver applies settings one by one, a later one overriding an earlier one,
// and gathers everything that is wrong with them.
type resolver struct {
	keys    map[string]Key
	foreign map[string]ForeignKey
	cfg     Config
	// from holds the effective setting of every key that a source set.
	from map[string]setting
	// bad holds the keys of which any source gave a wrong value.
	bad      map[string]bool
	problems []error
	warnings map[string]string // by key: a later source replaces the warning
}

// newResolver gives a resolver that holds the defaults.
func newResolver() *resolver {
	r := &resolver{
		keys: map[string]Key{}, foreign: map[string]ForeignKey{},
		from: map[string]setting{}, bad: map[string]bool{}, warnings: map[string]string{},
	}
	for _, k := range ForeignKeys() {
		r.foreign[k.Name] = k
	}
	for _, k := range Keys() {
		r.keys[k.Name] = k
		r.store(k, setting{key: k.Name, value: k.Default, source: "default", where: "default"})
	}
	return r
}

// apply checks one setting and makes it effective.
func (r *resolver) apply(s setting) {
	if k, ok := r.keys[s.key]; ok {
		if r.store(k, s) {
			r.from[s.key] = s
		}
		return
	}
	if f, ok := r.foreign[s.key]; ok {
		if err := f.check(s.value); err != nil {
			r.problems = append(r.problems, fmt.Errorf("%s: %w", s, err))
			return
		}
		r.warnings[s.key] = fmt.Sprintf("%s: accepted but not used: %s", s, f.Instead)
		return
	}
	text := fmt.Sprintf("%s: unknown key; %s", s, r.meant(s.key))
	if s.tolerant {
		r.warnings[s.key] = text
		return
	}
	r.problems = append(r.problems, errors.New(text))
}

// store parses the value into the configuration; it tells whether it could.
func (r *resolver) store(k Key, s setting) bool {
	v, err := k.parse(s.value)
	if err != nil {
		r.bad[s.key] = true
		r.problems = append(r.problems, fmt.Errorf("%s: %w; allowed: %s", s, err, k.Allowed()))
		return false
	}
	reflect.ValueOf(&r.cfg).Elem().Field(k.field).Set(reflect.ValueOf(v))
	return true
}

// meant gives the end of a message about an unknown key or variable.
func (r *resolver) meant(name string) string {
	if name == dirKey {
		return "only a flag or the environment can name the directory"
	}
	for _, prefix := range []string{envPrefix, envForeignPrefix} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			if s := suggest(rest, allNames()); s != "" {
				return didYouMean(envName(prefix, s))
			}
			return didYouMean("")
		}
	}
	return didYouMean(suggest(name, allNames()))
}

// finish judges the effective values together and adds the warnings about keys
// that do nothing yet.
func (r *resolver) finish() {
	set := func(key string) bool { _, ok := r.from[key]; return ok }
	for _, c := range checks() {
		if slices.ContainsFunc(c.keys, func(key string) bool { return r.bad[key] }) {
			continue
		}
		why := c.conflict(r.cfg, set)
		if why == "" {
			continue
		}
		parts := make([]string, len(c.keys))
		for i, key := range c.keys {
			parts[i] = r.effective(key).String()
		}
		r.problems = append(r.problems, fmt.Errorf("%s: %s", strings.Join(parts, ", "), why))
	}
	if why := socketsAnyway(r.cfg, set); why != "" {
		r.warnings["bpf-lb-sock"] = fmt.Sprintf("%s: %s", r.effective("bpf-lb-sock"), why)
	}
	for key, s := range r.from {
		if later := r.keys[key].Later; later != "" {
			r.warnings[key] = fmt.Sprintf("%s: accepted but has no effect in this version: needs %s", s, later)
		}
	}
}

// effective gives the setting that is in force, its value in canonical form.
func (r *resolver) effective(key string) setting {
	s, ok := r.from[key]
	if !ok {
		s = setting{key: key, source: "default", where: "default"}
	}
	s.value = formatValue(reflect.ValueOf(r.cfg).Field(r.keys[key].field).Interface())
	return s
}

// err gives all problems, sorted, as one error; nil if there are none.
func (r *resolver) err() error {
	slices.SortStableFunc(r.problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(r.problems...)
}

// warningList gives the warnings, sorted.
func (r *resolver) warningList() []string { return slices.Sorted(maps.Values(r.warnings)) }
