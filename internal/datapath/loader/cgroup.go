package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// ErrNoCgroup is returned for what is not a cgroup of version 2.
var ErrNoCgroup = errors.New("not a cgroup of version 2")

// CgroupDevice stands for the node's cgroup where a LinkKey names a device.
const CgroupDevice = "cgroup"

// Names of the programs of sockets, which run in a cgroup.
const (
	SockConnect4 = "sock_connect4"
	SockConnect6 = "sock_connect6"
	SockSendmsg4 = "sock_sendmsg4"
	SockSendmsg6 = "sock_sendmsg6"
	SockRecvmsg4 = "sock_recvmsg4"
	SockRecvmsg6 = "sock_recvmsg6"
	SockPeer4    = "sock_peer4"
	SockPeer6    = "sock_peer6"
)

// socketHooks says where each of them is called.
func socketHooks() map[string]ebpf.AttachType {
	return map[string]ebpf.AttachType{
		SockConnect4: ebpf.AttachCGroupInet4Connect,
		SockConnect6: ebpf.AttachCGroupInet6Connect,
		SockSendmsg4: ebpf.AttachCGroupUDP4Sendmsg,
		SockSendmsg6: ebpf.AttachCGroupUDP6Sendmsg,
		SockRecvmsg4: ebpf.AttachCGroupUDP4Recvmsg,
		SockRecvmsg6: ebpf.AttachCGroupUDP6Recvmsg,
		SockPeer4:    ebpf.AttachCgroupInet4GetPeername,
		SockPeer6:    ebpf.AttachCgroupInet6GetPeername,
	}
}

// cgroup is an open one.
type cgroup struct {
	file *os.File
	id   int // the kernel's
}

// OpenCgroup chooses the cgroup whose processes, and those of its children, have
// their sockets balanced. Nothing is attached yet: SocketLinks are the rows for
// that. The error wraps ErrNoCgroup when path is something else.
func (l *Loader) OpenCgroup(path string) error {
	c, err := openCgroup(path)
	if err != nil {
		return err
	}
	old := l.cgroup
	l.cgroup = c
	return old.close()
}

func openCgroup(path string) (*cgroup, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(int(f.Fd()), &fs), unix.Fstat(int(f.Fd()), &st)); err != nil {
		return nil, errors.Join(fmt.Errorf("inspect cgroup %s: %w", path, err), f.Close())
	}
	if uint32(fs.Type) != unix.CGROUP2_SUPER_MAGIC || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, errors.Join(fmt.Errorf("%s: %w (type %#x)", path, ErrNoCgroup, uint32(fs.Type)), f.Close())
	}
	return &cgroup{file: f, id: int(st.Ino)}, nil
}

func (c *cgroup) close() error {
	if c == nil {
		return nil
	}
	return c.file.Close()
}

// SocketLinks are the rows of Links that balance sockets in the open cgroup. There
// are none without one, or when the configuration has no services.
func (l *Loader) SocketLinks() map[LinkKey]int {
	rows := map[LinkKey]int{}
	if l.cgroup == nil {
		return rows
	}
	for program := range socketHooks() {
		if l.programs[program] != nil {
			rows[LinkKey{Device: CgroupDevice, Program: program}] = l.cgroup.id
		}
	}
	return rows
}

// linkCgroup attaches the program to the open cgroup, which id must be of.
func (l *Loader) linkCgroup(prog *ebpf.Program, hook ebpf.AttachType, id int) (link.Link, error) {
	if l.cgroup == nil || l.cgroup.id != id {
		return nil, fmt.Errorf("%w: cgroup %d is not open", ErrNoDevice, id)
	}
	return link.AttachRawLink(link.RawLinkOptions{Target: int(l.cgroup.file.Fd()), Program: prog, Attach: hook})
}
