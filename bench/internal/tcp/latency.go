package tcp

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
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
	if _, _, err = repeat(step, warmUp); err != nil {
		return fmt.Errorf("round trips to %s: %w", addr, err)
	}
	times, _, err := repeat(step, duration)
	if err != nil {
		return fmt.Errorf("round trips to %s: %w", addr, err)
	}
	if err := done(); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	const micro = 1e6
	return json.NewEncoder(out).Encode(Latency{
		P50: micro * stats.Median(times), P99: micro * stats.Quantile(times, 0.99), P999: micro * stats.Quantile(times, 0.999),
		Trips: len(times),
	})
}
