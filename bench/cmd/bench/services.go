package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/placid-net/placid/bench/internal/kubeproxy"
	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/packets"
	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/services"
	"github.com/placid-net/placid/bench/internal/tcp"
)

// serviceTables measures what services cost: packets, connects, and the agent.
func serviceTables(ctx context.Context, short bool) ([]report.Table, error) {
	counts := services.Counts(short)
	perPacket, err := packets.RunServices(ctx, packets.ServicesConfig{
		Args: []string{childServicePackets}, Counts: counts, Short: short, Progress: os.Stderr,
	})
	if err != nil {
		return nil, err
	}
	connects, err := serviceConnects(ctx, counts, short)
	if err != nil {
		return nil, err
	}
	agent, err := services.Run(ctx, services.Config{Args: []string{childServices}, Short: short, Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	tables := append(packets.ServiceTables(perPacket), tcp.ServicesTables(connects)...)
	return append(tables, services.Tables(agent)...), nil
}

// serviceConnects measures connects in a process with mounts of its own.
func serviceConnects(ctx context.Context, counts []int, short bool) (out tcp.ServicesReport, err error) {
	self, err := os.Executable()
	if err != nil {
		return out, fmt.Errorf("find the built programs: %w", err)
	}
	spec := tcp.ServicesSpec{
		Args:  tcp.Args{Node: []string{childNode}, Server: []string{childServer}, Client: []string{childConnects}},
		Tools: kubeproxy.Tools{Folder: filepath.Dir(self), IPTables: filepath.Join(filepath.Dir(self), "iptables")},
		// kube-proxy was seen to take two minutes.
		Counts: counts, Rounds: 10, Duration: 100 * time.Millisecond, SyncLimit: 6 * time.Minute,
	}
	if short {
		spec.Rounds, spec.Duration = 2, 30*time.Millisecond
	}
	in, err := netlab.New()
	if err != nil {
		return out, err
	}
	defer in.Close()
	return out, node.Measure(ctx, in, spec, &out, childServicePaths)
}

// runConnects measures connects: CPU FIRST-ADDRESS COUNT PORT DURATION.
func runConnects(args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("%q: want a CPU, a first address, a count, a port and a duration", args)
	}
	cpu, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("CPU: %w", err)
	}
	to, err := tcp.ParseTargets(args[1:4])
	if err != nil {
		return err
	}
	duration, err := time.ParseDuration(args[4])
	if err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	return tcp.ConnectTimes(cpu, to, duration, os.Stdout)
}
