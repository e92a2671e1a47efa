package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Kinds of load, as results name them.
const (
	longDirect  = "long connections, pod to pod"
	longService = "long connections, to a ClusterIP"
	longMasked  = "long connections, masqueraded"
	fresh       = "new connections, to a ClusterIP"
	freshDirect = "new connections, pod to pod"
	queries     = "queries, to a ClusterIP"
	masked      = "queries, masqueraded"
)

const (
	blockSize = 64
	// pace is how often a long connection sends a block.
	pace = 5 * time.Second
	// longTimeout is how long it may take until the block is back.
	longTimeout  = 20 * time.Second
	freshTimeout = 10 * time.Second
	queryTimeout = 2 * time.Second
	workers      = 64 // of new connections, and of queries
	// perSocket is how many queries come from one port.
	perSocket = 16
	// maskedSockets ask all the time, to see their source port change.
	maskedSockets = 64
)

// loadSpec is what the client does.
type loadSpec struct{ options }

// client is the process that makes the load.
type client struct {
	spec    loadSpec
	samples *samples
	end     chan struct{}
	all     sync.WaitGroup
	dialled sync.WaitGroup
	opened  atomic.Int64
}

// loads opens the long connections, says that it is ready, makes load until the
// input ends, and then writes what it measured.
func loads(in io.Reader, out io.Writer) error {
	c := &client{samples: newSamples(), end: make(chan struct{})}
	if err := json.NewDecoder(in).Decode(&c.spec); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	c.openAll()
	c.dialled.Wait()
	if got := int(c.opened.Load()); got != c.spec.Connections {
		return fmt.Errorf("%d of %d long connections opened: %v", got, c.spec.Connections, c.samples.Failures)
	}
	for i := range workers {
		c.all.Go(func() { c.connects(i) })
		c.all.Go(func() { c.asks(i) })
	}
	for range maskedSockets {
		c.all.Go(c.asksMasked)
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	if err := untilEnd(in); err != nil {
		return err
	}
	close(c.end)
	c.all.Wait()
	return gob.NewEncoder(out).Encode(c.samples)
}

func (c *client) ended() bool {
	select {
	case <-c.end:
		return true
	default:
		return false
	}
}

// rest sleeps, and tells whether the end has not come.
func (c *client) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.end:
		return false
	case <-t.C:
		return true
	}
}

// openAll opens half of the long connections through the service, three tenths
// directly and the rest masqueraded, some at a time.
func (c *client) openAll() {
	places := make(chan struct{}, 128)
	for i := range c.spec.Connections {
		kind, to := longService, netip.AddrPortFrom(serviceAddr, uint16(tcpPort+i%longPorts))
		switch {
		case i%10 < 3:
			kind, to = longDirect, netip.AddrPortFrom(serverAddrs[i%len(serverAddrs)], uint16(directPort+i%longPorts))
		case i%10 < 5:
			kind, to = longMasked, netip.AddrPortFrom(outsideAddr, to.Port())
		}
		places <- struct{}{}
		c.dialled.Add(1)
		c.all.Go(func() {
			conn, err := net.DialTimeout("tcp4", to.String(), longTimeout)
			<-places
			if err != nil {
				c.samples.failed(kind, err)
				c.dialled.Done()
				return
			}
			c.opened.Add(1)
			c.dialled.Done()
			c.talks(kind, conn, uint64(i))
		})
	}
}

// talks sends blocks that no other connection sends, and compares what comes back.
func (c *client) talks(kind string, conn net.Conn, seed uint64) {
	defer func() { _ = conn.Close() }()
	random := rand.New(rand.NewPCG(c.spec.Seed, seed))
	block, back := make([]byte, blockSize), make([]byte, blockSize)
	for wait := time.Duration(random.Int64N(int64(pace))); c.rest(wait); wait = pace {
		for i := range block {
			block[i] = byte(random.Uint32())
		}
		began := time.Now()
		if err := exchange(conn, block, back, longTimeout); err != nil {
			c.samples.failed(kind, err)
			return
		}
		c.samples.took(kind, began, time.Since(began))
	}
}

var errData = errors.New("the data that came back differs")

// exchange sends a block and waits until it is back.
func exchange(conn net.Conn, block, back []byte, timeout time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := conn.Write(block); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, back); err != nil {
		return err
	}
	if !bytes.Equal(block, back) {
		return errData
	}
	return nil
}

// connects opens one connection after the other, at a worker's part of the rate.
func (c *client) connects(worker int) {
	interval := time.Second * workers / time.Duration(max(c.spec.Rate, 1))
	block, back := make([]byte, blockSize), make([]byte, blockSize)
	for i, next := worker, time.Now(); !c.ended(); i++ {
		if next = next.Add(interval); !c.rest(time.Until(next)) {
			return
		}
		next = latest(next, time.Now().Add(-time.Second)) // what could not be done in time is left out
		port := longPorts + i%(tcpPorts-longPorts)
		kind, to := fresh, netip.AddrPortFrom(serviceAddr, uint16(tcpPort+port))
		if i%4 == 0 {
			kind, to = freshDirect, netip.AddrPortFrom(serverAddrs[i/4%len(serverAddrs)], uint16(directPort+port))
		}
		began := time.Now()
		conn, err := net.DialTimeout("tcp4", to.String(), freshTimeout)
		if err == nil {
			err = errors.Join(exchange(conn, block, back, freshTimeout), conn.Close())
		}
		if err != nil {
			c.samples.failed(kind, err)
			continue
		}
		c.samples.took(kind, began, time.Since(began))
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// asks sends queries, perSocket of them from each socket.
func (c *client) asks(worker int) {
	interval := time.Second * workers / time.Duration(max(c.spec.Queries, 1))
	to := netip.AddrPortFrom(serviceAddr, queryPort).String()
	next := time.Now()
	for !c.ended() {
		conn, err := net.Dial("udp4", to)
		if err != nil {
			c.samples.failed(queries, err)
			return
		}
		for i := 0; i < perSocket && !c.ended(); i++ {
			if next = next.Add(interval); !c.rest(time.Until(next)) {
				break
			}
			next = latest(next, time.Now().Add(-time.Second))
			_, _ = c.ask(queries, conn, fmt.Sprintf("query %d %d %d", worker, next.UnixNano(), i))
		}
		_ = conn.Close()
	}
}

var errPort = errors.New("the masqueraded source port changed")

// asksMasked sends a query twice a second from one socket, and compares the port
// that the server sees.
func (c *client) asksMasked() {
	conn, err := net.Dial("udp4", netip.AddrPortFrom(outsideAddr, queryPort).String())
	if err != nil {
		c.samples.failed(masked, err)
		return
	}
	defer func() { _ = conn.Close() }()
	port := ""
	for i := 0; c.rest(time.Second / 2); i++ {
		seen, err := c.ask(masked, conn, fmt.Sprintf("masked %d", i))
		if err != nil {
			continue
		}
		if port != "" && seen != port {
			c.samples.failed(masked, errPort)
		}
		port = seen
	}
}

// ask sends a query and waits for its answer, which ends with the port that it
// came from.
func (c *client) ask(kind string, conn net.Conn, question string) (port string, err error) {
	began := time.Now()
	if err = conn.SetDeadline(began.Add(queryTimeout)); err != nil {
		return "", err
	}
	if _, err = conn.Write([]byte(question)); err == nil {
		for b := make([]byte, 512); ; {
			n, readErr := conn.Read(b)
			if err = readErr; err != nil {
				break
			}
			if answer, ok := strings.CutPrefix(string(b[:n]), question+" "); ok {
				c.samples.took(kind, began, time.Since(began))
				return answer, nil
			}
		}
	}
	c.samples.failed(kind, err)
	return "", err
}

// reason names an error.
func reason(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "no answer"
	}
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return "no answer"
	}
	return err.Error()
}
