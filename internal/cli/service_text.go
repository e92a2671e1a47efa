package cli

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
)

func serviceText(out *bytes.Buffer, s agentapi.ServiceInfo) {
	label := "Service:"
	if s.HostPort {
		label = "Pod:"
	}
	fmt.Fprintf(out, "%-14s%s\n", label, s.Service)
	if h := s.HealthCheck; h != nil {
		fmt.Fprintf(out, "%-14sport %d, %s ready\n", "Health check:", h.Port, plural(h.LocalEndpoints, "local endpoint"))
		if h.Problem != "" {
			fmt.Fprintf(out, "  problem: %s\n", h.Problem)
		}
	}
	for _, p := range s.Problems {
		fmt.Fprintf(out, "%-14s%s\n", "Problem:", p)
	}
	for _, p := range s.Ports {
		portText(out, p)
	}
	fmt.Fprintf(out, "%-14s%s\n", "Entries:", entries(s.Entries, s.Estimate))
}

func portText(out *bytes.Buffer, p agentapi.ServicePort) {
	family, id := "IPv4", "none"
	if p.IPv6 {
		family = "IPv6"
	}
	if p.ID != 0 {
		id = strconv.FormatUint(uint64(p.ID), 10)
	}
	fmt.Fprintf(out, "%-14s%s   %s   %s   id %s\n", "Port:", portName(p), family, p.State, id)
	if p.Refusal != nil {
		fmt.Fprintf(out, "  problem: %s\n", refusal(p.Refusal))
	}
	if p.Affinity != 0 {
		fmt.Fprintf(out, "  clients keep their backend for %s\n", time.Duration(p.Affinity)*time.Second)
	}
	if len(p.SourceRanges) > 0 {
		fmt.Fprintf(out, "  clients outside are to be in %s\n", joinAddrs(p.SourceRanges))
	}
	frontends := newGrid("FRONTEND", "KIND", "CLUSTER", "OUTSIDE", "SELECTION")
	for _, f := range p.Frontends {
		frontends.add(f.Addr.String(), f.Kind, scope(f.Cluster), scope(f.Outside), selection(f))
	}
	frontends.render(out, "  ")
	if len(p.Backends) > 0 {
		backends := newGrid("BACKEND", "STATE", "REACH", "ID")
		for _, b := range p.Backends {
			backends.add(b.Addr.String(), b.State, reach(b), number(b.ID))
		}
		backends.render(out, "  ")
	} else {
		out.WriteString("  no backends\n")
	}
	fmt.Fprintf(out, "  entries: %s\n", entries(p.Entries, p.Estimate))
}

// scope gives "all: 3 in list 7", or how it is in the kernel when that differs.
func scope(s agentapi.ServiceScope) string {
	switch {
	case s.Reach == agentapi.ReachNone:
		return s.Reach
	case s.List == 0:
		return s.Reach + ": none"
	}
	return fmt.Sprintf("%s: %d in list %d", s.Reach, s.Backends, s.List)
}

// selection says how clients outside are told apart.
func selection(f agentapi.ServiceFrontend) string {
	words := []string{"random"}
	if f.Maglev {
		words[0] = "maglev"
	}
	if f.SourceRanges {
		words = append(words, "source ranges")
	}
	return strings.Join(words, ", ")
}

func reach(b agentapi.ServiceBackend) string {
	var words []string
	if b.All {
		words = append(words, agentapi.ReachAll)
	}
	if b.Local {
		words = append(words, agentapi.ReachLocal)
	}
	return dash(strings.Join(words, ","))
}

func entries(e agentapi.ServiceEntries, estimate int) string {
	return fmt.Sprintf("frontends %d, backends %d, maglev %d, source ranges %d, together %d (estimate %d)",
		e.Frontends, e.Backends, e.Maglev, e.SourceRanges, e.Frontends+e.Backends+e.Maglev+e.SourceRanges, estimate)
}

func refusal(r *agentapi.LBRefusal) string {
	return fmt.Sprintf("it needs %s of table %s, %d are free", counted(r.Needs, "entry", "entries"), r.Table, r.Free)
}

// number gives an id, or "-" for none.
func number(id uint32) string {
	if id == 0 {
		return "-"
	}
	return strconv.FormatUint(uint64(id), 10)
}
