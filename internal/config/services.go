package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// String gives the form "first-last".
func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// parsePorts reads "first-last" or, as Cilium writes it, "first,last".
func parsePorts(text string) (PortRange, error) {
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		first, last, ok = strings.Cut(text, ",")
	}
	if !ok {
		return PortRange{}, errors.New("is not a range of ports")
	}
	var r PortRange
	for _, end := range []struct {
		text string
		port *uint16
	}{{first, &r.First}, {last, &r.Last}} {
		n, err := strconv.ParseUint(strings.TrimSpace(end.text), 10, 16)
		if err != nil || n == 0 {
			return PortRange{}, fmt.Errorf("has the bad port %s", quote(end.text))
		}
		*end.port = uint16(n)
	}
	if r.First > r.Last {
		return PortRange{}, errors.New("has its first port above its last")
	}
	return r, nil
}

// MaglevSeed gives the bytes of bpf-lb-maglev-hash-seed.
func (c Config) MaglevSeed() [maglevSeedSize]byte {
	var seed [maglevSeedSize]byte
	b, _ := base64.StdEncoding.DecodeString(c.LBMaglevHashSeed) // formats.go has checked it
	copy(seed[:], b)
	return seed
}

// socketsAlone finds a wish for translation at sockets without Services. The
// default is none.
func socketsAlone(c Config, set func(string) bool) string {
	if !set("bpf-lb-sock") || !c.LBSock || c.KubeProxyReplacement {
		return ""
	}
	return "nothing is translated at sockets unless Placid serves Services; set kube-proxy-replacement=true or bpf-lb-sock=false"
}

// socketsAnyway says what becomes of bpf-lb-sock=false, which Cilium's own
// ConfigMaps have: "" if it is not set.
func socketsAnyway(c Config, set func(string) bool) string {
	if !set("bpf-lb-sock") || c.LBSock || !c.KubeProxyReplacement {
		return ""
	}
	return "has no effect with kube-proxy-replacement=true, as in Cilium: " +
		"the node's sockets are always translated, and those of pods unless bpf-lb-sock-hostns-only=true"
}
