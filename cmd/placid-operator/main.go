// Command placid-operator writes what is one for the whole cluster: which node
// has which pod CIDR. One replica works at a time, the one that holds the lease.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/config"
	"github.com/placid-net/placid/internal/operator"
)

// version is set by the linker.
var version = "dev"

// Exit codes.
const (
	exitFailed    = 1
	exitBadConfig = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "placid-operator:", err)
	if errors.Is(err, operator.ErrConfig) {
		os.Exit(exitBadConfig)
	}
	os.Exit(exitFailed)
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use: "placid-operator", Short: "Run Placid's operator", Version: version,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
	}
	config.BindFlags(cmd.Flags())
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w", operator.ErrConfig, config.FlagError(err))
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := config.Load(config.Sources{Env: os.Environ(), Flags: cmd.Flags()})
		if err != nil {
			return fmt.Errorf("%w: %w", operator.ErrConfig, err)
		}
		log := loaded.Config.Logger(os.Stderr)
		for _, w := range loaded.Warnings {
			log.Warn("configuration", "warning", w)
		}
		return operator.Start(cmd.Context(), loaded.Config, version, log)
	}
	cmd.AddCommand(&cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version)
			return err
		},
	})
	return cmd
}
