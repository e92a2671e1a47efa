package sockets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/dump"
)

// Messages of NETLINK_SOCK_DIAG: linux/sock_diag.h, linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21

	requestSize = 56 // struct inet_diag_req_v2
	messageSize = 72 // struct inet_diag_msg
	idSize      = 48 // struct inet_diag_sockid
)

// connected are the states, as bits, of sockets that have a peer.
const connected = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11 // ESTABLISHED to CLOSING, without TIME_WAIT, CLOSE and LISTEN

// request is a struct inet_diag_req_v2.
type request struct {
	family, proto uint8
	states        uint32
	id            [idSize]byte
}

// Len is the size in bytes.
func (r *request) Len() int { return requestSize }

// Serialize gives the form of the kernel.
func (r *request) Serialize() []byte {
	b := make([]byte, requestSize)
	b[0], b[1] = r.family, r.proto
	binary.NativeEndian.PutUint32(b[4:], r.states)
	copy(b[requestSize-idSize:], r.id[:])
	return b
}

// socket is one that the kernel told of.
type socket struct {
	family, proto uint8
	peer          netip.AddrPort
	cookie        uint64
	id            [idSize]byte // what the kernel finds it by
}

// parse reads a struct inet_diag_msg.
func parse(msg []byte, proto uint8) (socket, error) {
	const (
		idAt     = 4
		peerAt   = idAt + 2
		dstAt    = idAt + 20
		cookieAt = idAt + 40
	)
	if len(msg) < messageSize {
		return socket{}, fmt.Errorf("list sockets: the kernel's answer has %d bytes, want %d", len(msg), messageSize)
	}
	s := socket{family: msg[0], proto: proto, id: [idSize]byte(msg[idAt:])}
	addr := netip.AddrFrom16([16]byte(msg[dstAt:]))
	if s.family == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(msg[dstAt:]))
	}
	s.peer = netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(msg[peerAt:]))
	s.cookie = uint64(binary.NativeEndian.Uint32(msg[cookieAt:])) | uint64(binary.NativeEndian.Uint32(msg[cookieAt+4:]))<<32
	return s, nil
}

// namespace asks the kernel about the sockets of one network namespace.
type namespace struct{ handle *nl.SocketHandle }

// open enters the namespace of that path; "" is the calling process's. The answer
// is false when it is gone.
func open(path string) (namespace, bool, error) {
	ns := netns.None()
	if path != "" {
		var err error
		if ns, err = netns.GetFromPath(path); errors.Is(err, fs.ErrNotExist) {
			return namespace{}, false, nil
		} else if err != nil {
			return namespace{}, false, fmt.Errorf("open network namespace %s: %w", path, err)
		}
		defer func() { _ = ns.Close() }()
	}
	s, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_SOCK_DIAG)
	if path != "" && errors.Is(err, unix.EINVAL) {
		return namespace{}, false, nil // what was mounted there is no namespace any more
	}
	if err != nil {
		return namespace{}, false, fmt.Errorf("list sockets of network namespace %q: %w", path, err)
	}
	return namespace{&nl.SocketHandle{Socket: s}}, true, nil
}

func (n namespace) close() { n.handle.Close() }

// send sends one request and returns the answers.
func (n namespace) send(kind, flags int, r *request) ([][]byte, error) {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_SOCK_DIAG: n.handle}
	req.AddData(r)
	return req.Execute(unix.NETLINK_SOCK_DIAG, 0)
}

// list calls f for every socket with a peer.
func (n namespace) list(f func(socket) error) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			msgs, err := dump.Whole(func() ([][]byte, error) {
				return n.send(sockDiagByFamily, unix.NLM_F_DUMP, &request{family: family, proto: proto, states: connected})
			})
			if errors.Is(err, unix.ENOENT) && family == unix.AF_INET6 {
				continue // a kernel without IPv6
			}
			if err != nil {
				return fmt.Errorf("list sockets: %w", err)
			}
			for _, msg := range msgs {
				s, err := parse(msg, proto)
				if err == nil {
					err = f(s)
				}
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// end destroys a socket: the process sees ECONNABORTED. One that is gone already
// is success.
func (n namespace) end(s socket) error {
	_, err := n.send(sockDestroy, unix.NLM_F_ACK, &request{family: s.family, proto: s.proto, id: s.id})
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return ErrNotSupported
	case err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESTALE):
		return fmt.Errorf("end socket to %s: %w", s.peer, err)
	}
	return nil
}
