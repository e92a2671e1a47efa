package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// serverSpec is where a server listens.
type serverSpec struct {
	Addr netip.Addr `json:"addr"`
}

// receiveBuffer of a server's UDP socket, in bytes: what is lost shall be the
// datapath's fault.
const receiveBuffer = 16 << 20

// serve sends back what connections send, and answers datagrams with themselves and
// the port that they came from, until the input ends.
func serve(in io.Reader, out io.Writer) error {
	var spec serverSpec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("read what to serve: %w", err)
	}
	for i := range tcpPorts {
		for _, first := range []int{tcpPort, directPort} {
			l, err := net.Listen("tcp4", netip.AddrPortFrom(spec.Addr, uint16(first+i)).String())
			if err != nil {
				return err
			}
			go accept(l)
		}
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
		}), err)
	}}
	packets, err := config.ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(spec.Addr, queryPort).String())
	if err != nil {
		return err
	}
	go answer(packets.(*net.UDPConn))
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	return untilEnd(in)
}

func accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			for b := make([]byte, blockSize); ; {
				n, err := conn.Read(b)
				if err != nil {
					return
				}
				if _, err := conn.Write(b[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func answer(packets *net.UDPConn) {
	for b := make([]byte, 512); ; {
		n, from, err := packets.ReadFromUDPAddrPort(b[:256])
		if err != nil {
			return
		}
		// A client that is gone is no concern of others.
		_, _ = packets.WriteToUDPAddrPort(strconv.AppendUint(append(b[:n], ' '), uint64(from.Port()), 10), from)
	}
}
