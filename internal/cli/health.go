package cli

import (
	"fmt"
	"strings"

	"github.com/placid-net/placid/internal/agentapi"
)

// problems names what is wrong with the node, one line each, the most telling
// first: parts of the agent, what the kernel lacks, services, policy and conntrack,
// reconcilers, other nodes.
// It is empty exactly when `placid status` exits with 0.
func problems(s agentapi.Status) []string {
	var out []string
	for _, c := range s.Conditions {
		if !c.OK {
			out = append(out, joinMessage(c.Name, c.Message))
		}
	}
	for _, f := range s.Features {
		if !f.Available && f.Required {
			out = append(out, featureLine(f))
		}
	}
	out = append(out, serviceProblems(s)...)
	out = append(out, policyProblems(s)...)
	for _, c := range s.Controllers {
		if c.Failing > 0 {
			out = append(out, controllerLine(c))
		}
	}
	for _, n := range s.Nodes {
		if p := nodeProblem(n); p != "" {
			out = append(out, "node "+p)
		}
	}
	if !s.Ready && len(out) == 0 {
		out = append(out, "agent is not ready: no condition says why, see its log")
	}
	return out
}

// policyProblems names what is wrong with policy and conntrack.
func policyProblems(s agentapi.Status) []string {
	var out []string
	if s.Policy != nil {
		for _, p := range s.Policy.Problems {
			out = append(out, "policy: "+p)
		}
	}
	if s.Conntrack != nil && s.Conntrack.Problem != "" {
		out = append(out, "conntrack: "+s.Conntrack.Problem)
	}
	return out
}

// joinMessage gives "name: message", or "name: not ok" without a message.
func joinMessage(name, message string) string {
	if message == "" {
		message = "not ok"
	}
	return name + ": " + message
}

func featureLine(f agentapi.Feature) string {
	line := f.Name + ": needs kernel " + f.Since
	if f.Since == "" {
		line = f.Name + ": not in this kernel"
	}
	if f.Effect != "" {
		line += "; " + f.Effect
	}
	if f.Required {
		line += " (required)"
	}
	return line
}

func controllerLine(c agentapi.Controller) string {
	line := fmt.Sprintf("%s: %d of %d failing", c.Name, c.Failing, c.Desired)
	if c.LastError != "" {
		line += ": " + c.LastError
	}
	return line
}

// nodeProblem gives "name: problem", or "" when the node is fine.
func nodeProblem(n agentapi.PeerNode) string {
	var parts []string
	if !knownRoute(n.Route) {
		parts = append(parts, n.Route)
	}
	if n.Problem != "" {
		parts = append(parts, n.Problem)
	}
	if len(parts) == 0 {
		return ""
	}
	return n.Node.Name + ": " + strings.Join(parts, "; ")
}

// knownRoute tells whether route is a kind of route and not an error.
func knownRoute(route string) bool {
	switch route {
	case "direct", "tunnel", "network", "":
		return true
	}
	return false
}
