package tcp

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"github.com/placid-net/placid/bench/internal/stats"
)

// Latency is how long round trips took, in microseconds.
type Latency struct {
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Trips int     `json:"trips"`
}

// Trips makes round trips on one connection to the server of RoundTrips for as
// long as given, and writes their Latency to out, as JSON.
func Trips(cpu int, addr netip.Addr, duration time.Duration, out io.Writer) error {
	port, err := RoundTrips.port()
	if err != nil {
		return err
	}
	if err = bind(cpu); err != nil {
		return err
	}
	step, done, err := steps(RoundTrips, addr, port)
	if err != nil {
		return err
	}
	times, err := timed(step, duration)
	if err != nil {
		return fmt.Errorf("round trips to %s: %w", addr, err)
	}
	if err := done(); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	return writeLatency(times, out)
}

// timed returns how many seconds each step took, after a warm-up.
func timed(step func() (int, error), duration time.Duration) ([]float64, error) {
	if _, _, err := repeat(step, warmUp); err != nil {
		return nil, err
	}
	times, _, err := repeat(step, duration)
	return times, err
}

func writeLatency(times []float64, out io.Writer) error {
	const micro = 1e6
	return json.NewEncoder(out).Encode(Latency{
		P50: micro * stats.Median(times), P99: micro * stats.Quantile(times, 0.99), P999: micro * stats.Quantile(times, 0.999),
		Trips: len(times),
	})
}

// Targets are Count IPv4 addresses that follow each other, and a port.
type Targets struct {
	First netip.Addr
	Count int
	Port  int
}

// args are the words by which a client is told.
func (t Targets) args() []string {
	return []string{t.First.String(), strconv.Itoa(t.Count), strconv.Itoa(t.Port)}
}

// ParseTargets reads First, Count and Port.
func ParseTargets(args []string) (t Targets, err error) {
	if len(args) != 3 {
		return t, fmt.Errorf("%q: want an address, a count and a port", args)
	}
	if t.First, err = netip.ParseAddr(args[0]); err != nil {
		return t, fmt.Errorf("address: %w", err)
	}
	if t.Count, err = strconv.Atoi(args[1]); err != nil || t.Count < 1 || !t.First.Is4() {
		return t, fmt.Errorf("count %q of addresses from %s on: want at least one, of IPv4", args[1], t.First)
	}
	if t.Port, err = strconv.Atoi(args[2]); err != nil {
		return t, fmt.Errorf("port: %w", err)
	}
	return t, nil
}

// pick is one of the addresses.
func (t Targets) pick() netip.Addr {
	b := t.First.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(rand.IntN(t.Count)))
	return netip.AddrFrom4(b)
}

// ConnectTimes opens connections, each to a random one of the targets, where the
// server of Connects is reached, for as long as given, and writes their Latency
// with one round trip to out, as JSON.
func ConnectTimes(cpu int, to Targets, duration time.Duration, out io.Writer) error {
	if err := bind(cpu); err != nil {
		return err
	}
	buf := make([]byte, chunk)
	times, err := timed(func() (int, error) { return 1, connectOnce(to.pick(), to.Port, buf) }, duration)
	if err != nil {
		return fmt.Errorf("connects to %s and %d more: %w", to.First, to.Count-1, err)
	}
	return writeLatency(times, out)
}
