package agentapitest

import (
	"context"

	"github.com/placid-net/placid/internal/agentapi"
)

// TopRequest is what CTTop was asked.
type TopRequest struct {
	By    string
	Limit int
}

// CTList implements agentapi.Service with CTListResult.
func (s *Service) CTList(ctx context.Context, filter agentapi.CTFilter) (agentapi.CTList, error) {
	return s.CTListResult, s.called(ctx, "CTList", filter)
}

// CTFlush implements agentapi.Service with CTFlushResult.
func (s *Service) CTFlush(ctx context.Context, filter agentapi.CTFilter) (agentapi.CTFlushed, error) {
	return s.CTFlushResult, s.called(ctx, "CTFlush", filter)
}

// CTTop implements agentapi.Service with CTTopResult.
func (s *Service) CTTop(ctx context.Context, by string, limit int) ([]agentapi.CTTalker, error) {
	return s.CTTopResult, s.called(ctx, "CTTop", TopRequest{By: by, Limit: limit})
}

// CTCollect implements agentapi.Service with CTCollectResult.
func (s *Service) CTCollect(ctx context.Context) (agentapi.CTCollection, error) {
	return s.CTCollectResult, s.called(ctx, "CTCollect", nil)
}

// Identities implements agentapi.Service with IdentitiesResult.
func (s *Service) Identities(ctx context.Context) ([]agentapi.IdentityInfo, error) {
	return s.IdentitiesResult, s.called(ctx, "Identities", nil)
}

// Policy implements agentapi.Service with PolicyResult, whatever the pod.
func (s *Service) Policy(ctx context.Context, pod string) ([]agentapi.EndpointPolicy, error) {
	return s.PolicyResult, s.called(ctx, "Policy", pod)
}

// Selectors implements agentapi.Service with SelectorsResult.
func (s *Service) Selectors(ctx context.Context) ([]agentapi.SelectorInfo, error) {
	return s.SelectorsResult, s.called(ctx, "Selectors", nil)
}

// PolicyTrace implements agentapi.Service with TraceResult.
func (s *Service) PolicyTrace(ctx context.Context, req agentapi.TraceRequest) (agentapi.TraceResult, error) {
	return s.TraceResult, s.called(ctx, "PolicyTrace", req)
}
