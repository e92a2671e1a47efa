package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// serveName answers at a port, over TCP and UDP and in both families, with the
// name of the place and the address of the client, until the test ends.
func serveName(t *testing.T, at place, port int) {
	t.Helper()
	for _, f := range families {
		serveNameAt(t, at, netip.AddrPortFrom(at.addrs[f], uint16(port)).String())
	}
}

func serveNameAt(t *testing.T, at place, addr string) {
	t.Helper()
	listener, packets := at.listen(t, addr)
	answer := func(client net.Addr) string {
		c, err := netip.ParseAddrPort(client.String())
		if err != nil {
			return err.Error()
		}
		return seen(at.name, c.Addr())
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			client, err := net.ResolveTCPAddr("tcp", r.RemoteAddr)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = fmt.Fprint(w, answer(client))
		}),
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	go func() {
		for b := make([]byte, 2048); ; {
			_, from, err := packets.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo([]byte(answer(from)), from)
		}
	}()
}

// seen is the answer of a place to a client with that address.
func seen(name string, client netip.Addr) string { return name + " saw " + client.Unmap().String() }
