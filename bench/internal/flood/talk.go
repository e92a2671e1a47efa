package flood

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
)

const (
	servicePort = 5001
	patience    = 5 * time.Second       // with one round trip or connect
	newPace     = 10 * time.Millisecond // between two honest new connections
)

// serve answers every byte in the pod until the listener is closed.
func serve(pod *netlab.Namespace) (io.Closer, error) {
	var l net.Listener
	err := pod.Do(func() (err error) {
		l, err = net.Listen("tcp", ":"+strconv.Itoa(servicePort))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen in the pod: %w", err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c) // until the client ends it
				_ = c.Close()
			}()
		}
	}()
	return l, nil
}

// client is where connections come from.
type client struct {
	name  string
	from  *netlab.Namespace
	to    netip.Addr
	conns []net.Conn
}

// dial opens a connection and makes a round trip, after which the node knows it
// as established: its client has gone on after an answer.
func (c *client) dial(ctx context.Context) (conn net.Conn, err error) {
	d := net.Dialer{Timeout: patience}
	err = c.from.Do(func() error {
		conn, err = d.DialContext(ctx, "tcp", netip.AddrPortFrom(c.to, servicePort).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := roundTrip(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func roundTrip(conn net.Conn) error {
	var b [1]byte
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write(b[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, b[:])
	return err
}

// establish opens so many connections that stay.
func (c *client) establish(ctx context.Context, n int) error {
	for range n {
		conn, err := c.dial(ctx)
		if err != nil {
			return fmt.Errorf("open a connection %s: %w", c.name, err)
		}
		c.conns = append(c.conns, conn)
	}
	return nil
}

func (c *client) close() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// exchange makes round trips on one connection after the other until ctx ends,
// and returns what each took, in microseconds. A connection that fails is lost.
func (c *client) exchange(ctx context.Context) (trips []float64, lost int) {
	for ctx.Err() == nil && len(c.conns) > 0 {
		for i := 0; i < len(c.conns) && ctx.Err() == nil; i++ {
			began := time.Now()
			if roundTrip(c.conns[i]) != nil {
				_ = c.conns[i].Close()
				c.conns = append(c.conns[:i], c.conns[i+1:]...)
				lost++
				continue
			}
			trips = append(trips, float64(time.Since(began).Nanoseconds())/1e3)
		}
	}
	return trips, lost
}

// open opens one honest connection after the other until ctx ends. It returns
// what each took, in microseconds, and how many failed.
func (c *client) open(ctx context.Context) (took []float64, failed int) {
	tick := time.NewTicker(newPace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return took, failed
		case <-tick.C:
		}
		began := time.Now()
		conn, err := c.dial(context.WithoutCancel(ctx))
		if err != nil {
			failed++
			continue
		}
		took = append(took, float64(time.Since(began).Nanoseconds())/1e3)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

// flow gives the ends of a connection.
func flow(conn net.Conn) (from, to netip.AddrPort) {
	ends := [2]netip.AddrPort{}
	for i, a := range []net.Addr{conn.LocalAddr(), conn.RemoteAddr()} {
		if t, ok := a.(*net.TCPAddr); ok {
			end := t.AddrPort()
			ends[i] = netip.AddrPortFrom(end.Addr().Unmap(), end.Port())
		}
	}
	return ends[0], ends[1]
}

// clients are those of a pod of the node and those outside, in both families.
func clients(pod, outside *netlab.Namespace, server node.Pod) []*client {
	return []*client{
		{name: "from a pod of the node, IPv4", from: pod, to: server.IPv4},
		{name: "from a pod of the node, IPv6", from: pod, to: server.IPv6},
		{name: "from outside, IPv4", from: outside, to: server.IPv4},
		{name: "from outside, IPv6", from: outside, to: server.IPv6},
	}
}
