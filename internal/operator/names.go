package operator

import (
	"slices"
	"sync"
)

// nameSet is a set of node names in the order of their arrival, safe for
// concurrent use.
type nameSet struct {
	mu    sync.Mutex
	in    map[string]bool
	order []string // names that are not in the set any more are skipped
}

func newNameSet() *nameSet { return &nameSet{in: map[string]bool{}} }

func (s *nameSet) add(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		if !s.in[n] {
			s.in[n] = true
			s.order = append(s.order, n)
		}
	}
	if len(s.order) > 2*len(s.in)+64 {
		seen := map[string]bool{}
		s.order = slices.DeleteFunc(s.order, func(n string) bool {
			drop := !s.in[n] || seen[n]
			seen[n] = true
			return drop
		})
	}
}

func (s *nameSet) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.in, name)
}

// take removes and returns up to n names, the first that came first.
func (s *nameSet) take(n int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for len(s.order) > 0 && len(out) < n {
		name := s.order[0]
		s.order = s.order[1:]
		if s.in[name] {
			delete(s.in, name)
			out = append(out, name)
		}
	}
	return out
}
