package whatif

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/verdict"
	"github.com/placid-net/placid/internal/state"
)

// Proposal is the smallest include list that keeps every verdict.
type Proposal struct {
	// Labels is the value of the key labels: an item for each of Keys, then what the
	// filter in force leaves out explicitly.
	Labels string        `json:"labels"`
	Keys   []ProposedKey `json:"keys"`
	// Smallest tells that no shorter list does it. Otherwise none of Keys can be left
	// out, and whether others would do was not tried to the end.
	Smallest bool `json:"smallest"`
	// Guarded is the list with those labels too that policies select on and no verdict
	// depends on now: with it, pods to come that have such a label are judged as they
	// would be today. GuardedIdentities is how many identities it makes.
	Guarded           string `json:"guarded"`
	GuardedIdentities int    `json:"guardedIdentities"`
}

// ProposedKey is a label that must be part of identities, and why.
type ProposedKey struct {
	Key  string `json:"key"`
	Item string `json:"item"`
	// Policies select on it, in Fields: "default/web spec.ingress[0].from[0].podSelector".
	Policies []string `json:"policies"`
	Fields   []string `json:"fields"`
}

// noLabels is an item that keeps what every filter keeps: it makes of a list of
// nothing a list that leaves out the rest.
const noLabels = `k8s:io\.kubernetes\.pod\.namespace`

// itemOf gives the item that keeps just one label.
func itemOf(key string) string {
	return identity.SourceKubernetes + ":" + regexp.QuoteMeta(key) + "$"
}

// includeList gives the items that keep just these keys, besides what every filter
// keeps, and leave out what the others do.
func includeList(keys, excludes []string) []string {
	var items []string
	for _, key := range keys {
		items = append(items, itemOf(key))
	}
	if len(items) == 0 {
		items = []string{noLabels}
	}
	return append(items, excludes...)
}

// excluding gives those of a filter's items that leave labels out.
func excluding(items []string) []string {
	return slices.DeleteFunc(slices.Clone(items), func(item string) bool {
		_, text, ok := strings.Cut(item, ":")
		if !ok {
			text = item
		}
		return !strings.HasPrefix(text, "!")
	})
}

// candidates are the keys of pods' labels that policies select on and that an
// include list keeps only if it names them; with now, those that it keeps.
func candidates(uses map[string]map[string]struct{}, excludes []string, now *identity.Filter) ([]string, error) {
	base, err := identity.ParseFilter(includeList(nil, excludes))
	if err != nil {
		return nil, err //nolint:wrapcheck // names the item
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		source, key, _ := strings.Cut(name, ":")
		if source != identity.SourceKubernetes || base.Keep(source, key) || now != nil && !now.Keep(source, key) {
			continue
		}
		only, err := identity.ParseFilter(includeList([]string{key}, excludes))
		if err != nil {
			return nil, err //nolint:wrapcheck // names the item
		}
		if only.Keep(source, key) { // no list can keep some that the built-in patterns leave out
			out = append(out, key)
		}
	}
	return out, nil
}

// propose looks for the smallest include list under which side judges as it does.
func propose(ctx context.Context, cluster verdict.Cluster, side verdict.Side, items []string, raw []state.NetworkPolicy, o Options) (Proposal, error) {
	excludes := excluding(items)
	keys, err := candidates(selectedBy(raw, side.ByIdentity), excludes, &side.Filter)
	if err != nil {
		return Proposal{}, err
	}
	tries, baseline := 0, verdict.NewBaseline(cluster, side)
	s := search{keys: keys, monotone: !side.ByIdentity, tries: max(minTries, triesWork/max(baseline.Groups(), 1)), same: func(kept []string) (bool, error) {
		o.progress("try filters", tries, 0)
		tries++
		then := side
		if then.Filter, err = identity.ParseFilter(includeList(kept, excludes)); err != nil {
			return false, err //nolint:wrapcheck // names the item
		}
		return baseline.Same(ctx, then) //nolint:wrapcheck // says what was done
	}}
	found, smallest, err := s.run()
	if err != nil {
		return Proposal{}, fmt.Errorf("try filters: %w", err)
	}
	out := Proposal{
		Labels: strings.Join(includeList(found, excludes), " "), Smallest: smallest, Keys: []ProposedKey{},
		Guarded: strings.Join(includeList(keys, excludes), " "),
	}
	for _, key := range found {
		x := ProposedKey{Key: key, Item: itemOf(key)}
		others := slices.DeleteFunc(slices.Clone(found), func(k string) bool { return k == key })
		without, err := identity.ParseFilter(includeList(others, excludes))
		if err != nil {
			return Proposal{}, err //nolint:wrapcheck // names the item
		}
		for _, f := range broken(without, raw, side.ByIdentity) {
			if f.Key != key || f.Namespace {
				continue
			}
			x.Policies = append(x.Policies, f.Policy)
			for _, field := range f.Fields {
				x.Fields = append(x.Fields, f.Policy+" "+field)
			}
		}
		x.Policies = slices.Compact(x.Policies)
		out.Keys = append(out.Keys, x)
	}
	return out, nil
}

// Bounds for how many lists a search judges one by one: what a judgement costs
// grows with the groups of pods.
const (
	minTries  = 64
	triesWork = 50_000 // tries times groups: some seconds
)

// search looks for the smallest list of keys with which everything stays the same.
type search struct {
	keys []string
	// monotone says that a list with more keys never allows less: then what is needed
	// beside all others is needed in every list.
	monotone bool
	tries    int
	same     func(kept []string) (bool, error)
}

// run gives the list, and whether none is smaller.
func (s search) run() (found []string, smallest bool, err error) {
	needed, err := s.needed()
	if err != nil {
		return nil, false, err
	}
	enough, err := s.same(needed)
	switch {
	case err != nil:
		return nil, false, err
	case enough && s.monotone:
		return needed, true, nil
	case enough:
		found = needed
	default:
		found = s.keys
	}
	if found, err = s.leaveOut(found); err != nil {
		return nil, false, err
	}
	// What is found is the smallest if no list that is shorter does it.
	var fixed []string
	if s.monotone {
		fixed = needed
	}
	others := slices.DeleteFunc(slices.Clone(s.keys), func(k string) bool { return slices.Contains(fixed, k) })
	sizes := len(found) - len(fixed)
	if !within(len(others), sizes, s.tries) {
		return found, false, nil
	}
	shorter, ok, err := s.bySize(fixed, others, sizes)
	if ok {
		found = shorter
	}
	return found, err == nil, err
}

// needed are the keys without which not all stays the same, though all others are
// kept.
func (s search) needed() ([]string, error) {
	var needed []string
	for i, key := range s.keys {
		ok, err := s.same(slices.Concat(s.keys[:i], s.keys[i+1:]))
		if err != nil {
			return nil, err
		}
		if !ok {
			needed = append(needed, key)
		}
	}
	return needed, nil
}

// within tells whether there are at most so many subsets of n things with fewer
// than size.
func within(n, size, most int) bool {
	count, of := 0, 1
	for k := range size {
		if count += of; count > most {
			return false
		}
		of = of * (n - k) / (k + 1)
	}
	return true
}

// bySize tries the fixed keys with ever more of the others, but with fewer than
// size.
func (s search) bySize(fixed, others []string, size int) (found []string, ok bool, err error) {
	for n := range size {
		for _, some := range subsets(others, n) {
			kept := slices.Concat(fixed, some)
			slices.Sort(kept)
			if ok, err = s.same(kept); err != nil || ok {
				return kept, ok, err
			}
		}
	}
	return nil, false, nil
}

// subsets gives all of a size, in the order of the list.
func subsets(list []string, size int) [][]string {
	if size == 0 {
		return [][]string{nil}
	}
	var out [][]string
	for i := 0; i+size <= len(list); i++ {
		for _, rest := range subsets(list[i+1:], size-1) {
			out = append(out, append([]string{list[i]}, rest...))
		}
	}
	return out
}

// leaveOut leaves out one key after the other as long as everything stays the same,
// until nothing can be left out any more.
func (s search) leaveOut(kept []string) ([]string, error) {
	for i := 0; i < len(kept); {
		fewer := slices.Concat(kept[:i], kept[i+1:])
		ok, err := s.same(fewer)
		switch {
		case err != nil:
			return nil, err
		case !ok:
			i++
		case s.monotone: // what could not be left out before cannot be now
			kept = fewer
		default:
			kept, i = fewer, 0
		}
	}
	return kept, nil
}
