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
	"github.com/placid-net/placid/bench/internal/flood"
	"github.com/placid-net/placid/bench/internal/gc"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/packets"
	"github.com/placid-net/placid/bench/internal/planner"
	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/resize"
	"github.com/placid-net/placid/bench/internal/services"
	"github.com/placid-net/placid/bench/internal/steps"
	"github.com/placid-net/placid/bench/internal/tcp"
	"github.com/placid-net/placid/bench/internal/trips"
)

const usage = `usage: bench [-short] DOCUMENT SECTION...

Measures each section, prints its tables, and writes them to DOCUMENT; with
-short only as much as shows that it works, and writes nothing. Needs root.
Sections: packets, gc, resize, flood, tcp, steps, services, planner, agent.`

// Arguments by which the program calls itself in another namespace or node.
const (
	childPackets = "child-packets"
	childSteps   = "child-steps"
	childAgent   = "child-agent"
	childNode    = "child-node"
	childServer  = "child-server"
	childClient  = "child-client"
	childTrips   = "child-trips"
	childGC      = "child-gc"
	childResize  = "child-resize"
	childFlood   = "child-flood"

	childServices       = "child-services"
	childServicePackets = "child-service-packets"
	childServicePaths   = "child-service-paths"
	childConnects       = "child-connects"
)

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], "child-") {
		return runChild(ctx, args)
	}
	short := len(args) > 0 && args[0] == "-short"
	if short {
		args = args[1:]
	}
	if len(args) < 2 || strings.HasPrefix(args[0], "-") {
		return fmt.Errorf("%d arguments\n%s", len(args), usage)
	}
	for _, section := range args[1:] {
		if err := measure(ctx, args[0], section, short); err != nil {
			return fmt.Errorf("%s: %w", section, err)
		}
	}
	return nil
}

// measure measures one section and writes it to the document.
func measure(ctx context.Context, document, section string, short bool) error {
	conditions := report.Conditions(time.Now())
	tables, err := tablesOf(ctx, section, short)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s\n\n", section, conditions)
	for i := range tables {
		fmt.Println(tables[i].Markdown())
	}
	if short {
		return nil
	}
	return report.Write(document, section, conditions, tables)
}

// tripCommands make this program serve and ask in pods.
func tripCommands() trips.Commands {
	return trips.Commands{Server: []string{childServer}, Client: []string{childTrips}}
}

func tablesOf(ctx context.Context, section string, short bool) ([]report.Table, error) {
	switch section {
	case "packets":
		results, err := packets.Run(ctx, packets.Config{Args: []string{childPackets}, Short: short})
		return packets.Tables(results), err
	case "gc":
		results, err := gc.Run(ctx, gc.Config{Args: []string{childGC}, Trips: tripCommands(), Short: short})
		return gc.Tables(results), err
	case "resize":
		results, err := resize.Run(ctx, resize.Config{Args: []string{childResize}, Trips: tripCommands(), Short: short})
		return resize.Tables(results), err
	case "flood":
		results, err := flood.Run(ctx, short, childFlood)
		return flood.Tables(results), err
	case "steps":
		results, err := steps.Run(ctx, short, childSteps)
		return steps.Tables(results), err
	case "tcp":
		args := tcp.Args{Node: []string{childNode}, Server: []string{childServer}, Client: []string{childClient}}
		size := tcp.NewSize(short)
		samples, err := tcp.Run(ctx, args, size, func(done, total int) {
			fmt.Fprintf(os.Stderr, "tcp: round %d of %d\n", done, total)
		})
		return tcp.Tables(samples, size), err
	case "services":
		return serviceTables(ctx, short)
	case "planner":
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the built programs: %w", err)
		}
		results, err := planner.Run(ctx, filepath.Join(filepath.Dir(self), "placid"), short)
		return planner.Tables(results), err
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
	case childGC:
		return gc.Child(ctx, os.Stdin, os.Stdout, log)
	case childResize:
		return resize.Child(ctx, os.Stdin, os.Stdout, log)
	case childFlood:
		return flood.Child(ctx, os.Stdin, os.Stdout, log)
	case childServices:
		return services.Child(ctx, os.Stdin, os.Stdout, log)
	case childServicePackets:
		return packets.ServicesChild(ctx, os.Stdin, os.Stdout, log)
	case childServicePaths:
		return tcp.ServicesChild(ctx, os.Stdin, os.Stdout, os.Stderr)
	case childConnects:
		return runConnects(args[1:])
	case childTrips:
		return runTrips(args[1:])
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
	addr, duration, err := parseCall(args[3:])
	if err != nil {
		return err
	}
	return tcp.Call(mode, cpu, addr, duration, os.Stdout)
}

// parseCall reads an address and a duration.
func parseCall(args []string) (netip.Addr, time.Duration, error) {
	addr, err := netip.ParseAddr(args[0])
	if err != nil {
		return addr, 0, fmt.Errorf("address: %w", err)
	}
	duration, err := time.ParseDuration(args[1])
	if err != nil {
		return addr, 0, fmt.Errorf("duration: %w", err)
	}
	return addr, duration, nil
}

// runTrips measures round trips: CPU ADDRESS DURATION.
func runTrips(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%q: want a CPU, an address and a duration", args)
	}
	cpu, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("CPU: %w", err)
	}
	addr, duration, err := parseCall(args[1:])
	if err != nil {
		return err
	}
	return tcp.Trips(cpu, addr, duration, os.Stdout)
}
