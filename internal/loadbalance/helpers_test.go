package loadbalance_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// config is a usual configuration: both families, random, no topology.
func config() loadbalance.Config {
	return loadbalance.Config{
		IPv4: true, IPv6: true, Algorithm: loadbalance.AlgorithmRandom,
		NodePortFirst: 30000, NodePortLast: 32767, MaglevSize: 1021,
	}
}

// node is n1 in zone a.
func node() loadbalance.Node {
	return loadbalance.Node{Name: "n1", Zone: "a", Addrs: addrs("172.18.0.2 fd02::2")}
}

func addrs(list string) []netip.Addr {
	var out []netip.Addr
	for s := range strings.FieldsSeq(list) {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func prefixes(list string) []netip.Prefix {
	var out []netip.Prefix
	for s := range strings.FieldsSeq(list) {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func ref(s string) state.ServiceRef {
	namespace, name, _ := strings.Cut(s, "/")
	return state.ServiceRef{Namespace: namespace, Name: name}
}

// at is a time that many seconds after some beginning.
func at(seconds int) time.Time { return time.Unix(1_000_000_000+int64(seconds), 0) }

// web is a Service with port http, 80/TCP, at 10.96.0.1.
func web(change ...func(*state.Service)) *state.Service {
	s := &state.Service{
		Ref: ref("default/web"), CreatedAt: at(0), ClusterIPs: addrs("10.96.0.1"),
		Ports: []state.ServicePort{{Name: "http", Protocol: state.ProtocolTCP, Port: 80}},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func nodePort(n uint16) func(*state.Service) {
	return func(s *state.Service) { s.Ports[0].NodePort = n }
}

// slice has endpoints that serve port http at 8080/TCP, each a line or a part
// between semicolons: an address and words.
func slice(name, endpoints string) *state.EndpointSlice {
	s := &state.EndpointSlice{
		Namespace: "default", Name: name, Service: "web",
		Ports: []state.SlicePort{{Name: "http", Protocol: state.ProtocolTCP, Port: 8080}},
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(endpoints, "\n", ";"), ";") {
		if words := strings.Fields(line); len(words) > 0 {
			s.Backends = append(s.Backends, endpoint(words))
		}
	}
	return s
}

// endpoint is ready unless a word says otherwise: notready, serving (but not
// ready), terminating (and serving), stopping (and not serving); node=, zone=,
// hintzones=, hintnodes= with commas.
func endpoint(words []string) state.SliceEndpoint {
	e := state.SliceEndpoint{Addr: netip.MustParseAddr(words[0]), Ready: true, Serving: true}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "notready":
			e.Ready, e.Serving = false, false
		case "serving":
			e.Ready = false
		case "terminating":
			e.Ready, e.Terminating = false, true
		case "stopping":
			e.Ready, e.Serving, e.Terminating = false, false, true
		case "node":
			e.Node = value
		case "zone":
			e.Zone = value
		case "hintzones":
			e.HintZones = strings.Split(value, ",")
		case "hintnodes":
			e.HintNodes = strings.Split(value, ",")
		default:
			panic("unknown word " + w)
		}
	}
	return e
}

// text writes ports and problems in a form that tests can say.
func text(ports []loadbalance.Port, problems []loadbalance.Problem) string {
	var b strings.Builder
	for _, p := range ports {
		fmt.Fprintf(&b, "%s %s %d/%s", p.Key.Service, p.Key.Name, p.Key.Port, p.Key.Protocol)
		if p.Key.IPv6 {
			b.WriteString(" IPv6")
		}
		if p.Affinity > 0 {
			fmt.Fprintf(&b, " affinity %ds", p.Affinity)
		}
		b.WriteString("\n")
		for _, f := range p.Frontends {
			fmt.Fprintf(&b, "  %s %s outside:%s cluster:%s", f.Addr, f.Kind, f.Outside, f.Cluster)
			if f.Maglev {
				b.WriteString(" maglev")
			}
			if f.SourceRanges {
				b.WriteString(" ranges")
			}
			b.WriteString("\n")
		}
		for _, l := range []struct {
			name string
			list []loadbalance.Backend
		}{{"all", p.All}, {"local", p.Local}, {"draining", p.Draining}} {
			if len(l.list) > 0 {
				fmt.Fprintf(&b, "  %s", l.name)
				for _, e := range l.list {
					fmt.Fprintf(&b, " %s", e.Addr)
				}
				b.WriteString("\n")
			}
		}
		if len(p.SourceRanges) > 0 {
			fmt.Fprintf(&b, "  from %s\n", strings.Trim(fmt.Sprint(p.SourceRanges), "[]"))
		}
	}
	for _, p := range problems {
		fmt.Fprintf(&b, "problem %s %s\n", p.Service, p.Message)
	}
	return b.String()
}

// same compares texts, indentation and empty lines aside.
func same(t *testing.T, what, want, got string) {
	t.Helper()
	trim := func(s string) string {
		var b strings.Builder
		for line := range strings.Lines(strings.TrimSpace(s)) {
			if line = strings.TrimSpace(line); line != "" {
				b.WriteString(line + "\n")
			}
		}
		return b.String()
	}
	if trim(want) != trim(got) {
		t.Errorf("%s: got\n%s\nwant\n%s", what, trim(got), trim(want))
	}
}

func engine(t testing.TB, cfg loadbalance.Config) *loadbalance.Engine {
	t.Helper()
	e, err := loadbalance.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.SetNode(node())
	return e
}
