// Command torture resizes the tables of one node's datapath over and over, under
// thousands of long connections, new connections and queries, and kills the agent
// that moves them at random points. Agents whose flows are laid out in another way
// take over and are replaced again, also half-way. It counts what breaks, and measures
// latency while nothing moves and while each of these happens, in turns within one run. At the end it does what others do, and replaces the tables
// by empty ones.
//
// Invariants: everything happens in namespaces and processes that end with this
// one, however it ends; every byte of a long connection is compared; what is
// measured at a moment counts for one kind of window, or for none.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	Connections int           `json:"connections"` // long ones
	Rate        int           `json:"rate"`        // new connections a second, at most
	Queries     int           `json:"queries"`     // a second, at most
	Window      time.Duration `json:"window"`      // nanoseconds of each window
	Rounds      int           `json:"rounds"`      // of three windows
	Size        uint32        `json:"size"`        // entries of each table at first
	Fillers     int           `json:"fillers"`     // flows in the tables beside those of the load
	Empty       time.Duration `json:"empty"`       // how long to look after tables were replaced by empty ones
	Seed        uint64        `json:"seed"`        // of what is random
	// Other is this program as other-layout builds it; empty: layouts do not change.
	Other string `json:"other"`
}

// Forms of the command.
func long() options {
	return options{
		Connections: 10000, Rate: 20000, Queries: 50000, Window: 10 * time.Second, Rounds: 10,
		Size: 262144, Fillers: 100000, Empty: 15 * time.Second, Seed: 1,
	}
}

func short() options {
	return options{
		Connections: 1000, Rate: 500, Queries: 1000, Window: 4 * time.Second, Rounds: 2,
		Size: 65536, Fillers: 20000, Empty: 4 * time.Second, Seed: 1,
	}
}

// roleEnv makes this program one of its own children.
const roleEnv = "PLACID_TORTURE_ROLE"

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		exit(child(role))
	}
	o, isShort := long(), false
	for _, arg := range os.Args[1:] {
		if arg == "-short" || arg == "--short" {
			o = short()
		}
	}
	flag.BoolVar(&isShort, "short", false, "the form that takes less than a minute; other flags change it")
	flag.IntVar(&o.Connections, "connections", o.Connections, "long connections")
	flag.IntVar(&o.Rate, "rate", o.Rate, "new connections a second, at most")
	flag.IntVar(&o.Queries, "queries", o.Queries, "queries a second, at most")
	flag.DurationVar(&o.Window, "window", o.Window, "length of a window")
	flag.IntVar(&o.Rounds, "rounds", o.Rounds, "how often windows without moves, with moves, and with moves and kills follow each other")
	size := flag.Uint("size", uint(o.Size), "entries of each table at first")
	flag.IntVar(&o.Fillers, "fillers", o.Fillers, "flows in the tables beside those of the load")
	flag.DurationVar(&o.Empty, "empty", o.Empty, "how long to look after tables were replaced by empty ones")
	flag.Uint64Var(&o.Seed, "seed", o.Seed, "of what is random")
	flag.StringVar(&o.Other, "other", "", "this command as test/torture/other-layout builds it; its agent and this one's take over from each other in a window of their own")
	document := flag.String("write", "", "document to write the tables to, between its markers; its folder's img gets the plot")
	section := flag.String("section", "torture", "name of the markers, and end of the plot's name")
	flag.Parse()
	o.Size = uint32(*size)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(torture(ctx, o, *document, *section))
}

// exit ends the process.
func exit(err error) {
	code := 0
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		code = 1
	}
	os.Exit(code) //nolint:forbidigo // only main and TestMain call it
}

// torture runs, prints what it found, and fails when something broke.
func torture(ctx context.Context, o options, document, section string) error {
	r, err := spawnNode(ctx, o)
	if err != nil {
		return err
	}
	tables := r.tables()
	for i := range tables {
		fmt.Printf("%s\n", tables[i].markdown())
	}
	if document != "" {
		picture, err := r.svgDraw()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(document), "img", "resize-"+section+".svg"), picture, 0o644); err != nil {
			return fmt.Errorf("write the plot: %w", err)
		}
		if err := write(document, section, r.conditions(), tables); err != nil {
			return err
		}
	}
	return r.verdict()
}

// spawnNode runs the whole node in namespaces of its own, and returns what it found.
func spawnNode(ctx context.Context, o options) (*result, error) {
	in, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=node")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run the node: %w", errors.Join(err, ctx.Err()))
	}
	r := &result{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		return nil, fmt.Errorf("read what the node found: %w", err)
	}
	return r, nil
}

// child is what this program does as its own child.
func child(role string) error {
	switch role {
	case "node":
		var o options
		if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
			return fmt.Errorf("read options: %w", err)
		}
		r, err := runNode(context.Background(), o)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	case "agent":
		return serveAgent(os.Stdin, os.Stdout)
	case "server":
		return serve(os.Stdin, os.Stdout)
	case "load":
		return loads(os.Stdin, os.Stdout)
	}
	return fmt.Errorf("unknown role %q", role)
}

// untilEnd waits until the other side closes.
func untilEnd(in io.Reader) error {
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fmt.Errorf("wait for the end: %w", err)
	}
	return nil
}
