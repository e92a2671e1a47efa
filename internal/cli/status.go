package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// waitInterval is the pause between two looks of `status --wait`.
const waitInterval = 250 * time.Millisecond

const statusHelp = `Show the health of this node's Placid.

Exits with 0 when all is well, 1 when something is wrong and 3 when the agent
does not answer. Wrong is: a condition of the agent that is not ok, a required
kernel feature that is missing, a service or a policy that could not be put in
force, conntrack that is not collected, a reconciler with failing entries, and
another node that packets cannot reach or that is set up differently (another
MTU).
Warnings and optional kernel features do not count.

The JSON and YAML forms hold everything; --verbose changes only the table form.
For a liveness probe use the agent's health port instead: another node's trouble
is no reason to restart this agent.`

// errUnhealthy is why `status` exits with 1 after it has shown the problems.
var errUnhealthy = errors.New("unhealthy")

// statusOptions are the flags of `placid status`.
type statusOptions struct {
	verbose, brief bool
	wait           time.Duration
}

func (a *app) statusCommand() *cobra.Command {
	var opts statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the health of this node's Placid",
		Long:  statusHelp,
		Args:  cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			switch {
			case opts.brief && a.output.value != outTable:
				return usagef(cmd, "--brief prints one line and cannot be combined with --output %s", a.output.value)
			case opts.brief && opts.verbose:
				return usagef(cmd, "--brief and --verbose contradict each other: give one")
			case opts.wait < 0:
				return usagef(cmd, "--wait is %s, want 0 or more", opts.wait)
			}
			return a.status(cmd.Context(), opts)
		}),
	}
	flags := cmd.Flags()
	flags.BoolVar(&opts.verbose, "verbose", false, "show controllers, programs, devices, addresses, maps, nodes and kernel features")
	flags.BoolVar(&opts.brief, "brief", false, "print OK or the first problem on one line")
	flags.DurationVar(&opts.wait, "wait", 0, "wait up to this long for the node to be healthy; a request under way may add --timeout")
	return cmd
}

func (a *app) status(ctx context.Context, opts statusOptions) error {
	s, err := a.waitHealthy(ctx, opts.wait)
	if err != nil {
		return err
	}
	found := problems(s)
	if opts.brief {
		line := "OK"
		if len(found) > 0 {
			line = found[0]
		}
		err = a.write([]byte(line + "\n"))
	} else {
		err = a.printStatus(ctx, s, opts.verbose)
	}
	if err == nil && len(found) > 0 {
		return &reportedError{err: errUnhealthy}
	}
	return err
}

// waitHealthy asks for the status until there is no problem or the time is up,
// and returns the last answer.
func (a *app) waitHealthy(ctx context.Context, wait time.Duration) (agentapi.Status, error) {
	deadline := time.After(wait)
	for {
		s, err := ask(ctx, a, "get status", func(ctx context.Context, ag agent) (agentapi.Status, error) { return ag.Status(ctx) })
		if wait == 0 || err == nil && len(problems(s)) == 0 {
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, fmt.Errorf("wait for a healthy status: %w", ctx.Err())
		case <-deadline:
			return s, err
		case <-time.After(waitInterval):
		}
	}
}

func (a *app) printStatus(ctx context.Context, s agentapi.Status, verbose bool) error {
	var (
		endpoints []state.Endpoint
		err       error
	)
	if verbose && a.output.value == outTable {
		endpoints, err = a.endpoints(ctx)
	}
	view := statusView{app: a, Status: s}
	printErr := a.print(s, func(out *bytes.Buffer) {
		view.out = out
		view.summary(endpoints, verbose)
	})
	return errors.Join(printErr, err)
}
