package cli

import (
	"context"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// agent is what the commands need of the node's agent. A failed call returns
// an error that wraps *agentapi.Error; its code is agentapi.CodeUnavailable
// when the agent does not answer, also when ctx ended first.
type agent interface {
	Status(ctx context.Context) (agentapi.Status, error)
	Endpoints(ctx context.Context) ([]state.Endpoint, error)
	Config(ctx context.Context) ([]agentapi.ConfigEntry, error)
	Maps(ctx context.Context) ([]agentapi.MapInfo, error)
	MapDump(ctx context.Context, name string) (agentapi.MapDump, error)
	agentapi.ConntrackService
	agentapi.PolicyService
	agentapi.BalanceService
	agentapi.TableService
}

func dialAgent(socket string) agent { return agentapi.NewClient(socket) }
