package agentapitest

import (
	"context"

	"github.com/placid-net/placid/internal/agentapi"
)

// Services implements agentapi.Service with ServicesResult, whatever the name.
func (s *Service) Services(ctx context.Context, ref string) ([]agentapi.ServiceInfo, error) {
	return s.ServicesResult, s.called(ctx, "Services", ref)
}

// LB implements agentapi.Service with LBResult.
func (s *Service) LB(ctx context.Context) (agentapi.LBTables, error) {
	return s.LBResult, s.called(ctx, "LB", nil)
}
