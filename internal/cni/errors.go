package cni

import (
	"github.com/containernetworking/cni/pkg/types"

	"github.com/placid-net/placid/internal/agentapi"
)

// ErrCheckFailed is the CNI error code of a CHECK that found the attachment
// absent or different from its previous result. Codes from 100 on are the
// plugin's own.
const ErrCheckFailed uint = 100

// agentError gives an error of the agent, or of the way to it, its CNI code.
func agentError(err error) *types.Error {
	code := types.ErrInternal
	switch errorCode(err) {
	case agentapi.CodeInvalid:
		code = types.ErrInvalidNetworkConfig
	case agentapi.CodeUnavailable, agentapi.CodeNotReady, agentapi.CodeExhausted:
		code = types.ErrTryAgainLater
	case agentapi.CodeNotFound, agentapi.CodeConflict:
		code = ErrCheckFailed
	}
	return types.NewError(code, err.Error(), "")
}

// envError is about the request's environment variables.
func envError(msg string) *types.Error {
	return types.NewError(types.ErrInvalidEnvironmentVariables, msg, "")
}

// confError is about the content of the network configuration.
func confError(msg string) *types.Error {
	return types.NewError(types.ErrInvalidNetworkConfig, msg, "")
}
