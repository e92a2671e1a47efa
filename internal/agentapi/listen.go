package agentapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// MaxSocketPath is the longest path of a unix socket that the kernel takes, in
// bytes.
const MaxSocketPath = 107

// socketMode lets only the owner, root, connect.
const socketMode = 0o600

// Listen opens the agent's unix socket at path with mode 0600 from its first
// moment on, and makes its folder (0755) when there is none. A socket that a
// killed agent left behind is replaced; one that something answers on, a file
// that is no socket, and a folder that others may write to are errors. The
// socket is removed when the listener is closed.
func Listen(path string) (net.Listener, error) {
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("socket path %s has %d bytes, the kernel allows %d: choose a shorter socket-path", path, len(path), MaxSocketPath)
	}
	if err := socketDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var modeErr error
		// The mode that the descriptor has when it is bound is the file's.
		if err := c.Control(func(fd uintptr) { modeErr = syscall.Fchmod(int(fd), socketMode) }); err != nil {
			return err
		}
		return modeErr
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

func socketDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the socket's folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the socket's folder: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("socket folder %s has mode %v: others could replace the socket; use a folder that only root may write to, e.g. %s",
			dir, info.Mode(), filepath.Dir(DefaultSocket))
	}
	return nil
}

// removeStale removes the socket at path if nobody listens on it.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is no socket (%v): remove it or choose another socket-path", path, info.Mode())
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("another process answers on %s: only one placid-agent may run on a node", path)
	}
	// Only a refusal proves that nobody listens; a full backlog, say, does not.
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("see whether anybody answers on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the stale socket: %w", err)
	}
	return nil
}
