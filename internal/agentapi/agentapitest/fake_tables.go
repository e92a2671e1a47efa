package agentapitest

import (
	"context"

	"github.com/placid-net/placid/internal/agentapi"
)

// Tables implements agentapi.Service with TablesResult.
func (s *Service) Tables(ctx context.Context) (agentapi.Tables, error) {
	return s.TablesResult, s.called(ctx, "Tables", nil)
}

// ResizeTable implements agentapi.Service with ResizeResult.
func (s *Service) ResizeTable(ctx context.Context, req agentapi.ResizeRequest) (agentapi.TableMove, error) {
	return s.ResizeResult, s.called(ctx, "ResizeTable", req)
}
