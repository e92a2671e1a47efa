package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
)

// Exit codes of every command.
const (
	ExitOK          = 0 // done; for `status`: healthy
	ExitFailed      = 1 // the request failed; for `status`: unhealthy
	ExitUsage       = 2 // unknown command or flag, or wrong arguments
	ExitUnreachable = 3 // the agent did not answer
	ExitUnjudged    = 4 // input could not be judged, so there is no answer
)

// Env is what a command sees of the world. All fields must be set.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Getenv returns an environment variable, or "" when it is not set.
	Getenv func(string) string
	// Now is the time that ages are counted from.
	Now func() time.Time
	// Version is the version of this binary, e.g. "v0.1.0".
	Version string

	// dial returns the agent behind a socket without connecting; nil is the real one.
	dial func(socket string) agent
	// terminal says that Stderr is watched, whatever it is.
	terminal bool
}

// usageError is a mistake in how the command was called.
type usageError struct {
	command string // path of the command, e.g. "placid endpoint get"
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

// reportedError has been shown as part of the command's output already; only
// its exit code is left to give.
type reportedError struct{ err error }

func (e *reportedError) Error() string { return e.err.Error() }

func (e *reportedError) Unwrap() error { return e.err }

// Run executes one command line, args being what follows the program's name,
// and returns the exit code. Errors are written to env.Stderr.
func Run(ctx context.Context, env Env, args []string) int {
	if env.dial == nil {
		env.dial = dialAgent
	}
	a := &app{env: env}
	root := a.rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	if _, ok := errors.AsType[*usageError](err); !ok && !a.started {
		err = &usageError{command: cmd.CommandPath(), err: err} // cobra rejected it
	}
	if _, ok := errors.AsType[*reportedError](err); !ok {
		printError(env.Stderr, err)
	}
	return exitCode(err)
}

// printError ignores write errors: there is nowhere left to report them.
func printError(w io.Writer, err error) {
	_, _ = fmt.Fprintf(w, "placid: %v\n", err)
	if usage, ok := errors.AsType[*usageError](err); ok {
		_, _ = fmt.Fprintf(w, "Run '%s --help' for usage.\n", usage.command)
	}
}

func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return ExitUsage
	}
	if _, ok := errors.AsType[*unjudgedError](err); ok {
		return ExitUnjudged
	}
	if unreachable(err) {
		return ExitUnreachable
	}
	return ExitFailed
}

// unreachable tells whether err means that no agent answered, in time or at all.
func unreachable(err error) bool {
	apiErr, ok := errors.AsType[*agentapi.Error](err)
	return ok && apiErr.Code == agentapi.CodeUnavailable
}
