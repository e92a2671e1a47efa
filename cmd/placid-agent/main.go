// Command placid-agent owns a node's datapath: it loads and feeds the BPF
// programs and serves the CNI plugin and the command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/agent"
	"github.com/placid-net/placid/internal/config"
)

// version is set by the linker.
var version = "dev"

// Exit codes.
const (
	exitFailed    = 1
	exitBadConfig = 2
)

// configError marks an error of the configuration.
type configError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "placid-agent:", err)
	if _, bad := errors.AsType[configError](err); bad {
		os.Exit(exitBadConfig)
	}
	os.Exit(exitFailed)
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use: "placid-agent", Short: "Run Placid's node agent", Version: version,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
	}
	config.BindFlags(cmd.PersistentFlags())
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return configError{config.FlagError(err)} })
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, log, err := load(cmd)
		if err != nil {
			return err
		}
		a, err := agent.New(loaded, version, log)
		if err != nil {
			return err
		}
		return a.Run(cmd.Context())
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "cleanup",
		Short: "Remove every trace of Placid from this node; its pods lose their network",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, _, err := load(cmd)
			if err != nil {
				return err
			}
			return agent.Cleanup(loaded.Config)
		},
	})
	return cmd
}

func load(cmd *cobra.Command) (*config.Loaded, *slog.Logger, error) {
	loaded, err := config.Load(config.Sources{Env: os.Environ(), Flags: cmd.Flags()})
	if err != nil {
		return nil, nil, configError{err}
	}
	return loaded, loaded.Config.Logger(os.Stderr), nil
}
