package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxBody is the most of an answer that is read, in bytes.
const maxBody = 4096

// tcpAsker sends HTTP requests. Not with http.Client, which hides errors by
// asking again.
type tcpAsker struct {
	target Target
	conn   net.Conn // the kept one
	in     *bufio.Reader
	again  int
}

func (a *tcpAsker) ask(ctx context.Context, number int) (answer, local string, err error) {
	old := a.conn != nil
	if !old {
		if a.conn, err = connect(ctx, a.target); err != nil {
			a.conn = nil
			return "", "", err
		}
		a.in = bufio.NewReader(a.conn)
	}
	local = a.conn.LocalAddr().String()
	answer, begun, keep, err := a.exchange(number)
	if err != nil && old && !begun && closedBefore(err) {
		a.close()
		a.again++
		return a.ask(ctx, number)
	}
	if err != nil || !keep || a.target.Socket == Fresh {
		a.close()
	}
	return answer, local, err
}

// closedBefore tells whether the server had ended the connection already.
func closedBefore(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// exchange asks on the connection. begun says that something of the answer came,
// keep that the connection may be used again.
func (a *tcpAsker) exchange(number int) (answer string, begun, keep bool, err error) {
	if err = a.conn.SetDeadline(time.Now().Add(a.target.Timeout)); err != nil {
		return "", false, false, err
	}
	path := a.target.Ask
	if a.target.Numbered {
		path += "%20" + strconv.Itoa(number)
	}
	more := "keep-alive"
	if a.target.Socket == Fresh {
		more = "close"
	}
	if _, err = fmt.Fprintf(a.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: %s\r\n\r\n", path, a.target.Addr, more); err != nil {
		return "", false, false, err
	}
	if _, err = a.in.Peek(1); err != nil {
		return "", false, false, err
	}
	response, err := http.ReadResponse(a.in, nil)
	if err != nil {
		return "", true, false, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	_ = response.Body.Close() // a longer one was cut, and differs
	if err != nil {
		return "", true, false, err
	}
	answer = strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK || a.target.Numbered && answer != strconv.Itoa(number) {
		return "", true, false, errWrong
	}
	return answer, true, !response.Close, nil
}

func (a *tcpAsker) listen(ctx context.Context) error {
	if a.conn == nil {
		return nil
	}
	return listenTo(ctx, a.conn)
}

func (a *tcpAsker) reopened() int { return a.again }

func (a *tcpAsker) close() {
	if a.conn != nil {
		_ = a.conn.Close() // what is lost with it was an error already
		a.conn = nil
	}
}
