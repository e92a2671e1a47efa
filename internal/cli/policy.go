package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

// shownIdentities is how many identities of a selector a table names.
const shownIdentities = 8

// IDs of the policy sets that are not made of rules.
const (
	setOpen   = "0"
	setClosed = "1"
)

const policyGetHelp = `Show what policies do to the pods of this node.

With a pod: its rules in each direction, what they allow and which policy each
comes from. Without: a line for each pod. A direction is

  open      no policy isolates it: everything is allowed
  enforced  what no rule allows is dropped
  audited   what no rule allows is counted and let through
  refused   the rules do not fit: the problem says why, and what is in force`

func (a *app) policyCommand() *cobra.Command {
	get := &cobra.Command{
		Use:     "get [NAMESPACE/NAME]",
		Short:   "Show what policies do to the pods of this node",
		Long:    policyGetHelp,
		Example: "  placid policy get\n  placid policy get default/web-0",
		Args:    podArg,
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			return a.policyGet(cmd.Context(), strings.Join(args, ""))
		}),
	}
	selectors := &cobra.Command{
		Use:   "selectors",
		Short: "Show the selectors of all policies and the identities that they select",
		Args:  cobra.NoArgs,
		RunE:  a.run(func(cmd *cobra.Command, _ []string) error { return a.selectors(cmd.Context()) }),
	}
	return a.group("policy", "Show network policies as this node enforces them", get, selectors, a.traceCommand(), a.policyDiffCommand())
}

// policyGet shows one pod, or all when pod is empty.
func (a *app) policyGet(ctx context.Context, pod string) error {
	policies, err := ask(ctx, a, "get policy", func(ctx context.Context, ag agent) ([]agentapi.EndpointPolicy, error) {
		return ag.Policy(ctx, pod)
	})
	if err != nil {
		return err
	}
	return a.print(nonNil(policies), func(out *bytes.Buffer) {
		if pod == "" {
			policyTable(policies).render(out, "")
			return
		}
		for i, p := range policies {
			if i > 0 {
				out.WriteByte('\n')
			}
			policyText(out, p)
		}
	})
}

func policyTable(policies []agentapi.EndpointPolicy) *grid {
	g := newGrid("ENDPOINT", "POD", "IDENTITY", "INGRESS", "EGRESS", "POLICIES", "PROBLEM")
	for _, p := range policies {
		names := slices.Concat(p.Ingress.Policies, p.Egress.Policies)
		slices.Sort(names)
		g.add(strconv.FormatUint(uint64(p.Endpoint), 10), p.Pod.String(), identityName(p.Identity), p.Ingress.Enforcement, p.Egress.Enforcement,
			dash(strings.Join(slices.Compact(names), ",")), dash(strings.Join(setProblems(p), "; ")))
	}
	return g
}

func setProblems(p agentapi.EndpointPolicy) []string {
	var out []string
	if p.Ingress.Problem != "" {
		out = append(out, "ingress: "+p.Ingress.Problem)
	}
	if p.Egress.Problem != "" {
		out = append(out, "egress: "+p.Egress.Problem)
	}
	return out
}

func policyText(out *bytes.Buffer, p agentapi.EndpointPolicy) {
	fmt.Fprintf(out, "%-10s%s\n", "Pod:", p.Pod)
	fmt.Fprintf(out, "%-10s%d\n", "Endpoint:", p.Endpoint)
	fmt.Fprintf(out, "%-10s%s\n", "Identity:", identityName(p.Identity))
	setText(out, "Ingress:", p.Ingress)
	setText(out, "Egress:", p.Egress)
}

func setText(out *bytes.Buffer, label string, s agentapi.PolicySet) {
	fmt.Fprintf(out, "%-10s%s   set %s\n", label, s.Enforcement, s.ID)
	if s.Problem != "" {
		fmt.Fprintf(out, "  problem: %s\n", s.Problem)
	}
	if len(s.Policies) > 0 {
		fmt.Fprintf(out, "  isolated by %s\n", strings.Join(s.Policies, ", "))
	}
	switch {
	case s.ID == setOpen:
		out.WriteString("  everything is allowed\n")
	case s.ID == setClosed:
		out.WriteString("  nothing is allowed\n")
	case len(s.Entries) == 0 && s.Enforcement == agentapi.EnforcementRefused:
		out.WriteString("  what was allowed before still is\n")
	case len(s.Entries) == 0:
		out.WriteString("  no rule allows anything\n")
	default:
		g := newGrid("PEER", "PORTS", "RULES")
		for _, e := range s.Entries {
			g.add(e.Peer, dash(strings.Join(e.Ports, ",")), dash(strings.Join(e.Rules, ", ")))
		}
		g.render(out, "  ")
	}
}

func (a *app) selectors(ctx context.Context) error {
	found, err := ask(ctx, a, "list selectors", func(ctx context.Context, ag agent) ([]agentapi.SelectorInfo, error) {
		return ag.Selectors(ctx)
	})
	if err != nil {
		return err
	}
	return a.print(nonNil(found), func(out *bytes.Buffer) {
		g := newGrid("SELECTOR", "COUNT", "IDENTITIES", "POLICIES")
		for _, s := range found {
			g.add(s.Selector, strconv.Itoa(len(s.Identities)), dash(someIdentities(s.Identities)), dash(strings.Join(s.Policies, ",")))
		}
		g.render(out, "")
	})
}

// someIdentities names the first of them, and says that there are more.
func someIdentities(ids []uint32) string {
	var words []string
	for _, id := range ids[:min(len(ids), shownIdentities)] {
		words = append(words, identityName(id))
	}
	if len(ids) > shownIdentities {
		words = append(words, "…")
	}
	return strings.Join(words, ",")
}
