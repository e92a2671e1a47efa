package cli

import (
	"fmt"

	"github.com/placid-net/placid/internal/agentapi"
)

func (v *statusView) policy() {
	p := v.Policy
	if p == nil {
		return // an agent of a release without policies
	}
	mode := dash(p.Mode)
	if p.Audit {
		mode += " (audit)"
	}
	v.line("Policy", "%s   %s, %s, %s, %s isolated", mode, counted(p.Policies, "policy", "policies"),
		plural(p.Selectors, "selector"), counted(p.Identities, "identity", "identities"), plural(p.Isolated, "pod"))
	if p.Staged != "" {
		v.detail("not enforced yet: " + p.Staged)
	}
	for _, problem := range p.Problems {
		v.detail(problem)
	}
}

func (v *statusView) conntrack() {
	c := v.Conntrack
	if c == nil {
		return
	}
	v.line("Conntrack", "TCP: %s, other: %s, new: %s", tableFill(c.TCP), tableFill(c.Any), tableFill(c.New))
	switch {
	case c.Problem != "":
		v.detail(c.Problem)
	case c.LastCollection == nil:
		v.detail("not collected yet")
	default:
		v.detail(fmt.Sprintf("collected %s ago, every %s: %s", v.app.age(c.CollectedAt), spent(c.Interval), collection(*c.LastCollection)))
	}
}

func tableFill(t agentapi.CTTable) string {
	text := fmt.Sprintf("%d/%d", t.Entries, t.Size)
	if t.Size > 0 && t.Entries >= t.Size {
		text += " (full)"
	}
	return text
}

// counted is plural for a noun whose plural is not made with an s.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
