package tcp

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/placid-net/placid/bench/internal/stats"
)

const (
	warmUp = 20 * time.Millisecond // how long a client works before it is measured
	// maxSteps is more than a client makes in a round.
	maxSteps = 1 << 17
)

// Call measures one mode for as long as given, and writes the rate to out, per
// second: of round trips and of connects (each with one round trip), as the
// median one takes, which a client that had to wait for its CPU still tells;
// of a stream in bits.
func Call(mode Mode, cpu int, addr netip.Addr, duration time.Duration, out io.Writer) error {
	port, err := mode.port()
	if err != nil {
		return err
	}
	if err = bind(cpu); err != nil {
		return err
	}
	step, done, err := steps(mode, addr, port)
	if err != nil {
		return err
	}
	if _, _, err = repeat(step, warmUp); err != nil {
		return fmt.Errorf("%s to %s: %w", mode, addr, err)
	}
	times, sum, err := repeat(step, duration)
	if err != nil {
		return fmt.Errorf("%s to %s: %w", mode, addr, err)
	}
	if err = done(); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	rate := 1 / stats.Median(times)
	if mode == Stream {
		rate = float64(sum) / duration.Seconds()
	}
	_, err = fmt.Fprintln(out, rate)
	return err
}

// repeat returns how many seconds each step took, and the sum of what they
// returned.
func repeat(step func() (int, error), duration time.Duration) (times []float64, sum int, err error) {
	times = make([]float64, 0, maxSteps)
	began := time.Now()
	for last := time.Duration(0); last < duration && len(times) < maxSteps; {
		n, err := step()
		if err != nil {
			return nil, 0, err
		}
		now := time.Since(began)
		times, sum, last = append(times, (now-last).Seconds()), sum+n, now
	}
	return times, sum, nil
}

// steps gives what the mode repeats, and how it ends.
func steps(mode Mode, addr netip.Addr, port int) (step func() (int, error), done func() error, err error) {
	buf := make([]byte, chunk)
	if mode == Connects {
		return func() (int, error) { return 1, connectOnce(addr, port, buf) }, func() error { return nil }, nil
	}
	fd, err := dial(addr, port)
	if err != nil {
		return nil, nil, err
	}
	done = func() error { return reset(fd) }
	if mode == RoundTrips {
		return func() (int, error) { return 1, roundTrip(fd, buf) }, done, nil
	}
	return func() (int, error) {
		n, err := write(fd, buf)
		return 8 * n, err
	}, done, nil
}

func roundTrip(fd int, buf []byte) error {
	if _, err := write(fd, buf[:message]); err != nil {
		return err
	}
	n, err := read(fd, buf)
	if err == nil && n != message {
		err = fmt.Errorf("an answer of %d bytes, want %d: %w", n, message, io.ErrUnexpectedEOF)
	}
	return err
}

func connectOnce(addr netip.Addr, port int, buf []byte) error {
	fd, err := dial(addr, port)
	if err != nil {
		return err
	}
	if err := roundTrip(fd, buf); err != nil {
		return err
	}
	return reset(fd)
}
