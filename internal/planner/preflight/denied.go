package preflight

// box is all traffic of some pods with some peers on some ports.
type box struct{ subjects, peers, ports set }

func (r *ruleView) box() box { return box{r.policy.subjects, r.peers, r.ports} }

func (b box) meets(o box) bool {
	return b.ports.meets(o.ports) && b.subjects.meets(o.subjects) && b.peers.meets(o.peers)
}

func (b box) empty() bool { return b.subjects.empty() || b.peers.empty() || b.ports.empty() }

// minus gives what is in b alone, in boxes without anything in common.
func (b box) minus(o box) []box {
	subjects, peers := b.subjects.and(o.subjects), b.peers.and(o.peers)
	var out []box
	for _, x := range []box{
		{b.subjects.minus(o.subjects), b.peers, b.ports},
		{subjects, b.peers.minus(o.peers), b.ports},
		{subjects, peers, b.ports.minus(o.ports)},
	} {
		if !x.empty() {
			out = append(out, x)
		}
	}
	return out
}

// maxBoxes is how many boxes what is left of a rule is divided into; with more it is
// taken as left.
const maxBoxes = 64

// checkDenied tells of rules that allow what rules deny.
func (s *scene) checkDenied() {
	if !s.hasPods {
		return
	}
	for d := range directions {
		byGroup := make([][]*ruleView, len(s.index.groups))
		for r := range s.rulesOf(d, true) {
			if r.policy.Audit {
				continue
			}
			for i := range r.policy.subjects.all() {
				byGroup[i] = append(byGroup[i], r)
			}
		}
		for r := range s.rulesOf(d, false) {
			if !r.refused && !r.box().empty() {
				s.checkDeniedRule(r, byGroup)
			}
		}
	}
}

func (s *scene) checkDeniedRule(r *ruleView, byGroup [][]*ruleView) {
	left := []box{r.box()}
	var by []string
	elsewhere := false // who denies in the policy itself means it
	seen := map[*ruleView]bool{}
	for i := range r.policy.subjects.all() {
		for _, deny := range byGroup[i] {
			if seen[deny] {
				continue
			}
			seen[deny] = true
			if !deny.box().meets(r.box()) {
				continue
			}
			if deny.policy.object != r.policy.object {
				elsewhere = true
			}
			by = append(by, deny.name())
			if len(left) <= maxBoxes {
				left = without(left, deny.box())
			}
		}
	}
	switch {
	case len(by) == 0:
	case len(left) == 0:
		s.found(r.policy, Denied, r.field(), "all that the rule allows is denied by %s; what denies wins, so the rule does nothing: narrow what denies, or remove the rule", names(by))
	case elsewhere:
		s.found(r.policy, PartlyDenied, r.field(), "a part of what the rule allows is denied by %s", names(by))
	}
}

func without(boxes []box, o box) []box {
	var out []box
	for _, b := range boxes {
		if b.meets(o) {
			out = append(out, b.minus(o)...)
		} else {
			out = append(out, b)
		}
	}
	return out
}
