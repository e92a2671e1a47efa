package policy

import (
	"iter"
	"maps"

	"github.com/placid-net/placid/internal/state"
)

// group is a set of things.
type group[T comparable] map[T]struct{}

// labelled is what can be selected.
type labelled interface {
	comparable
	labelSet() map[string]string
}

// label is a key with a value; with any set, a key with whatever value.
type label struct {
	key, value string
	any        bool
}

// population finds labelled things by selectors. The labels of a thing must not
// change while it is in.
type population[T labelled] struct {
	all     group[T]
	byLabel map[label]group[T]
}

func newPopulation[T labelled]() population[T] {
	return population[T]{all: group[T]{}, byLabel: map[label]group[T]{}}
}

func (p *population[T]) add(x T) {
	p.all[x] = struct{}{}
	for key, value := range x.labelSet() {
		insert(p.byLabel, label{key: key, value: value}, x)
		insert(p.byLabel, label{key: key, any: true}, x)
	}
}

func (p *population[T]) remove(x T) {
	delete(p.all, x)
	for key, value := range x.labelSet() {
		discard(p.byLabel, label{key: key, value: value}, x)
		discard(p.byLabel, label{key: key, any: true}, x)
	}
}

// find yields what c selects, in no order. It looks at those alone that meet the
// most selective of c's requirements.
func (p *population[T]) find(c conjunction) iter.Seq[T] {
	return func(yield func(T) bool) {
		best, bestSize := []group[T]{p.all}, len(p.all)
		for _, r := range c {
			groups, size, ok := p.candidates(r)
			if ok && size < bestSize {
				best, bestSize = groups, size
			}
		}
		for _, g := range best {
			for x := range g {
				if c.matches(x.labelSet()) && !yield(x) {
					return
				}
			}
		}
	}
}

// candidates gives disjoint groups that hold all that r matches; false when r
// matches what lacks its key.
func (p *population[T]) candidates(r requirement) (groups []group[T], size int, ok bool) {
	for l := range r.labels() {
		g := p.byLabel[l]
		groups = append(groups, g)
		size += len(g)
		ok = true
	}
	return groups, size, ok
}

// labels yields labels of which a thing must have one for r to hold; none when
// there is no such list.
func (r requirement) labels() iter.Seq[label] {
	return func(yield func(label) bool) {
		switch r.op {
		case state.OperatorIn:
			for _, v := range r.values {
				if !yield(label{key: r.key, value: v}) {
					return
				}
			}
		case state.OperatorExists:
			yield(label{key: r.key, any: true})
		case state.OperatorNotIn, state.OperatorDoesNotExist:
		}
	}
}

// anchor is where a catalogue files a selector: under a label that all it
// selects have, together with the namespace when it has just one. The zero
// anchor holds those that require no label.
type anchor struct {
	namespace string
	label     label
}

// catalogue finds the selectors that select given labels.
type catalogue[T comparable] struct {
	namespaceKey string // the label key that is the namespace
	filed        map[anchor]group[T]
	anchors      map[T][]anchor
	selectors    map[T]conjunction
}

func newCatalogue[T comparable](namespaceKey string) catalogue[T] {
	return catalogue[T]{namespaceKey, map[anchor]group[T]{}, map[T][]anchor{}, map[T]conjunction{}}
}

func (c *catalogue[T]) add(x T, s conjunction) {
	c.selectors[x] = s
	c.anchors[x] = c.choose(s)
	for _, a := range c.anchors[x] {
		insert(c.filed, a, x)
	}
}

func (c *catalogue[T]) remove(x T) {
	for _, a := range c.anchors[x] {
		discard(c.filed, a, x)
	}
	delete(c.anchors, x)
	delete(c.selectors, x)
}

// choose gives the anchors of a selector: those where the fewest others are.
func (c *catalogue[T]) choose(s conjunction) []anchor {
	namespace, _ := s.single(c.namespaceKey)
	var best []anchor
	bestSize := 0
	for _, r := range s {
		var anchors []anchor
		size := 0
		for l := range r.labels() {
			a := anchor{namespace, l}
			if r.key == c.namespaceKey {
				a.namespace = ""
			}
			anchors = append(anchors, a)
			size += len(c.filed[a])
		}
		if anchors != nil && (best == nil || size < bestSize) {
			best, bestSize = anchors, size
		}
	}
	if best == nil {
		return []anchor{{}}
	}
	return best
}

// selecting gives the selectors that select these labels.
func (c *catalogue[T]) selecting(labels map[string]string) group[T] {
	found := group[T]{}
	try := func(a anchor) {
		for x := range c.filed[a] {
			if c.selectors[x].matches(labels) {
				found[x] = struct{}{}
			}
		}
	}
	try(anchor{})
	namespace := labels[c.namespaceKey]
	for key, value := range labels {
		exact, present := label{key: key, value: value}, label{key: key, any: true}
		try(anchor{label: exact})
		try(anchor{label: present})
		if namespace != "" {
			try(anchor{namespace, exact})
			try(anchor{namespace, present})
		}
	}
	return found
}

func insert[K, T comparable](m map[K]group[T], key K, x T) {
	if m[key] == nil {
		m[key] = group[T]{}
	}
	m[key][x] = struct{}{}
}

func discard[K, T comparable](m map[K]group[T], key K, x T) {
	delete(m[key], x)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

// union gives the members of both, in a new group.
func union[T comparable](a, b group[T]) group[T] {
	out := make(group[T], len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}
