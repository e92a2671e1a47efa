package preflight

import (
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// isPolicy tells whether objects of the kind say what is allowed.
func isPolicy(kind string) bool {
	return slices.Contains([]string{
		state.PolicyKubernetes.String(), string(state.PolicyCilium), string(state.PolicyCiliumClusterwide), "CiliumCIDRGroup",
	}, kind)
}

// checkInput tells what could not be read, or not as it was meant, and what was not
// given.
func (s *scene) checkInput() {
	for _, p := range s.in.Problems {
		code, severity := problemCode(p)
		message := p.Message
		if code == Unreadable {
			message += "; it is left out of all that is said here"
		}
		s.add(Finding{Code: code, Severity: severity, Object: Object(p.Object), Origin: p.Origin, Field: p.Field, Message: message})
	}
	if len(s.in.Policies) == 0 {
		return
	}
	if !s.hasPods {
		s.add(Finding{Code: NotGiven, Message: "there are no pods in the input, so it is not checked whom policies select; give those too, with -f or from a live cluster"})
	}
	if s.hasPods && !s.hasNamespaces {
		s.add(Finding{Code: NotGiven, Message: "there are no namespaces in the input, so their labels are not known and selectors of namespaces may seem to select nothing; give those too"})
	}
}

// problemCode gives the kind of finding that a problem of the input is.
func problemCode(p snapshot.Problem) (string, Severity) {
	switch {
	case p.Severity == snapshot.Fatal:
		return Unreadable, ""
	case strings.HasPrefix(p.Message, "no such field is known"):
		if isPolicy(p.Object.Kind) {
			return UnknownField, Error
		}
		return UnknownField, Warning
	case strings.Contains(p.Message, "neither Placid nor Cilium enforces it"):
		return ForeignPolicy, ""
	case strings.Contains(p.Message, "of the kind") && strings.Contains(p.Message, "not read"):
		return UnknownKind, ""
	}
	return Doubtful, ""
}
