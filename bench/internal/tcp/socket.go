package tcp

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mode is what a client does with its connections.
type Mode string

// The modes.
const (
	RoundTrips Mode = "round trips"
	Connects   Mode = "connects"
	Stream     Mode = "stream"
)

// Modes lists all modes.
func Modes() []Mode { return []Mode{RoundTrips, Connects, Stream} }

// port is where the server of a mode listens.
func (m Mode) port() (int, error) {
	ports := map[Mode]int{RoundTrips: 5001, Connects: 5002, Stream: 5003}
	port, ok := ports[m]
	if !ok {
		return 0, fmt.Errorf("mode %q: want one of %v", m, Modes())
	}
	return port, nil
}

const (
	message  = 1         // bytes of a request and of its answer
	chunk    = 128 << 10 // bytes of a write to a stream
	backlog  = 128
	ioExpiry = 5 // seconds after which a client gives up
)

// bind makes the calling goroutine a thread of its own on one CPU, and keeps
// the runtime from interrupting it.
func bind(cpu int) error {
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind to CPU %d: %w", cpu, err)
	}
	return nil
}

// transfer reads or writes without telling Go's scheduler, which would
// otherwise take part in what is measured.
func transfer(call uintptr, fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, os.NewSyscallError("transfer", errno)
	}
	return int(n), nil
}

func read(fd int, b []byte) (int, error)  { return transfer(unix.SYS_READ, fd, b) }
func write(fd int, b []byte) (int, error) { return transfer(unix.SYS_WRITE, fd, b) }

// listen opens a socket for both families.
func listen(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, fmt.Errorf("reuse the address: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: port}); err != nil {
		return -1, fmt.Errorf("bind to port %d: %w", port, err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return -1, fmt.Errorf("listen on port %d: %w", port, err)
	}
	return fd, nil
}

// dial opens a connection that sends small messages at once.
func dial(addr netip.Addr, port int) (int, error) {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: port, Addr: addr.As16()})
	if addr.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: addr.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	expiry := unix.Timeval{Sec: ioExpiry}
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &expiry); err != nil {
			return -1, fmt.Errorf("limit the time to wait: %w", err)
		}
	}
	if err := unix.Connect(fd, to); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect to %s port %d: %w", addr, port, err)
	}
	return fd, noDelay(fd)
}

func noDelay(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("switch TCP_NODELAY on: %w", err)
	}
	return nil
}

// reset closes the connection at once, without a state that waits.
func reset(fd int) error {
	err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err != nil {
		return fmt.Errorf("set SO_LINGER: %w", err)
	}
	return unix.Close(fd)
}
