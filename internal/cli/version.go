package cli

import (
	"bytes"
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

// versions is the JSON form of `placid version`.
type versions struct {
	Client clientVersion `json:"client"`
	Agent  *agentVersion `json:"agent,omitempty"`
	// AgentError says why Agent is missing; empty with --client.
	AgentError string `json:"agentError,omitempty"`
}

// clientVersion is what this binary is.
type clientVersion struct {
	Version  string `json:"version"`
	Go       string `json:"go"`       // e.g. "go1.26.0"
	Platform string `json:"platform"` // e.g. "linux/amd64"
}

// agentVersion is what the agent of this node runs as.
type agentVersion struct {
	Version string `json:"version"`
	Node    string `json:"node"`
	Kernel  string `json:"kernel"`
}

const versionHelp = `Show the version of this command and of this node's agent.

Exits with 0 even when the agent does not answer: the answer then says so.`

func (a *app) versionCommand() *cobra.Command {
	var clientOnly bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of this command and of this node's agent",
		Long:  versionHelp,
		Args:  cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			v := versions{Client: clientVersion{
				Version:  a.env.Version,
				Go:       runtime.Version(),
				Platform: runtime.GOOS + "/" + runtime.GOARCH,
			}}
			if !clientOnly {
				a.askVersion(cmd.Context(), &v)
			}
			return a.print(v, v.text)
		}),
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "do not ask the agent")
	return cmd
}

func (a *app) askVersion(ctx context.Context, v *versions) {
	s, err := ask(ctx, a, "ask the agent", func(ctx context.Context, ag agent) (agentapi.Status, error) { return ag.Status(ctx) })
	if err != nil {
		v.AgentError = err.Error()
		return
	}
	v.Agent = &agentVersion{Version: s.Version, Node: s.Node, Kernel: s.Kernel}
}

func (v versions) text(out *bytes.Buffer) {
	fmt.Fprintf(out, "Client: %s   %s %s\n", v.Client.Version, v.Client.Go, v.Client.Platform)
	switch {
	case v.Agent != nil:
		fmt.Fprintf(out, "Agent:  %s   node %s, kernel %s\n", v.Agent.Version, v.Agent.Node, v.Agent.Kernel)
	case v.AgentError != "":
		fmt.Fprintf(out, "Agent:  unknown: %s\n", v.AgentError)
	}
}
