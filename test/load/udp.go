package load

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// maxDatagram is the most of an answer that is read, in bytes.
const maxDatagram = 2048

// udpAsker sends datagrams.
type udpAsker struct {
	target Target
	conn   net.Conn     // the kept one
	open   *net.UDPConn // the one without a peer
}

func (a *udpAsker) ask(ctx context.Context, number int) (answer, local string, err error) {
	if a.target.Socket == Open {
		return a.askOpen(ctx, number)
	}
	if a.conn == nil {
		if a.conn, err = connect(ctx, a.target); err != nil {
			a.conn = nil
			return "", "", err
		}
	}
	local = a.conn.LocalAddr().String()
	answer, err = exchange(a.conn, a.question(number), a.answers(number), a.target.Timeout)
	if a.target.Socket == Fresh || err != nil && reason(err) != ReasonTimeout {
		a.close()
	}
	return answer, local, err
}

func (a *udpAsker) question(number int) string {
	if a.target.Numbered {
		return a.target.Ask + " " + strconv.Itoa(number)
	}
	return a.target.Ask
}

// answers tells whether a datagram answers the question, or an earlier one.
func (a *udpAsker) answers(number int) func(string) bool {
	return func(text string) bool { return !a.target.Numbered || text == strconv.Itoa(number) }
}

// exchange sends a question and takes datagrams until one answers it.
func exchange(conn net.Conn, question string, fits func(string) bool, timeout time.Duration) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte(question)); err != nil {
		return "", err
	}
	for b := make([]byte, maxDatagram); ; {
		n, err := conn.Read(b)
		if err != nil {
			return "", err
		}
		if text := strings.TrimSpace(string(b[:n])); fits(text) {
			return text, nil
		}
	}
}

// askOpen asks from the socket without a peer: every question names the server,
// and what another sends is no answer.
func (a *udpAsker) askOpen(ctx context.Context, number int) (answer, local string, err error) {
	if a.open == nil {
		network := "udp4"
		if a.target.Addr.Addr().Is6() {
			network = "udp6"
		}
		socket, listenErr := (&net.ListenConfig{}).ListenPacket(ctx, network, ":0")
		if listenErr != nil {
			return "", "", listenErr
		}
		a.open = socket.(*net.UDPConn)
	}
	local = a.open.LocalAddr().String()
	answer, err = exchange(&peered{a.open, a.target.Addr}, a.question(number), a.answers(number), a.target.Timeout)
	return answer, local, err
}

// peered is a socket without a peer that is used as if it had one.
type peered struct {
	*net.UDPConn
	peer netip.AddrPort
}

func (p *peered) Write(b []byte) (int, error) { return p.WriteToUDPAddrPort(b, p.peer) }

func (p *peered) Read(b []byte) (int, error) {
	for {
		n, from, err := p.ReadFromUDPAddrPort(b)
		if err != nil || netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) == p.peer {
			return n, err
		}
	}
}

func (a *udpAsker) listen(ctx context.Context) error {
	if a.conn == nil {
		return nil
	}
	return listenTo(ctx, a.conn)
}

func (a *udpAsker) reopened() int { return 0 }

func (a *udpAsker) close() {
	if a.conn != nil {
		_ = a.conn.Close() // what is lost with it was an error already
		a.conn = nil
	}
	if a.open != nil {
		_ = a.open.Close()
		a.open = nil
	}
}
