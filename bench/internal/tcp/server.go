package tcp

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Serve answers the clients of one mode, one connection after another, for
// ever. It writes a line to ready when it listens.
func Serve(mode Mode, cpu int, ready io.Writer) error {
	port, err := mode.port()
	if err != nil {
		return err
	}
	if err = bind(cpu); err != nil {
		return err
	}
	l, err := listen(port)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(ready, "ready"); err != nil {
		return fmt.Errorf("tell that the server is ready: %w", err)
	}
	buf := make([]byte, chunk)
	for {
		fd, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		answer(mode, fd, buf)
		if mode == Connects {
			err = reset(fd)
		} else {
			err = unix.Close(fd)
		}
		if err != nil {
			return fmt.Errorf("close a connection: %w", err)
		}
	}
}

// answer serves one connection until its client ends it. A client that is
// killed is no error.
func answer(mode Mode, fd int, buf []byte) {
	if mode != Stream && noDelay(fd) != nil {
		return
	}
	for {
		n, err := read(fd, buf)
		if err != nil || n == 0 {
			return
		}
		if mode == Stream {
			continue
		}
		if _, err := write(fd, buf[:n]); err != nil || mode == Connects {
			return
		}
	}
}
