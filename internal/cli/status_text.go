package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// labelWidth is the width of the label column, the same as in `cilium-dbg
// status`, so that eyes and scripts find the values where they expect them.
const labelWidth = 24

// kubernetesCondition is the condition that has a line of its own.
const kubernetesCondition = "kubernetes"

// statusView renders a status as text. The lines that Cilium has too keep its
// labels and its order.
type statusView struct {
	agentapi.Status
	app *app
	out *bytes.Buffer
}

func (v *statusView) line(label, format string, args ...any) {
	value := fmt.Sprintf("%-*s", labelWidth, label+":") + fmt.Sprintf(format, args...)
	v.out.WriteString(strings.TrimRight(value, " ") + "\n")
}

// detail writes one indented line below the last label.
func (v *statusView) detail(text string) { v.out.WriteString("  " + text + "\n") }

func (v *statusView) table(g *grid) { g.render(v.out, "  ") }

func (v *statusView) summary(endpoints []state.Endpoint, verbose bool) {
	v.kubernetes()
	v.replacement()
	v.line("CNI Config file", "%s", dash(v.CNIConf))
	v.placid()
	v.conditions(verbose)
	v.ipam()
	if verbose {
		v.allocated(endpoints)
	}
	v.routing()
	v.services()
	v.policy()
	v.conntrack()
	v.controllers(verbose)
	v.nodes(verbose)
	if verbose {
		v.devices()
		v.programs()
		v.maps()
	} else {
		v.fullMaps()
	}
	v.features(verbose)
	v.warnings()
}

func (v *statusView) kubernetes() {
	i := slices.IndexFunc(v.Conditions, func(c agentapi.Condition) bool {
		return strings.EqualFold(c.Name, kubernetesCondition)
	})
	switch {
	case i < 0:
		v.line("Kubernetes", "Unknown   the agent does not say")
	case v.Conditions[i].OK:
		v.line("Kubernetes", "Ok   %s", v.Conditions[i].Message)
	default:
		v.line("Kubernetes", "Failure   %s", v.Conditions[i].Message)
	}
}

func (v *statusView) placid() {
	word := "Ok"
	if !v.Ready {
		word = "NotReady"
	}
	v.line("Placid", "%s   %s   node %s, kernel %s, up %s, %s", word, dash(v.Version), dash(v.Node), dash(v.Kernel),
		v.app.age(v.StartedAt), plural(v.Endpoints, "endpoint"))
}

func (v *statusView) conditions(verbose bool) {
	g := newGrid("Name", "State", "Since", "Message")
	var bad []string
	for _, c := range v.Conditions {
		word := "ok"
		if !c.OK {
			word = "failing"
			bad = append(bad, joinMessage(c.Name, c.Message))
		}
		g.add(c.Name, word, v.app.age(c.Since), dash(c.Message))
	}
	v.line("Conditions", "%d/%d ok", len(v.Conditions)-len(bad), len(v.Conditions))
	v.tableOr(verbose, g, bad)
}

// tableOr writes the table when it is asked for, else only the bad lines.
func (v *statusView) tableOr(verbose bool, g *grid, bad []string) {
	if verbose && len(g.rows) > 0 {
		v.table(g)
		return
	}
	for _, b := range bad {
		v.detail(b)
	}
}

func (v *statusView) ipam() {
	pools := make([]string, len(v.IPAM))
	for i, p := range v.IPAM {
		family := "IPv4"
		if p.CIDR.Addr().Is6() {
			family = "IPv6"
		}
		pools[i] = fmt.Sprintf("%s: %d/%d allocated from %s", family, p.Used, p.Capacity, p.CIDR)
		if p.Quarantined > 0 {
			pools[i] += fmt.Sprintf(" (%d resting)", p.Quarantined)
		}
		switch {
		case p.Capacity == 0:
			pools[i] += " (gives no new addresses)"
		case p.Used+p.Quarantined >= p.Capacity:
			pools[i] += " (full)"
		}
	}
	text := strings.Join(pools, ", ")
	if text == "" {
		text = "no pod CIDR"
	}
	v.line("IPAM", "%s   [%s]", text, dash(v.IPAMMode))
}

func (v *statusView) allocated(endpoints []state.Endpoint) {
	v.line("Allocated addresses", "")
	for _, e := range endpoints {
		for _, ip := range e.Addrs() {
			v.detail(fmt.Sprintf("%s (%s)", ip, e.Pod))
		}
	}
}

func (v *statusView) routing() {
	network := dash(string(v.RoutingMode))
	switch v.RoutingMode {
	case state.RoutingNative:
		network = "Native"
	case state.RoutingTunnel:
		network = "Tunnel [vxlan]"
	}
	// This release has one way to do each of these.
	v.line("Routing", "Network: %s   Host: BPF", network)
	v.line("Attach Mode", "TCX")
	v.line("Device Mode", "veth")
	v.masquerading()
	v.line("MTU", "Pods: %d   Routes: %d", v.PodMTU, v.RouteMTU)
}

func (v *statusView) controllers(verbose bool) {
	g := newGrid("Name", "Last success", "Desired", "Failing", "Repaired", "Message")
	var bad []string
	for _, c := range v.Controllers {
		if c.Failing > 0 {
			bad = append(bad, controllerLine(c))
		}
		success, message := "never", "no error"
		if !c.LastSuccess.IsZero() {
			success = v.app.age(c.LastSuccess) + " ago"
		}
		if c.LastError != "" {
			message = c.LastError
		}
		g.add(c.Name, success, strconv.Itoa(c.Desired), strconv.Itoa(c.Failing), strconv.FormatUint(c.Repaired, 10), message)
	}
	v.line("Controller Status", "%d/%d healthy", len(v.Controllers)-len(bad), len(v.Controllers))
	v.tableOr(verbose, g, bad)
}

// nodes counts this node too, which is not in the agent's list.
func (v *statusView) nodes(verbose bool) {
	g := newGrid("Name", "Addresses", "Pod CIDRs", "MTU", "Route", "Problem")
	var bad []string
	for _, n := range v.Nodes {
		if p := nodeProblem(n); p != "" {
			bad = append(bad, p)
		}
		g.add(n.Node.Name, joinAddrs(n.Node.Addrs), joinAddrs(n.Node.PodCIDRs), strconv.Itoa(n.Node.MTU), dash(n.Route), dash(n.Problem))
	}
	text := "no problems"
	if len(bad) > 0 {
		text = plural(len(bad), "problem")
	}
	v.line("Nodes", "%d   %s", len(v.Nodes)+1, text)
	v.tableOr(verbose, g, bad)
}

func (v *statusView) devices() {
	g := newGrid("Name", "Index", "Role", "MTU", "Addresses")
	for _, d := range v.Devices {
		g.add(d.Name, strconv.Itoa(d.Index), d.Role, strconv.Itoa(d.MTU), joinAddrs(d.Addrs))
	}
	v.line("Devices", "%d", len(v.Devices))
	v.tableOr(true, g, nil)
}

func (v *statusView) programs() {
	g := newGrid("Name", "ID", "Tag", "Links")
	for _, p := range v.Programs {
		g.add(p.Name, strconv.FormatUint(uint64(p.ID), 10), p.Tag, strconv.Itoa(p.Links))
	}
	v.line("Programs", "%d", len(v.Programs))
	v.tableOr(true, g, nil)
}

// features names what is switched off; all of them when verbose.
func (v *statusView) features(verbose bool) {
	g := newGrid("Name", "Available", "Required", "Since", "Effect")
	var off []string
	for _, f := range v.Features {
		effect := "-"
		if !f.Available {
			off = append(off, featureLine(f))
			effect = dash(f.Effect)
		}
		g.add(f.Name, yesNo(f.Available), yesNo(f.Required), dash(f.Since), effect)
	}
	v.line("Kernel Features", "%d/%d available", len(v.Features)-len(off), len(v.Features))
	v.tableOr(verbose, g, off)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (v *statusView) warnings() {
	if len(v.Warnings) == 0 {
		v.line("Warnings", "none")
		return
	}
	v.line("Warnings", "%d", len(v.Warnings))
	for _, w := range v.Warnings {
		v.detail(w)
	}
}
