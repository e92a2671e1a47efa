package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Protocol is what questions are asked over.
type Protocol string

// The protocols.
const (
	TCP Protocol = "tcp" // HTTP/1.1
	UDP Protocol = "udp" // a datagram, answered by a datagram
)

// Socket is how sockets are used.
type Socket string

// The uses of sockets.
const (
	// Fresh is a socket for each question.
	Fresh Socket = "fresh"
	// Kept is a connected socket for all questions; after an error, another one. A
	// datagram that gets no answer is no such error.
	Kept Socket = "kept"
	// Open is one UDP socket without a peer for all questions.
	Open Socket = "open"
	// Held is a connected socket for one question, that is then only listened to.
	// When it ends, that is an error, with its time.
	Held Socket = "held"
)

// Target is a server, and how it is asked.
type Target struct {
	Name     string         `json:"name"` // of the result
	Protocol Protocol       `json:"protocol"`
	Addr     netip.AddrPort `json:"addr"`
	Socket   Socket         `json:"socket"`
	// Ask is the path of the request, or the datagram. With Numbered its end is a
	// blank and the question's number, which has to be the answer.
	Ask      string        `json:"ask"`
	Numbered bool          `json:"numbered,omitempty"`
	Count    int           `json:"count,omitempty"`    // questions; 0: until Run is to end
	Interval time.Duration `json:"interval,omitempty"` // nanoseconds from one question to the next
	Timeout  time.Duration `json:"timeout"`            // nanoseconds for one question
}

// Result is what became of the questions to a target.
type Result struct {
	Name     string `json:"name"`
	Asked    int    `json:"asked"`
	Answered int    `json:"answered"`
	// Reopened counts kept connections that the server had closed between questions.
	Reopened int            `json:"reopened,omitempty"`
	Answers  map[string]int `json:"answers"` // how often each, of the first hundred different ones
	Errors   map[string]int `json:"errors"`  // by reason
	Failures []Failure      `json:"failures,omitempty"`
	Slowest  time.Duration  `json:"slowest"` // nanoseconds until an answer
}

// Failure is an error of one question; a Result has the first twenty.
type Failure struct {
	Number int       `json:"number"` // of the question, from 1
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Local  string    `json:"local,omitempty"` // address and port that asked
	// Earlier is the number of the last question before from there: to a node it may
	// be the same flow. 0: there was none.
	Earlier int `json:"earlier,omitempty"`
}

const (
	maxAnswers  = 100
	maxFailures = 20
)

// Reasons of errors that have a name; others are what the system says.
const (
	ReasonTimeout     = "timeout"
	ReasonRefused     = "refused"
	ReasonReset       = "reset"
	ReasonAborted     = "aborted" // the kernel was told to end the socket
	ReasonClosed      = "closed"  // by the server
	ReasonUnreachable = "unreachable"
	ReasonWrong       = "wrong answer"
)

// errWrong says that an answer is none to the question.
var errWrong = errors.New(ReasonWrong)

func reason(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return ReasonTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return ReasonRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ReasonReset
	case errors.Is(err, syscall.ECONNABORTED):
		return ReasonAborted
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return ReasonUnreachable
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ReasonClosed
	}
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return ReasonTimeout
	}
	return err.Error()
}

// asker asks one question after the other.
type asker interface {
	// ask returns the answer, and the address that asked, if there was one.
	ask(ctx context.Context, number int) (answer, local string, err error)
	// listen waits until the peer or the kernel ends the socket.
	listen(ctx context.Context) error
	reopened() int
	close()
}

func newAsker(t Target) (asker, error) {
	switch {
	case t.Timeout <= 0 || !t.Addr.IsValid():
	case t.Protocol == TCP && (t.Socket == Fresh || t.Socket == Kept || t.Socket == Held):
		return &tcpAsker{target: t}, nil
	case t.Protocol == UDP && (t.Socket == Fresh || t.Socket == Kept || t.Socket == Open || t.Socket == Held):
		return &udpAsker{target: t}, nil
	}
	return nil, fmt.Errorf("target %q: %s over %q at %s with timeout %s: the protocol is tcp or udp, the socket fresh, kept, held or, for udp, open, and the timeout above 0",
		t.Name, t.Socket, t.Protocol, t.Addr, t.Timeout)
}

// Run asks all targets side by side, until each was asked as often as it says, or
// ctx ends; what is under way then has its time. The results are in the order of
// the targets. An error names the target that makes no sense; none was asked.
func Run(ctx context.Context, targets []Target) ([]Result, error) {
	askers := make([]asker, len(targets))
	for i, t := range targets {
		a, err := newAsker(t)
		if err != nil {
			return nil, err
		}
		askers[i] = a
	}
	out := make([]Result, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		all.Go(func() {
			defer askers[i].close()
			out[i] = run(ctx, t, askers[i])
		})
	}
	all.Wait()
	return out, nil
}

func run(ctx context.Context, t Target, a asker) Result {
	r := Result{Name: t.Name, Answers: map[string]int{}, Errors: map[string]int{}}
	tick := time.NewTicker(max(t.Interval, time.Nanosecond))
	defer tick.Stop()
	asked := map[string]int{} // the last question of each address and port
	// An idle target has no question that ctx could end: its first one is asked.
	for number := 1; (t.Count == 0 || number <= t.Count) && (number == 1 || ctx.Err() == nil); number++ {
		began := time.Now()
		answer, local, err := a.ask(context.WithoutCancel(ctx), number)
		r.Asked++
		if err != nil {
			r.fail(Failure{Number: number, Local: local, Earlier: asked[local]}, err)
		} else {
			r.answer(answer, time.Since(began))
		}
		asked[local] = number
		if t.Socket == Held {
			if err := a.listen(ctx); err != nil && ctx.Err() == nil {
				r.fail(Failure{Number: number, Local: local}, err)
			}
			break
		}
		if t.Interval > 0 && number != t.Count {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}
	r.Reopened = a.reopened()
	return r
}

func (r *Result) answer(text string, took time.Duration) {
	r.Answered++
	if _, known := r.Answers[text]; known || len(r.Answers) < maxAnswers {
		r.Answers[text]++
	}
	r.Slowest = max(r.Slowest, took)
}

func (r *Result) fail(f Failure, err error) {
	f.At, f.Reason = time.Now(), reason(err)
	r.Errors[f.Reason]++
	if len(r.Failures) < maxFailures {
		r.Failures = append(r.Failures, f)
	}
}

// connect opens a socket to the target. No resolver and no race of families is
// needed for an address.
func connect(ctx context.Context, t Target) (net.Conn, error) {
	d := net.Dialer{Timeout: t.Timeout, KeepAlive: -1}
	return d.DialContext(ctx, string(t.Protocol), t.Addr.String())
}

// listenTo reads until the socket ends, or ctx does, and returns why it ended.
func listenTo(ctx context.Context, conn net.Conn) error {
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	for b := make([]byte, maxDatagram); ; {
		if _, err := conn.Read(b); err != nil {
			return err
		}
	}
}
