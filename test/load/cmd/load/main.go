// Command load asks servers questions and tells what became of them. It reads
// targets from its standard input, a JSON list of one line (load.Target), and
// asks until each was asked as often as it says, or it gets SIGINT or SIGTERM;
// targets without a number of questions are asked until the input ends. Then it writes the results (load.Result), a JSON list in the
// order of the targets.
//
//	echo '[{"name": "web", "protocol": "tcp", "addr": "10.96.0.10:80", "socket": "fresh",
//	  "ask": "/hostname", "count": 1000, "timeout": 1000000000}]' | tr -d '\n' | load
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/placid-net/placid/test/load"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(stdin io.Reader, stdout io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	in := bufio.NewReader(stdin)
	line, err := in.ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read targets: %w", err)
	}
	var targets []load.Target
	if err = json.Unmarshal(line, &targets); err != nil {
		return fmt.Errorf("decode targets, a JSON list in one line: %w", err)
	}
	if slices.ContainsFunc(targets, func(t load.Target) bool { return t.Count == 0 }) {
		go func() {
			_, _ = io.Copy(io.Discard, in) // the end is all that is waited for
			stop()
		}()
	}
	results, err := load.Run(ctx, targets)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(results)
}
