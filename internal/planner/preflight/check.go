package preflight

import (
	"slices"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// Options say what to check for.
type Options struct {
	// For is the network that is meant; empty takes the Snapshot's, else Placid.
	For snapshot.Platform
	// Target is the version to come; the zero Version is none.
	Target Version
	// Progress is told what is being checked. Nil is nobody.
	Progress func(what string, done, total int)
}

// Check finds what is wrong in a cluster, ordered by object, severity, code and
// field. It does not change the Snapshot.
func Check(in *snapshot.Snapshot, o Options) []Finding {
	if o.For == "" {
		o.For = snapshot.Placid
		if in.Platform != "" {
			o.For = in.Platform
		}
	}
	s := newScene(in, o)
	steps := []struct {
		what string
		run  func()
	}{
		{"input", s.checkInput},
		{"settings", s.checkSettings},
		{"compile policies", s.compile},
		{"contents of policies", s.checkContents},
		{"selectors", s.checkSelectors},
		{"rules", s.checkRules},
		{"addresses", s.checkBlocks},
		{"ports", s.checkPorts},
		{"policies that only deny", s.checkOnlyDenies},
		{"DNS", s.checkDNS},
		{"rules that deny", s.checkDenied},
		{"rules that are there twice", s.checkTwice},
		{"policies without effect", s.checkEffect},
		{"room in tables", s.checkRoom},
		{"version to come", s.checkTarget},
	}
	for i, step := range steps {
		if o.Progress != nil {
			o.Progress("check "+step.what, i, len(steps))
		}
		step.run()
	}
	slices.SortFunc(s.findings, Finding.compare)
	return slices.Compact(s.findings)
}
