package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/placid-net/placid/internal/agent/security"
	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/identity"
)

// Identities lists the identities that the node knows.
func (s service) Identities(context.Context) ([]agentapi.IdentityInfo, error) {
	return s.security.Identities()
}

// Policy tells what one pod of this node is under, or all of them.
func (s service) Policy(_ context.Context, pod string) ([]agentapi.EndpointPolicy, error) {
	out := s.security.Policies(pod)
	if pod != "" && len(out) == 0 {
		return nil, &agentapi.Error{Code: agentapi.CodeNotFound, Message: fmt.Sprintf("pod %s is not on node %s", pod, s.nodeName)}
	}
	return out, nil
}

// Selectors lists the selectors of policies in use.
func (s service) Selectors(context.Context) ([]agentapi.SelectorInfo, error) {
	return s.security.Selectors(), nil
}

// PolicyTrace tells what becomes of a new flow.
func (s service) PolicyTrace(_ context.Context, req agentapi.TraceRequest) (agentapi.TraceResult, error) {
	out, err := s.security.Trace(req)
	switch {
	case errors.Is(err, security.ErrUnknownPod):
		err = &agentapi.Error{Code: agentapi.CodeNotFound, Message: err.Error()}
	case errors.Is(err, security.ErrElsewhere):
		err = &agentapi.Error{Code: agentapi.CodeInvalid, Message: err.Error()}
	}
	return out, err
}

// policyStatus is what status shows of policies.
func (a *Agent) policyStatus() *agentapi.PolicyStatus {
	s := a.security.Status()
	out := &agentapi.PolicyStatus{
		Mode: a.loaded.Config.EnablePolicy, Audit: s.Audit, Policies: s.Policies, Selectors: len(a.security.Selectors()),
		Identities: s.Identities, Isolated: s.Isolated(), Staged: s.Staged,
	}
	for _, p := range s.Problems {
		out.Problems = append(out.Problems, p.String())
	}
	return out
}

// policyWarnings are sentences about policies that cannot do what they say.
func (a *Agent) policyWarnings() []string {
	policies, _, err := a.tables.NetworkPolicies()
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, p := range policies {
		for _, problem := range p.Problems {
			out = append(out, fmt.Sprintf("policy %s: %s", p.Key(), problem))
		}
	}
	for _, f := range identity.Unmatchable(a.filter, policies) {
		out = append(out, f.Message)
	}
	return out
}
