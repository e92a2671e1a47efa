package packets

import (
	"net"
	"net/netip"
	"testing"
)

func TestFrameSizes(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		src, dst   string
		size, want int
	}{
		{"10.0.0.1", "10.0.0.2", 64, 64},
		{"10.0.0.1", "10.0.0.2", 1400, 1400},
		{"fd00::1", "fd00::2", 64, 74}, // headers alone
		{"fd00::1", "fd00::2", 1400, 1400},
	} {
		f := frame{
			srcMAC: mac, dstMAC: mac, size: c.size,
			src: netip.AddrPortFrom(netip.MustParseAddr(c.src), sourcePort), dst: netip.AddrPortFrom(netip.MustParseAddr(c.dst), targetPort),
		}
		b, err := f.bytes()
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != c.want {
			t.Errorf("%s, %d bytes: got %d, want %d", c.src, c.size, len(b), c.want)
		}
		if f.src.Addr().Is4() && checksum(b[14:34]) != 0xffff {
			t.Errorf("%s: the checksum of the IPv4 header does not fit", c.src)
		}
	}
}

// checksum is RFC 1071's sum, which is all ones over a sound header.
func checksum(b []byte) uint32 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum
}
