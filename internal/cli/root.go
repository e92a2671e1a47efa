package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

// socketEnv is the environment variable that sets the default of --socket.
const socketEnv = "PLACID_SOCKET"

const defaultTimeout = 5 * time.Second

const rootHelp = `placid shows what the Placid agent of this node does.

It talks to the agent through its unix socket, which only root may open. Nouns
show, verbs change.

Exit codes:
  0  done; for status: healthy
  1  the request failed; for status: something is wrong
  2  unknown command or flag, or wrong arguments
  3  the agent did not answer
  4  a part of a cluster's objects could not be read, so no verdict can be told`

// app is one run of the command line.
type app struct {
	env     Env
	socket  string
	output  enum
	timeout time.Duration
	// started is set once a command runs: errors before are usage errors.
	started bool
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "placid",
		Short:         "Show what the Placid agent of this node does",
		Long:          rootHelp,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          a.run(func(cmd *cobra.Command, _ []string) error { return cmd.Help() }),
	}
	root.SetIn(a.env.Stdin)
	root.SetOut(a.env.Stdout)
	root.SetErr(a.env.Stderr)
	socket := a.env.Getenv(socketEnv)
	if socket == "" {
		socket = agentapi.DefaultSocket
	}
	a.output = newOutput()
	flags := root.PersistentFlags()
	flags.StringVar(&a.socket, "socket", socket, "unix socket of the agent; default from "+socketEnv)
	flags.VarP(&a.output, "output", "o", "output format: "+a.output.choices())
	flags.DurationVar(&a.timeout, "timeout", defaultTimeout, "how long one request to the agent may take")
	root.AddCommand(a.statusCommand(), a.endpointCommand(), a.serviceCommand(), a.bpfCommand(), a.identityCommand(), a.policyCommand(),
		a.configCommand(), a.planCommand(), a.preflightCommand(), a.versionCommand())
	return root
}

// run wraps a command's function with what holds for all of them.
func (a *app) run(f func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.started = true
		if a.timeout <= 0 {
			return usagef(cmd, "--timeout is %s, want more than 0", a.timeout)
		}
		return f(cmd, args)
	}
}

// group returns a command that only holds others.
func (a *app) group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			return usagef(cmd, "%s needs a subcommand: %s", cmd.Name(), strings.Join(subNames(cmd), " or "))
		}),
	}
	cmd.AddCommand(subs...)
	return cmd
}

func subNames(cmd *cobra.Command) []string {
	var names []string
	for _, sub := range cmd.Commands() {
		names = append(names, sub.Name())
	}
	return names
}

// oneArg checks that a command got exactly the argument that its Use names.
func oneArg(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef(cmd, "%s takes exactly one argument, got %d", cmd.Use, len(args))
	}
	return nil
}

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{command: cmd.CommandPath(), err: fmt.Errorf(format, args...)}
}

// ask makes one request to the agent within --timeout. what names the request
// in the error.
func ask[T any](ctx context.Context, a *app, what string, request func(context.Context, agent) (T, error)) (T, error) {
	reqCtx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	answer, err := request(reqCtx, a.env.dial(a.socket))
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() == nil && reqCtx.Err() != nil:
		return answer, fmt.Errorf("%s: no answer within --timeout %s: %w", what, a.timeout, err)
	}
	return answer, fmt.Errorf("%s: %w", what, err)
}
