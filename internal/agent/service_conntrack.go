package agent

import (
	"context"
	"errors"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
)

// CTList lists flows.
func (s service) CTList(ctx context.Context, filter agentapi.CTFilter) (agentapi.CTList, error) {
	out, err := s.datapath.Conntrack().List(ctx, filter)
	return out, conntrackError(err)
}

// CTFlush forgets flows.
func (s service) CTFlush(ctx context.Context, filter agentapi.CTFilter) (agentapi.CTFlushed, error) {
	out, err := s.datapath.Conntrack().Flush(ctx, filter)
	if err == nil {
		s.log.Info("conntrack entries flushed", "filter", filter, "deleted", out.Deleted)
	}
	return out, conntrackError(err)
}

// CTTop names those that have most flows.
func (s service) CTTop(ctx context.Context, by string, limit int) ([]agentapi.CTTalker, error) {
	out, err := s.datapath.Conntrack().Top(ctx, by, limit)
	return out, conntrackError(err)
}

// CTCollect removes expired flows now.
func (s service) CTCollect(ctx context.Context) (agentapi.CTCollection, error) {
	result, err := s.datapath.Conntrack().Collect(ctx)
	if err != nil {
		return agentapi.CTCollection{}, err
	}
	return result.Collection(), nil
}

// conntrackError gives an error its code.
func conntrackError(err error) error {
	switch {
	case errors.Is(err, conntrack.ErrUnknownPod):
		return &agentapi.Error{Code: agentapi.CodeNotFound, Message: err.Error()}
	case errors.Is(err, conntrack.ErrBadFilter):
		return &agentapi.Error{Code: agentapi.CodeInvalid, Message: err.Error()}
	}
	return err
}

// conntrackStatus is what status shows of conntrack. What cannot be read is a
// problem of conntrack, not of the status.
func (a *Agent) conntrackStatus() *agentapi.ConntrackStatus {
	out, err := a.datapath.Conntrack().Status()
	if err != nil {
		out.Problem = err.Error()
	}
	return &out
}
