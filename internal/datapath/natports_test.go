package datapath

import (
	"errors"
	"strings"
	"testing"
)

func TestNATPorts(t *testing.T) {
	for _, tc := range []struct {
		name             string
		local, nodePorts portRange
		want             portRange // zero: ErrNoNATPorts
	}{
		{"as usual", portRange{32768, 60999}, portRange{30000, 32767}, portRange{1024, 29999}},
		{"no node ports", portRange{32768, 60999}, portRange{}, portRange{1024, 32767}},
		{"many local ports", portRange{1024, 50000}, portRange{30000, 32767}, portRange{50001, 65535}},
		{"between the two", portRange{1024, 20000}, portRange{40000, 65535}, portRange{20001, 39999}},
		{"between the two, the other way round", portRange{40000, 65535}, portRange{1024, 20000}, portRange{20001, 39999}},
		{"of two equal runs the higher one", portRange{11024, 55535}, portRange{}, portRange{55536, 65535}},
		{"they overlap", portRange{20000, 50000}, portRange{40000, 60000}, portRange{1024, 19999}},
		{"privileged node ports", portRange{32768, 60999}, portRange{1, 1023}, portRange{1024, 32767}},
		{"node ports around privileged ones", portRange{32768, 60999}, portRange{80, 2000}, portRange{2001, 32767}},
		{"just enough", portRange{1024, 64511}, portRange{}, portRange{64512, 65535}},
		{"one too few", portRange{1024, 64512}, portRange{}, portRange{}},
		{"all are local", portRange{1024, 65535}, portRange{30000, 32767}, portRange{}},
		{"all are node ports", portRange{32768, 60999}, portRange{1, 65535}, portRange{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := natPorts(tc.local, tc.nodePorts)
			if got != tc.want || (err != nil) != (tc.want == portRange{}) {
				t.Fatalf("natPorts = %v, %v, want %v", got, err, tc.want)
			}
			if err != nil && (!errors.Is(err, ErrNoNATPorts) || !strings.Contains(err.Error(), "net.ipv4.ip_local_port_range")) {
				t.Errorf("the error does not say what to do: %v", err)
			}
		})
	}
}

// slowNATPorts looks at every port.
func slowNATPorts(local, nodePorts portRange) (best portRange, size int) {
	first := 0
	for p := firstNATPort; p <= 1<<16; p++ {
		out := p == 1<<16
		for _, r := range []portRange{local, nodePorts} {
			out = out || r.size() > 0 && p >= int(r.first) && p <= int(r.last)
		}
		switch {
		case !out && first == 0:
			first = p
		case out && first != 0:
			if n := p - first; n >= size {
				best, size = portRange{uint16(first), uint16(p - 1)}, n
			}
			first = 0
		}
	}
	return best, size
}

func FuzzNATPorts(f *testing.F) {
	f.Add(uint16(32768), uint16(60999), uint16(30000), uint16(32767))
	f.Add(uint16(0), uint16(0), uint16(65535), uint16(65535))
	f.Fuzz(func(t *testing.T, a, b, c, d uint16) {
		local, nodePorts := portRange{a, b}, portRange{c, d}
		got, err := natPorts(local, nodePorts)
		want, size := slowNATPorts(local, nodePorts)
		if err != nil {
			if size >= minNATPorts {
				t.Errorf("natPorts(%v, %v) finds none, there is %v", local, nodePorts, want)
			}
			return
		}
		if got != want {
			t.Errorf("natPorts(%v, %v) = %v, want %v", local, nodePorts, got, want)
		}
	})
}

func FuzzParseLocalPorts(f *testing.F) {
	for _, s := range []string{"32768\t60999\n", "1 1", "60999 32768", "", "0 5", "x y", "70000 80000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseLocalPorts(text)
		if err == nil && (r.first == 0 || r.size() < 1) {
			t.Errorf("%q is taken for %v", text, r)
		}
	})
}
