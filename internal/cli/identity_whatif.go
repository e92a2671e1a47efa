package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/whatif"
)

// errBroken is a filter that leaves out labels which policies select on.
var errBroken = errors.New("the new filter leaves out labels that policies select on")

const whatIfHelp = `Show what another label filter (the key labels) would do to a cluster.

Says how many identities there are and would be, what the API server would have
to write, which labels cause most identities, which policies select on a label
that the new filter leaves out, which pods would have no label of their own, and
every pair of groups of pods whose verdict changes, with the rules that are the
cause. A group is pods that no policy can tell apart.

  --labels   judges a filter that is given, with the syntax of the key labels
  --auto     judges the filter that keeps the labels which policies select on
  --propose  finds the shortest list that keeps every verdict, and judges it;
             with the list that keeps the labels of all selectors beside it

Needs no agent: it reads files (kubectl get -o yaml, directories) or a live
cluster, and changes nothing. Exit codes: 0 done; 1 refused, because policies
select on a label that would be left out (--force accepts that); 2 wrong
arguments; 4 a part of the input could not be read, so no verdict can be told.`

// whatIfLimit is the default of --limit.
const whatIfLimit = 50

// whatIfFlags are the flags of `placid identity what-if`.
type whatIfFlags struct {
	cluster              clusterFlags
	platform             platformFlag
	labels               string
	auto, propose, force bool
	limit                parsed[int]
	html                 string
}

func (a *app) whatIfCommand() *cobra.Command {
	f := &whatIfFlags{limit: newLimit(whatIfLimit)}
	cmd := &cobra.Command{
		Use:   "what-if (--labels ITEMS | --auto | --propose)",
		Short: "Show what another label filter would do to a cluster",
		Long:  whatIfHelp,
		Example: "  placid identity what-if -f cluster/ --propose\n" +
			"  placid identity what-if --labels 'k8s:app$ k8s:team$'\n" +
			"  placid identity what-if -f pods.yaml -f policies.yaml --auto --for cilium -o json",
		Args: cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			given := 0
			for _, name := range []string{"labels", "auto", "propose"} {
				if cmd.Flags().Changed(name) {
					given++
				}
			}
			if given != 1 {
				return usagef(cmd, "give one of --labels, --auto and --propose")
			}
			if _, err := identity.ParseFilter(strings.Fields(f.labels)); err != nil {
				return usagef(cmd, "--labels: %v", err)
			}
			return a.whatIf(cmd.Context(), f)
		}),
	}
	f.cluster.add(cmd)
	f.platform.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.labels, "labels", "", "the new filter: items separated by spaces; empty is the built-in patterns alone")
	flags.BoolVar(&f.auto, "auto", false, "the filter that keeps the labels which policies select on")
	flags.BoolVar(&f.propose, "propose", false, "find the shortest list that keeps every verdict")
	flags.BoolVar(&f.force, "force", false, "accept that policies select on labels that are left out")
	htmlFlag(flags, &f.html)
	flags.Var(&f.limit, "limit", "the most verdicts, labels, namespaces and pods to show; 0 shows all")
	return cmd
}

func (a *app) whatIf(ctx context.Context, f *whatIfFlags) error {
	s, err := f.cluster.load(ctx, a)
	if err != nil {
		return notJudged(err)
	}
	if err = a.complain(s); err != nil {
		return notJudged(err)
	}
	show := a.showProgress()
	res, err := whatif.Run(ctx, s, whatif.Options{
		For: f.platform.of(s), Labels: strings.Fields(f.labels), Auto: f.auto, Propose: f.propose, Limit: f.limit.value,
		Progress: func(what string, done, total int) { show.update(done, total, what) },
	})
	show.clear()
	if err != nil {
		return notJudged(err)
	}
	for _, n := range res.Notes {
		a.note("%s", n)
	}
	if err := a.writePage(f.html, whatIfReport(res, s, a.env.Now(), a.env.Version)); err != nil {
		return fmt.Errorf("what-if: %w", err)
	}
	if err := a.print(res, func(out *bytes.Buffer) { whatIfText(out, res, f.limit.value) }); err != nil {
		return err
	}
	if len(res.Broken) > 0 && !f.force && res.Proposal == nil {
		return fmt.Errorf("%w: %s; --force accepts that", errBroken, strings.Join(whatif.Policies(res.Broken), ", "))
	}
	return nil
}
