package cli

import (
	"bytes"
	"context"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agentapi"
)

// sourceDefault is the source of a key that nobody set.
const sourceDefault = "default"

const configHelp = `Show the effective value of every configuration key and where it came from.

The source is "default", "flag", the name of an environment variable, or the
path of a file of the configuration directory.`

func (a *app) configCommand() *cobra.Command {
	var changed bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the agent's effective configuration and where it came from",
		Long:  configHelp,
		Args:  cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			return a.config(cmd.Context(), changed)
		}),
	}
	cmd.Flags().BoolVar(&changed, "changed", false, "only keys that were set somewhere")
	cmd.AddCommand(a.configKeysCommand(), a.configImportCommand())
	return cmd
}

func (a *app) config(ctx context.Context, changed bool) error {
	entries, err := ask(ctx, a, "get configuration", func(ctx context.Context, ag agent) ([]agentapi.ConfigEntry, error) {
		return ag.Config(ctx)
	})
	if err != nil {
		return err
	}
	if changed {
		entries = slices.DeleteFunc(slices.Clone(entries), func(e agentapi.ConfigEntry) bool { return e.Source == sourceDefault })
	}
	return a.print(nonNil(entries), func(out *bytes.Buffer) {
		g := newGrid("KEY", "VALUE", "SOURCE")
		for _, e := range entries {
			g.add(e.Key, quoteEmpty(e.Value), e.Source)
		}
		g.render(out, "")
	})
}

// quoteEmpty shows an empty value as "".
func quoteEmpty(s string) string {
	if s == "" {
		return strconv.Quote(s)
	}
	return s
}
