package cli

import (
	"fmt"
	"slices"

	"github.com/placid-net/placid/internal/agentapi"
)

// shownProblems is how many problems of Services the status names.
const shownProblems = 10

// replacement says whether kube-proxy is needed beside the agent.
func (v *statusView) replacement() {
	if v.Services == nil {
		return // an agent of a release without services
	}
	word := "False"
	if v.Services.Enabled {
		word = "True"
	}
	v.line("KubeProxyReplacement", "%s", word)
}

func (v *statusView) masquerading() {
	if len(v.Masquerade) == 0 {
		v.line("Masquerading", "Disabled")
		return
	}
	words := map[string]string{}
	for _, family := range []string{"IPv4", "IPv6"} {
		words[family] = "Disabled"
		if slices.Contains(v.Masquerade, family) {
			words[family] = "Enabled"
		}
	}
	v.line("Masquerading", "BPF   [IPv4: %s, IPv6: %s]", words["IPv4"], words["IPv6"])
}

func (v *statusView) services() {
	s := v.Services
	if s == nil || !s.Enabled {
		return
	}
	text := fmt.Sprintf("%s, %s, %s, %s", plural(s.Services, "service"), plural(s.Ports, "port"), plural(s.Frontends, "frontend"), plural(s.Backends, "backend"))
	if s.HostPorts > 0 {
		text += fmt.Sprintf(", host ports of %s", plural(s.HostPorts, "pod"))
	}
	v.line("Services", "%s", text)
	if fill := lbFill(s.Tables); fill != "" {
		v.detail(fill)
	}
	if s.Problem != "" {
		v.detail(s.Problem)
	}
	for _, problems := range [][]string{s.Refused, s.Problems} {
		for _, p := range problems[:min(len(problems), shownProblems)] {
			v.detail(p)
		}
		if more := len(problems) - shownProblems; more > 0 {
			v.detail(fmt.Sprintf("and %d more: 'placid service list' shows them", more))
		}
	}
}

// serviceProblems names what is wrong with the serving of Services. What is wrong
// with a Service itself is not the node's fault.
func serviceProblems(s agentapi.Status) []string {
	if s.Services == nil {
		return nil
	}
	var out []string
	for _, r := range s.Services.Refused {
		out = append(out, "services: "+r)
	}
	return out
}
