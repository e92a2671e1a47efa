package security

import (
	"errors"
	"fmt"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// Status counts what the Enforcer knows and what is in force.
type Status struct {
	Mode       policy.Mode
	Audit      bool
	Policies   int
	Identities int
	Sets       int // in use
	Members    int // endpoints of the node
	// Enforcement counts the endpoints by what isolates them, with Cilium's words:
	// none, ingress, egress, both, and with audit- before it where drops are only
	// counted. Every word is there.
	Enforcement map[string]int
	Init        int // endpoints of pods without an identity
	Staged      string
	Problems    []Problem
}

// enforcements are the words of Status.Enforcement.
func enforcements() []string {
	return []string{"none", "ingress", "egress", "both", "audit-ingress", "audit-egress", "audit-both"}
}

// enforcement is the word for a policy. A pod that is under a set in force in one
// direction and audited in the other counts as enforced.
func enforcement(p policy.EndpointPolicy) string {
	in, out := p.Ingress != policy.SetOpen, p.Egress != policy.SetOpen
	word := "none"
	switch {
	case in && out:
		word = "both"
	case in:
		word = "ingress"
	case out:
		word = "egress"
	default:
		return word
	}
	if in == p.AuditIngress && out == p.AuditEgress {
		return "audit-" + word
	}
	return word
}

// Isolated is how many endpoints a policy isolates.
func (s Status) Isolated() int { return s.Members - s.Enforcement["none"] }

// Status tells how things are.
func (e *Enforcer) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{
		Mode: e.cfg.Mode, Audit: e.audit, Policies: len(e.policies), Identities: e.identities.Len(), Members: len(e.members),
		Problems: append([]Problem(nil), e.problems.now...), Enforcement: map[string]int{},
	}
	for _, word := range enforcements() {
		s.Enforcement[word] = 0
	}
	if e.stage.active() {
		s.Staged = e.stage.why
		if s.Staged == "" {
			s.Staged = "all nodes know each other's pods; it begins now"
		}
	}
	sets := map[policy.SetID]bool{}
	for id, m := range e.members {
		if m.named() && m.identity == state.IdentityInit {
			s.Init++
		}
		p, _ := e.engine.Subject(id)
		s.Enforcement[enforcement(p)]++
		sets[p.Ingress], sets[p.Egress] = true, true
	}
	delete(sets, policy.SetOpen)
	delete(sets, policy.SetClosed)
	s.Sets = len(sets)
	return s
}

// errUnknown says that the tables were never complete since the agent started.
var errUnknown = errors.New("policies, namespaces, pods and identities are not known yet")

// Ready tells why pods cannot rely on their policies, or nil.
func (e *Enforcer) Ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.begun {
		return errUnknown
	}
	if e.retry.err != nil {
		return fmt.Errorf("policies are not in the kernel: %w", e.retry.err)
	}
	return nil
}

// SetAuditAll changes Config.AuditAll.
func (e *Enforcer) SetAuditAll(audit bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.audit = audit
	e.engine.SetAuditAll(audit)
	e.notify()
}
