package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/placid-net/placid/bench/internal/agent"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/packets"
	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/steps"
	"github.com/placid-net/placid/bench/internal/tcp"
)

const usage = `usage: bench DOCUMENT SECTION...

Measures each section, prints its tables, and writes them to DOCUMENT. Needs
root. Sections: packets, tcp, steps, agent.`

// Arguments by which the program calls itself in another namespace or node.
const (
	childPackets = "child-packets"
	childSteps   = "child-steps"
	childAgent   = "child-agent"
	childNode    = "child-node"
	childServer  = "child-server"
	childClient  = "child-client"
)

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], "child-") {
		return runChild(ctx, args)
	}
	if len(args) < 2 || strings.HasPrefix(args[0], "-") {
		return fmt.Errorf("%d arguments\n%s", len(args), usage)
	}
	for _, section := range args[1:] {
		if err := measure(ctx, args[0], section); err != nil {
			return fmt.Errorf("%s: %w", section, err)
		}
	}
	return nil
}

// measure measures one section and writes it to the document.
func measure(ctx context.Context, document, section string) error {
	conditions := report.Conditions(time.Now())
	tables, err := tablesOf(ctx, section)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s\n\n", section, conditions)
	for i := range tables {
		fmt.Println(tables[i].Markdown())
	}
	return report.Write(document, section, conditions, tables)
}

func tablesOf(ctx context.Context, section string) ([]report.Table, error) {
	switch section {
	case "packets":
		results, err := packets.Run(ctx, childPackets)
		return packets.Tables(results), err
	case "steps":
		results, err := steps.Run(ctx, childSteps)
		return steps.Tables(results), err
	case "tcp":
		args := tcp.Args{Node: []string{childNode}, Server: []string{childServer}, Client: []string{childClient}}
		samples, err := tcp.Run(ctx, args, func(done, total int) {
			fmt.Fprintf(os.Stderr, "tcp: round %d of %d\n", done, total)
		})
		return tcp.Tables(samples), err
	case "agent":
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the built programs: %w", err)
		}
		results, err := agent.Run(ctx, agent.Config{
			Lab: filepath.Join("test", "lab", "lab"), Binaries: filepath.Dir(self), Args: []string{childAgent},
			Progress: os.Stderr,
		})
		return agent.Tables(results), err
	default:
		return nil, fmt.Errorf("no such section\n%s", usage)
	}
}

func runChild(ctx context.Context, args []string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	switch args[0] {
	case childPackets:
		return packets.Child(ctx, os.Stdin, os.Stdout, log)
	case childSteps:
		return steps.Child(ctx, os.Stdin, os.Stdout, log)
	case childAgent:
		return agent.Child(ctx, os.Stdin, os.Stdout, os.Stderr)
	case childNode:
		return node.Child(ctx, os.Stdin, os.Stdout, log)
	case childServer, childClient:
		return runEnd(args)
	default:
		return fmt.Errorf("%q: no such child", args[0])
	}
}

// runEnd is one end of a connection: ROLE MODE CPU, and of a client also
// ADDRESS DURATION.
func runEnd(args []string) error {
	if len(args) != 3 && len(args) != 5 {
		return fmt.Errorf("%q: want 3 arguments, or 5", args)
	}
	mode := tcp.Mode(args[1])
	cpu, err := strconv.Atoi(args[2])
	if err != nil {
		return fmt.Errorf("CPU: %w", err)
	}
	if args[0] == childServer {
		return tcp.Serve(mode, cpu, os.Stdout)
	}
	if len(args) != 5 {
		return fmt.Errorf("%q: want an address and a duration", args)
	}
	addr, err := netip.ParseAddr(args[3])
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	duration, err := time.ParseDuration(args[4])
	if err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	return tcp.Call(mode, cpu, addr, duration, os.Stdout)
}
