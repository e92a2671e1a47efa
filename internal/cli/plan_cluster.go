package cli

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/placid-net/placid/internal/planner/capacity"
	"github.com/placid-net/placid/internal/planner/report"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

const planHelp = `Say how full the tables of every node are, what a cluster that grows would need,
and which limit it meets first. Needs no agent: it reads a live cluster, or files
that 'kubectl get -o yaml' or 'cilium sysdump' wrote. Nothing is sent anywhere, and
Secrets are not read.

Services, identities, endpoints, addresses and entries of policies are counted as the
datapath stores them. Connections follow from --rate: as many entries as begin a
second, times how long one lives.

--grow says what is added: a factor (2x), a number (+500) or a share (+20%):
  pods        in the groups that there are, on the same nodes; DaemonSets follow nodes
  nodes       like those that there are, each with its DaemonSets; take new pods first
  services    like those that there are, with addresses of their own
  policies    entries of policies grow in proportion
  namespaces  like those that there are, with pods, Services and policies (but kube-*)
Without it, limits are those of the same nodes with several times as much on them.

--rate says how many flows begin: KIND=NUMBER/s[/pod][:TIME OPEN], of the kinds tcp,
tcp-out (leaves the cluster), udp, udp-out, dns and syn (nobody answers). What is not
for each pod is for each node, and grows with its pods.`

// planFlags are the flags of plan and plan service.
type planFlags struct {
	cluster  clusterFlags
	platform platformFlag
	grow     parsed[capacity.Growth]
	rates    parsed[[]capacity.Rate]
	types    parsed[instanceTypes]
	node     string
	html     string
}

type instanceTypes struct {
	known     map[string]capacity.Instance
	otherwise string
}

func newPlanFlags() *planFlags {
	return &planFlags{
		grow:  parsed[capacity.Growth]{kind: "WHAT=AMOUNT,...", parse: capacity.ParseGrowth},
		rates: parsed[[]capacity.Rate]{kind: "KIND=N/s,...", parse: capacity.ParseRates},
		types: parsed[instanceTypes]{kind: "TYPE[=NxN],...", parse: func(text string) (instanceTypes, error) {
			known, otherwise, err := capacity.ParseInstances(text)
			return instanceTypes{known, otherwise}, err
		}},
	}
}

// options are what the flags ask for of a cluster.
func (p *planFlags) options(s *snapshot.Snapshot) capacity.Options {
	return capacity.Options{
		For: p.platform.of(s), Growth: p.grow.value, Rates: p.rates.value,
		Instances: p.types.value.known, DefaultInstance: p.types.value.otherwise,
	}
}

func (a *app) planCommand() *cobra.Command {
	f := newPlanFlags()
	cmd := &cobra.Command{
		Use:     "plan",
		Short:   "Say what a cluster needs of every table, and which limit it meets first",
		Long:    planHelp,
		Example: "  placid plan -f cluster/ --grow pods=2x,services=+500\n  placid plan --for cilium --html plan.html\n  kubectl get nodes,ns,pods,svc,endpointslices,netpol -A -o json | placid plan -f -",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef(cmd, "unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.plan(cmd, f) }),
	}
	f.cluster.add(cmd)
	f.platform.add(cmd)
	flags := cmd.Flags()
	flags.Var(&f.grow, "grow", "how the cluster grows, e.g. pods=2x,services=+500,policies=+20%")
	flags.Var(&f.rates, "rate", "how many flows begin a second, e.g. tcp=500/s,dns=20/s/pod,tcp-out=50/s:2m")
	flags.Var(&f.types, "instance-types", "type of nodes that do not say theirs, and interfaces and addresses of each of types that are not known, e.g. ecs.g7.2xlarge=4x15")
	flags.StringVar(&f.node, "node", "", "show the tables of this node, not of the fullest for each")
	htmlFlag(flags, &f.html)
	cmd.AddCommand(a.planSizesCommand(), a.planServiceCommand())
	return cmd
}

func (a *app) plan(cmd *cobra.Command, f *planFlags) error {
	s, err := f.cluster.load(cmd.Context(), a)
	if err != nil {
		return err
	}
	notWhole := a.complain(s)
	r, err := capacity.Plan(s, f.options(s))
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if f.node != "" && !slices.ContainsFunc(r.Nodes, func(n capacity.Node) bool { return n.Name == f.node }) {
		return fmt.Errorf("plan: node %s: %w in the cluster", f.node, capacity.ErrNotFound)
	}
	if err := a.writePage(f.html, planReport(r, s, a.env.Now(), a.env.Version)); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if err := a.print(r, func(out *bytes.Buffer) { planText(out, r, f.node) }); err != nil {
		return err
	}
	return notWhole
}

// htmlFlag adds the flag that names the file of writePage.
func htmlFlag(flags *pflag.FlagSet, file *string) {
	flags.StringVar(file, "html", "", "write a report to this file too: one page that needs nothing else")
}

// writePage writes a report to a file, if one is named.
func (a *app) writePage(file string, r report.Report) error {
	if file == "" {
		return nil
	}
	page, err := report.Page(r)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(file, page, 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	a.note("the report is in %s", file)
	return nil
}

const planServiceHelp = `Show how many entries one Service takes in the tables of a node, how that comes
about, and what the documented rule (backends × ports) says.`

func (a *app) planServiceCommand() *cobra.Command {
	f := newPlanFlags()
	cmd := &cobra.Command{
		Use:     "service NAMESPACE/NAME",
		Short:   "Show what one Service takes in the tables of a node, and why",
		Long:    planServiceHelp,
		Example: "  placid plan service shop/web -f cluster/ --for cilium",
		Args:    oneArg,
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			namespace, name, ok := strings.Cut(args[0], "/")
			if !ok || namespace == "" || name == "" {
				return usagef(cmd, "%q is no Service: want NAMESPACE/NAME", args[0])
			}
			s, err := f.cluster.load(cmd.Context(), a)
			if err != nil {
				return err
			}
			notWhole := a.complain(s)
			cost, err := capacity.Explain(s, f.options(s), state.ServiceRef{Namespace: namespace, Name: name}, f.node)
			if err != nil {
				return fmt.Errorf("plan service: %w", err)
			}
			return errors.Join(a.print(cost, func(out *bytes.Buffer) { serviceCostText(out, cost, f.platform.of(s)) }), notWhole)
		}),
	}
	f.cluster.add(cmd)
	f.platform.add(cmd)
	cmd.Flags().StringVar(&f.node, "node", "", "on which node; empty takes the first by name")
	return cmd
}
