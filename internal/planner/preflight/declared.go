package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// checkPorts tells of ports that no pod has which a rule is about: of ingress the
// pods that the policy selects, of egress its peers.
func (s *scene) checkPorts() {
	if !s.hasPods {
		return
	}
	for _, p := range s.policies {
		for d, rules := range p.rules {
			for _, r := range rules {
				if r.refused || len(r.written.Ports) == 0 {
					continue
				}
				about, who := p.subjects, "pod that the policy selects"
				if d == egress {
					if len(r.rule.Peers) == 0 || !s.peers.onlyGroups(r.peers) {
						continue
					}
					about, who = s.peers.groups(r.peers), "peer that the rule selects"
				}
				if !about.empty() {
					s.checkRulePorts(r, about, who)
				}
			}
		}
	}
}

func (s *scene) checkRulePorts(r *ruleView, about set, who string) {
	var missing []string
	for i, x := range r.written.Ports {
		switch {
		case x.Protocol == state.ProtocolAny || x.ICMPType != nil || s.declares(about, x, false):
		case x.Name != "":
			s.found(r.policy, NoSuchPortName, r.portField(i), "no %s has a port called %s of %s, so the rule is about nothing there; %s", who, x.Name, x.Protocol, s.portNames(about))
		case x.Port != 0 && s.declares(about, x, true):
			missing = append(missing, portText(x))
		}
	}
	// A port of any protocol is one of each: then one that is there is enough.
	if len(missing) > 0 && !s.anyProtocol(r, about) {
		s.found(r.policy, NoSuchPort, r.field(), "no %s declares %s; %s", who, names(missing), s.portNumbers(about))
	}
}

// declares tells whether one of the groups has the port; with otherwise, whether
// each of them has some ports, and each some numbers.
func (s *scene) declares(about set, x state.PolicyPort, otherwise bool) bool {
	first, last := rangeOf(x)
	for i := range about.all() {
		ports := s.index.groups[i].ports
		if otherwise {
			if len(ports) == 0 {
				return false
			}
			continue
		}
		if slices.ContainsFunc(ports, func(p state.NamedPort) bool {
			return p.Protocol == x.Protocol && (x.Name == "" && first <= p.Port && p.Port <= last || x.Name != "" && p.Name == x.Name)
		}) {
			return true
		}
	}
	return otherwise
}

// anyProtocol tells whether the rule has ports for TCP and for UDP alike, which is
// how any protocol is written, and one of them is declared.
func (s *scene) anyProtocol(r *ruleView, about set) bool {
	byProtocol := map[state.Protocol]int{}
	some := false
	for _, x := range r.written.Ports {
		byProtocol[x.Protocol]++
		some = some || s.declares(about, x, false)
	}
	return some && byProtocol[state.ProtocolTCP] == byProtocol[state.ProtocolUDP] && len(byProtocol) > 1
}

func portText(x state.PolicyPort) string {
	if x.EndPort > x.Port {
		return fmt.Sprintf("a port from %d to %d/%s", x.Port, x.EndPort, x.Protocol)
	}
	return fmt.Sprintf("port %d/%s", x.Port, x.Protocol)
}

// portNames says which names of ports there are.
func (s *scene) portNames(about set) string {
	seen := map[string]bool{}
	for i := range about.all() {
		for _, p := range s.index.groups[i].ports {
			if p.Name != "" {
				seen[p.Name+" of "+p.Protocol.String()] = true
			}
		}
	}
	if len(seen) == 0 {
		return "none of them has a port with a name: write its number"
	}
	return "there are " + names(sortedKeys(seen))
}

// portNumbers says which ports there are.
func (s *scene) portNumbers(about set) string {
	seen := map[string]bool{}
	for i := range about.all() {
		for _, p := range s.index.groups[i].ports {
			seen[strings.TrimPrefix(portText(state.PolicyPort{Protocol: p.Protocol, Port: p.Port}), "port ")] = true
		}
	}
	return "declared are " + names(sortedKeys(seen)) + " (policies want the ports of pods, not those of Services)"
}

// portField is the path of a port of a rule; that of the rule where it cannot be
// told.
func (r *ruleView) portField(i int) string {
	if r.policy.Kind == state.PolicyKubernetes {
		return fmt.Sprintf("%s.ports[%d]", r.field(), i)
	}
	return r.field()
}
