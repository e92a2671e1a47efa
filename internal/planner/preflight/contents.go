package preflight

import (
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// checkContents tells what of policies and of groups of CIDRs is not valid, not
// enforced, or leads nowhere.
func (s *scene) checkContents() {
	for _, p := range s.policies {
		for _, sentence := range p.Problems {
			field, text := splitSentence(sentence)
			s.found(p, NotValid, field, "%s", text)
		}
		for _, sentence := range p.Unsupported {
			field, text := splitSentence(sentence)
			code, message := s.unsupported(field, text)
			s.found(p, code, field, "%s", message)
		}
		for _, sentence := range p.notes {
			field, text := splitSentence(sentence)
			s.found(p, LeadsNowhere, field, "%s", text)
		}
	}
	for _, g := range s.in.CIDRGroups {
		object := snapshot.Object{Kind: "CiliumCIDRGroup", Name: g.Name}
		for _, sentence := range g.Problems {
			field, text := splitSentence(sentence)
			s.add(Finding{Code: NotValid, Object: Object(object), Origin: s.in.Origins[object], Field: field, Message: text})
		}
	}
}

// splitSentence divides a sentence that begins with a field.
func splitSentence(sentence string) (field, text string) {
	field, text, found := strings.Cut(sentence, ": ")
	if !found {
		return "", sentence
	}
	return field, text
}

// unsupported says what becomes of a part that Placid does not enforce, on the
// platform that is meant.
func (s *scene) unsupported(field, text string) (code, message string) {
	switch {
	case !s.byIdentity:
		return NotEnforced, text + " (with Placid)"
	case strings.HasSuffix(field, "Requires"):
		return NotEnforced, "requirements of peers are not enforced any more from Cilium 1.19 on, which refuses them; select the peers by all of their labels instead"
	case s.in.Settings["enable-l7-proxy"] == "false" && needsProxy(field):
		return NotEnforced, "it needs Cilium's proxy, which is off (enable-l7-proxy: false), so the rule is not enforced as it is written; select by ports and CIDRs instead"
	}
	what, _, _ := strings.Cut(text, "; ")
	return NotFollowed, "Cilium may enforce this part, and it is not followed here (" + what + "); as far as other findings go, the rule allows nothing"
}

// needsProxy tells whether what a field asks for is done above layer 4.
func needsProxy(field string) bool {
	return slices.ContainsFunc([]string{".rules.", "FQDNs", "TLS", ".serverNames", ".listener"}, func(part string) bool { return strings.Contains(field, part) })
}
