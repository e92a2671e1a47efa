package agent

import (
	"context"
	"errors"

	"github.com/placid-net/placid/internal/agent/sizes"
	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/resize"
)

// Tables describes every table that has a size.
func (s service) Tables(context.Context) (agentapi.Tables, error) { return s.sizes.Tables() }

// ResizeTable gives a table another size. Entries that found no room are no error:
// they work on, and the move ends when there is.
func (s service) ResizeTable(ctx context.Context, req agentapi.ResizeRequest) (agentapi.TableMove, error) {
	why := req.Why
	if why == "" {
		why = "asked for"
	}
	move, err := s.sizes.Resize(ctx, req.Name, req.Entries, why)
	if errors.Is(err, conntrack.ErrNoRoom) {
		err = nil
	}
	return sizes.MoveInfo(move), resizeError(err)
}

// resizeError gives an error its code.
func resizeError(err error) error {
	for _, known := range []struct {
		err  error
		code string
	}{
		{resize.ErrUnknown, agentapi.CodeNotFound},
		{resize.ErrSize, agentapi.CodeInvalid},
		{resize.ErrEntries, agentapi.CodeTooSmall},
		{resize.ErrMemory, agentapi.CodeNoMemory},
		{resize.ErrBusy, agentapi.CodeBusy},
	} {
		if errors.Is(err, known.err) {
			return &agentapi.Error{Code: known.code, Message: err.Error()}
		}
	}
	return err
}

// tablesStatus is what status shows of tables; nil where they cannot be read.
func (a *Agent) tablesStatus() *agentapi.Tables {
	out, err := a.sizes.Tables()
	if err != nil {
		a.log.Error("read the sizes of tables", "error", err)
		return nil
	}
	return &out
}
