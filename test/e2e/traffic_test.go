package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

const (
	echoInterval = 10 * time.Millisecond // 100 a second
	echoGrace    = 3 * time.Second       // how late a reply may be
	dataInterval = 5 * time.Millisecond
	recordSize   = 4000 // bytes that a TCP flow sends at once: more than a packet
	dataTimeout  = 20 * time.Second
)

// tally is what one flow saw.
type tally struct {
	name           string
	sent, received int
	slowest        time.Duration // longest round trip
	err            error
}

// flow exchanges data until ctx ends, and then waits for what is under way.
type flow interface {
	run(ctx context.Context) tally
}

// load is traffic between places, TCP and ICMP in both families.
type load struct {
	stop    context.CancelFunc
	tallies chan tally
	flows   sync.WaitGroup
}

// startLoad opens a TCP connection and an ICMP flow of each family from the
// first to the second place of every pair.
func startLoad(t *testing.T, pairs ...[2]place) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	flows := make([]flow, 0, 4*len(pairs))
	for _, p := range pairs {
		for _, f := range families {
			for _, open := range []func(from, to place, f family) (flow, error){openTCP, openEcho} {
				fl, err := open(p[0], p[1], f)
				if err != nil {
					t.Fatal(err)
				}
				flows = append(flows, fl)
			}
		}
	}
	l := &load{stop: stop, tallies: make(chan tally, len(flows))}
	for _, fl := range flows {
		l.flows.Go(func() { l.tallies <- fl.run(ctx) })
	}
	t.Cleanup(func() { stop(); l.flows.Wait() })
	return l
}

// end stops the traffic and fails the test unless every flow carried at least
// minimum exchanges and lost none.
func (l *load) end(t *testing.T, minimum int) {
	t.Helper()
	l.stop()
	l.flows.Wait()
	close(l.tallies)
	for r := range l.tallies {
		t.Logf("%-38s sent %5d, lost %d, slowest answer after %s", r.name, r.sent, r.sent-r.received, r.slowest.Round(time.Millisecond))
		switch {
		case r.err != nil:
			t.Errorf("%s: %v", r.name, r.err)
		case r.sent != r.received:
			t.Errorf("%s: %d of %d lost", r.name, r.sent-r.received, r.sent)
		case r.sent < minimum:
			t.Errorf("%s: only %d exchanges, want at least %d: the traffic stood still", r.name, r.sent, minimum)
		}
	}
}

// tcpFlow is one connection whose server sends everything back.
type tcpFlow struct {
	name           string
	client, server net.Conn
}

func openTCP(from, to place, f family) (flow, error) {
	listener, err := inNetns(to.netns, func() (net.Listener, error) {
		return (&net.ListenConfig{}).Listen(background(), "tcp", netip.AddrPortFrom(to.addrs[f], 0).String())
	})
	if err != nil {
		return nil, fmt.Errorf("listen in %s: %w", to.name, err)
	}
	defer listener.Close()
	client, err := inNetns(from.netns, func() (net.Conn, error) {
		// By address: a dialler that races families uses other threads.
		return net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(listener.Addr().(*net.TCPAddr).AddrPort()))
	})
	if err != nil {
		return nil, fmt.Errorf("connect %s to %s: %w", from.name, to.name, err)
	}
	server, err := listener.Accept()
	if err != nil {
		return nil, fmt.Errorf("accept in %s: %w", to.name, err)
	}
	return &tcpFlow{fmt.Sprintf("TCP/%s %s to %s", f, from.name, to.name), client, server}, nil
}

func (f *tcpFlow) run(ctx context.Context) tally {
	defer f.client.Close()
	defer f.server.Close()
	go func() { _, _ = io.Copy(f.server, f.server) }() // an error shows at the client
	r := tally{name: f.name}
	tick := time.NewTicker(dataInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return r
		case <-tick.C:
		}
		began := time.Now()
		r.sent++
		if r.err = f.exchange(uint64(r.sent), dataTimeout); r.err != nil {
			return r
		}
		r.received++
		r.slowest = max(r.slowest, time.Since(began))
	}
}

// exchange sends a record that begins with number, and compares the answer.
func (f *tcpFlow) exchange(number uint64, timeout time.Duration) error {
	if err := f.client.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	var out, in [recordSize]byte
	binary.BigEndian.PutUint64(out[:], number)
	for i := 8; i < recordSize; i++ {
		out[i] = byte(number) + byte(i)
	}
	if _, err := f.client.Write(out[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(f.client, in[:]); err != nil {
		return err
	}
	if out != in {
		return errors.New("the answer differs from what was sent")
	}
	return nil
}

// echoFlow sends ICMP echo requests, which the other side's kernel answers.
type echoFlow struct {
	name   string
	family family
	conn   net.PacketConn
	to     net.Addr
	id     uint16

	mu       sync.Mutex
	waiting  map[uint16]time.Time
	received int
	slowest  time.Duration
}

const (
	icmp4Echo, icmp4Reply = 8, 0
	icmp6Echo, icmp6Reply = 128, 129
	icmpHeader            = 8
)

func openEcho(from, to place, f family) (flow, error) {
	network := [...]string{"ip4:icmp", "ip6:ipv6-icmp"}[f]
	conn, err := inNetns(from.netns, func() (net.PacketConn, error) {
		return (&net.ListenConfig{}).ListenPacket(background(), network, from.addrs[f].String())
	})
	if err != nil {
		return nil, fmt.Errorf("open ICMP socket in %s: %w", from.name, err)
	}
	port := to.addrs[f].As16() // something that tells the flows of a namespace apart
	return &echoFlow{
		name: fmt.Sprintf("ICMP/%s %s to %s", f, from.name, to.name), family: f, conn: conn,
		to: &net.IPAddr{IP: to.addrs[f].AsSlice()}, waiting: map[uint16]time.Time{},
		id: binary.BigEndian.Uint16(port[14:]) ^ 0x5ca1,
	}, nil
}

func (f *echoFlow) run(ctx context.Context) tally {
	var reader sync.WaitGroup
	reader.Go(f.read)
	r := tally{name: f.name}
	tick := time.NewTicker(echoInterval)
	defer tick.Stop()
	for done := false; !done && r.err == nil; {
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
			r.sent++
			r.err = f.send(uint16(r.sent))
		}
	}
	for deadline := time.Now().Add(echoGrace); f.pending() > 0 && time.Now().Before(deadline); {
		time.Sleep(echoInterval)
	}
	f.conn.Close()
	reader.Wait()
	r.received, r.slowest = f.received, f.slowest
	return r
}

func (f *echoFlow) pending() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting)
}

func (f *echoFlow) send(number uint16) error {
	var b [icmpHeader + 56]byte
	b[0] = [...]byte{icmp4Echo, icmp6Echo}[f.family]
	binary.BigEndian.PutUint16(b[4:], f.id)
	binary.BigEndian.PutUint16(b[6:], number)
	if f.family == ipv4 { // of ICMPv6 the kernel makes it
		binary.BigEndian.PutUint16(b[2:], checksum(b[:]))
	}
	f.mu.Lock()
	f.waiting[number] = time.Now()
	f.mu.Unlock()
	_, err := f.conn.WriteTo(b[:], f.to)
	return err
}

// read takes replies until the socket is closed.
func (f *echoFlow) read() {
	reply := [...]byte{icmp4Reply, icmp6Reply}[f.family]
	var b [1500]byte
	for {
		n, _, err := f.conn.ReadFrom(b[:])
		if err != nil {
			return
		}
		if n < icmpHeader || b[0] != reply || binary.BigEndian.Uint16(b[4:]) != f.id {
			continue
		}
		f.mu.Lock()
		number := binary.BigEndian.Uint16(b[6:])
		if sent, ok := f.waiting[number]; ok {
			delete(f.waiting, number)
			f.received++
			f.slowest = max(f.slowest, time.Since(sent))
		}
		f.mu.Unlock()
	}
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
