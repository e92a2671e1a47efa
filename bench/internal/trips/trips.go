package trips

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/tcp"
)

// Commands make this program call tcp.Serve and tcp.Trips.
type Commands struct {
	Server []string `json:"server"`
	Client []string `json:"client"`
}

// Pair is two pods, the second of which serves.
type Pair struct {
	commands Commands
	cpu      int
	client   *netlab.Namespace
	target   netip.Addr
	stop     func()
}

// Begin starts the server in the second of the pods. Close the pair after use.
func Begin(commands Commands, pods []node.Pod, cpu int) (*Pair, error) {
	p := &Pair{commands: commands, cpu: cpu, target: pods[1].IPv4}
	server, err := netlab.Open(pods[1].Netns)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	if p.stop, err = p.serve(server); err != nil {
		return nil, err
	}
	if p.client, err = netlab.Open(pods[0].Netns); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// Close ends the server.
func (p *Pair) Close() {
	p.stop()
	p.client.Close()
}

// Measure measures round trips for a time.
func (p *Pair) Measure(ctx context.Context, d time.Duration) (l tcp.Latency, err error) {
	cmd := command(ctx, p.commands.Client, strconv.Itoa(p.cpu), p.target.String(), d.String())
	var out strings.Builder
	cmd.Stdout = &out
	if err = p.client.Start(cmd); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return l, fmt.Errorf("run the client: %w", err)
	}
	if err = json.Unmarshal([]byte(out.String()), &l); err != nil {
		return l, fmt.Errorf("read the client's answer: %w", err)
	}
	return l, nil
}

// InTurn calls measure for each of the ways, in another order each round.
func InTurn(rounds int, ways []string, measure func(way string) error) error {
	for range rounds {
		for _, i := range rand.Perm(len(ways)) {
			if err := measure(ways[i]); err != nil {
				return fmt.Errorf("round trips, %s: %w", ways[i], err)
			}
		}
	}
	return nil
}

func command(ctx context.Context, args []string, more ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append(slices.Clip(args), more...)...)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	return cmd
}

// serve starts the server in its pod, until stop is called.
func (p *Pair) serve(pod *netlab.Namespace) (stop func(), err error) {
	cmd := command(context.Background(), p.commands.Server, string(tcp.RoundTrips), strconv.Itoa(p.cpu))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	if err := pod.Start(cmd); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		stop()
		return nil, fmt.Errorf("the server did not become ready: %w", err)
	}
	return stop, nil
}
