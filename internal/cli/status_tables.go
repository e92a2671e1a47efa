package cli

import (
	"fmt"
	"strconv"

	"github.com/dustin/go-humanize"

	"github.com/placid-net/placid/internal/agentapi"
)

// tableTitle is what `cilium-dbg status` calls a table, so that eyes and scripts
// find it; IPv4 and IPv6 share each of Placid's.
type tableTitle struct{ title, name string }

// tableTitles are in Cilium's order, those that only Placid has at the end.
func tableTitles() []tableTitle {
	return []tableTitle{
		{"Non-TCP connection tracking", "ct_any"},
		{"TCP connection tracking", "ct_tcp"},
		{"Endpoints", "endpoint"},
		{"IP cache", "ipcache"},
		{"IPv4 masquerading agent", "native"},
		{"IPv6 masquerading agent", "native"},
		{"IPv4 fragmentation", "fragment"},
		{"IPv4 service", "frontend"},
		{"IPv6 service", "frontend"},
		{"IPv4 service backend", "backend"},
		{"IPv6 service backend", "backend"},
		{"NAT", ""},
		{"Endpoint policy", "policy"},
		{"Session affinity", "affinity"},
		{"Sock reverse NAT", "sock"},
		{"Embryonic flows", "ct_new"},
		{"Maglev", "maglev"},
		{"Source ranges", "source_range"},
		{"Policy ports", "port"},
		{"Policy CIDRs", "cidr"},
		{"Identities", "identity"},
	}
}

// maps shows the tables with Cilium's heading and columns, and Placid's after them.
func (v *statusView) maps() {
	if v.Tables == nil {
		v.mapsAlone()
		return
	}
	v.mapsHeading()
	g := newGrid("Name", "Size", "Occupancy", "Peak", "Headroom")
	tables := map[string]agentapi.TableInfo{}
	for _, t := range v.Tables.Tables {
		tables[t.Name] = t
	}
	for _, row := range tableTitles() {
		t, ok := tables[row.name]
		switch {
		case ok:
			g.add(row.title, strconv.FormatUint(t.Size, 10), percent(t.Pressure), strconv.FormatUint(t.Peak, 10), strconv.FormatUint(t.Headroom, 10))
		case row.name == "":
			g.add(row.title, strconv.Itoa(v.Tables.NAT), "-", "-", "-")
		}
	}
	v.table(g)
	v.detail("IPv4 and IPv6 share each table; NAT is part of connection tracking, two entries a flow.")
	v.tuning()
	v.tableTroubles()
}

// fullMaps shows only what is wrong with tables.
func (v *statusView) fullMaps() {
	if v.Tables == nil {
		return
	}
	for _, t := range v.Tables.Tables {
		if len(tableTrouble(t)) > 0 {
			v.mapsHeading()
			v.tableTroubles()
			return
		}
	}
}

// mapsHeading has three spaces, where other lines are aligned: as Cilium writes it.
func (v *statusView) mapsHeading() {
	text := "off"
	if v.Tables.Ratio > 0 {
		text = fmt.Sprintf("on (ratio: %f)", v.Tables.Ratio)
	}
	v.out.WriteString("BPF Maps:   dynamic sizing: " + text + "\n")
}

// mapsAlone is what an agent says that does not resize.
func (v *statusView) mapsAlone() {
	g := newGrid("Name", "Size", "Entries", "Fill")
	for _, m := range v.Maps {
		g.add(m.Name, number(m.MaxEntries), strconv.FormatUint(m.Entries, 10), fill(m.Type, m.Entries, m.MaxEntries))
	}
	v.line("BPF Maps", "dynamic sizing: off")
	v.tableOr(true, g, nil)
}

// tuning says what sizes that were not set may come to.
func (v *statusView) tuning() {
	t := v.Tables
	if !t.Autosize {
		v.detail(fmt.Sprintf("Self-tuning: off   %s taken", humanize.IBytes(t.Memory)))
		return
	}
	tuned := 0
	for _, info := range t.Tables {
		if !info.Fixed {
			tuned++
		}
	}
	v.detail(fmt.Sprintf("Self-tuning: on   %s of %s, %s of budget %s taken", strconv.Itoa(tuned), plural(len(t.Tables), "table"),
		humanize.IBytes(t.Memory), humanize.IBytes(t.Budget)))
}

// tableTroubles says what moves, what is full and what should have another size,
// and what to do about it.
func (v *statusView) tableTroubles() {
	for _, t := range v.Tables.Tables {
		if state := moveState(&t); state != "" {
			v.detail(t.Name + " is being resized: " + state)
		}
		for _, text := range tableTrouble(t) {
			v.detail(text)
		}
	}
}

// tableTrouble says what is wrong with a table, and what to do.
func tableTrouble(t agentapi.TableInfo) []string {
	var out []string
	if full := !t.Evicts && t.Entries >= t.Size && t.Size > 0; full || t.Waiting > 0 {
		text := fmt.Sprintf("%s is full: %s", t.Name, whenFull(t.Name))
		if t.Inserts.Full > 0 {
			text += fmt.Sprintf("; %s refused so far", counted(int(t.Inserts.Full), "entry", "entries"))
		}
		if t.Waiting > 0 {
			text += fmt.Sprintf("; %s for room", counted(int(t.Waiting), "entry waits", "entries wait"))
		}
		out = append(out, text+": "+moreRoom(t))
	}
	if t.Blocked != "" {
		out = append(out, t.Blocked+leaveToGrow(t))
	}
	if m := t.Move; m != nil && m.State == agentapi.MoveFailed {
		out = append(out, fmt.Sprintf("%s was not resized: %s", t.Name, m.Problem))
	}
	return out
}

// leaveToGrow says what lets a table have the size that it should.
func leaveToGrow(t agentapi.TableInfo) string {
	switch {
	case t.Limit == agentapi.LimitBudget:
		return ": raise bpf-map-memory-budget, or lower a size that was set"
	case t.Evicts:
		return ": it evicts what was used least; its maximum is a part of the budget: raise bpf-map-memory-budget"
	}
	return ""
}

// whenFull says what becomes of entries that find no room.
func whenFull(name string) string {
	switch name {
	case "ct_tcp", "ct_any":
		return "established flows go on, new ones stay embryonic and may be evicted"
	case "frontend", "backend", "maglev", "source_range":
		return "Services that do not fit stay as they are, see 'placid service list'"
	case "policy", "port", "cidr":
		return "policies that do not fit are not in force"
	}
	return "new entries are refused"
}

// moreRoom says how a table gets more room: at once, and for good.
func moreRoom(t agentapi.TableInfo) string {
	text := fmt.Sprintf("placid bpf map resize %s SIZE", t.Name)
	if !t.Fixed || t.Key == "" {
		return text
	}
	return text + ", and raise or remove " + t.Key
}
