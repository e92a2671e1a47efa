package datapath

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrNoNATPorts is returned when no ports are left for translated sources.
var ErrNoNATPorts = errors.New("no ports for translated sources")

// Ports that translated sources get: none that need privileges, and not so few
// that they run out at once.
const (
	firstNATPort = 1024
	minNATPorts  = 1024
)

// portRange is a range of ports, both included.
type portRange struct{ first, last uint16 }

// size is how many ports it has; none when it ends before it begins.
func (r portRange) size() int { return max(0, int(r.last)-int(r.first)+1) }

// natPorts chooses the ports that translated sources get: the longest run that
// neither the node's own sockets take by themselves nor node ports are in, the
// higher one of two. A process that binds a port of it keeps it: a flow of its own
// is never translated to a port that it uses towards the same end.
// ErrNoNATPorts names the sysctl when there are less than 1,024.
func natPorts(local, nodePorts portRange) (portRange, error) {
	const last = 65535
	taken := func(p int) int { // the first port behind the ranges that p is in, or p
		for moved := true; moved; {
			moved = false
			for _, r := range []portRange{local, nodePorts} {
				if r.size() > 0 && p >= int(r.first) && p <= int(r.last) {
					p, moved = int(r.last)+1, true
				}
			}
		}
		return p
	}
	var best portRange
	size := 0
	for p := taken(firstNATPort); p <= last; p = taken(p) {
		end := last
		for _, r := range []portRange{local, nodePorts} {
			if r.size() > 0 && int(r.first) > p {
				end = min(end, int(r.first)-1)
			}
		}
		if n := end - p + 1; n >= size {
			best, size = portRange{uint16(p), uint16(end)}, n
		}
		p = end + 1
	}
	if size < minNATPorts {
		return portRange{}, fmt.Errorf("%w: net.ipv4.ip_local_port_range is %d %d and node-port-range %d-%d, which leaves a run of %d ports of 1024 and above, and %d are needed: "+
			"narrow one of them, for example sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"",
			ErrNoNATPorts, local.first, local.last, nodePorts.first, nodePorts.last, size, minNATPorts)
	}
	return best, nil
}

// localPorts is the range that the kernel gives ports of the node's own sockets
// from.
func localPorts() (portRange, error) {
	const path = "/proc/sys/net/ipv4/ip_local_port_range"
	data, err := os.ReadFile(path)
	if err != nil {
		return portRange{}, fmt.Errorf("read ports of local sockets: %w", err)
	}
	return parseLocalPorts(string(data))
}

func parseLocalPorts(text string) (portRange, error) {
	var r portRange
	if n, err := fmt.Sscan(text, &r.first, &r.last); err != nil || n != 2 || r.first == 0 || r.last < r.first {
		return portRange{}, fmt.Errorf("read ports of local sockets: net.ipv4.ip_local_port_range is %q, want two ports", strings.TrimSpace(text))
	}
	return r, nil
}
