package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/planner/preflight"
	"github.com/placid-net/placid/internal/planner/snapshot"
)

// errFindings is that something was found which --fail-on does not accept.
var errFindings = errors.New("preflight found something")

// Output formats of preflight, besides those of every command.
const (
	outSARIF = "sarif"
	outJUnit = "junit"
)

// explainAll is the value of --explain that means every code.
const explainAll = "all"

const preflightHelp = `Check the policies, the settings and the room of a cluster, before it is changed.

Finds what does not work as it is written (schema, unknown fields, parts that are
not enforced), what is probably not meant (selectors that select nobody, labels
that identities lack, rules that others deny, ports that nobody has, policies
that are there twice), and what does not fit into tables. Each finding has a code
that stays the same ('--explain CODE' says what it means), a severity, an object
and a field. With --target-version: what would mean something else with that
version of Cilium.

Needs no agent: it reads files (kubectl get -o yaml, directories, a cilium
sysdump) or a live cluster, and changes nothing. Nothing is sent anywhere, and
Secrets are not read. What cannot be read is an error, never nothing.

Exit codes: 0 nothing is as bad as --fail-on; 1 something is; 2 wrong arguments;
4 nothing could be read at all.`

// preflightFlags are the flags of preflight.
type preflightFlags struct {
	cluster  clusterFlags
	platform platformFlag
	target   parsed[preflight.Version]
	failOn   enum
	output   enum
	explain  string
	quiet    bool
}

func (a *app) preflightCommand() *cobra.Command {
	cmd := a.newPreflightCommand("preflight", "Check policies, settings and room of a cluster before it is changed")
	cmd.Long = preflightHelp
	cmd.Example = "  placid preflight -f cluster/\n  placid preflight --for cilium --target-version 1.20 --fail-on warning\n" +
		"  placid preflight -f policies/ -o sarif >preflight.sarif\n  placid preflight --explain PLC-P204"
	alias := a.newPreflightCommand("validate-cnp", "The same as preflight, by the name that Cilium has for it")
	cmd.AddCommand(alias)
	return cmd
}

func (a *app) newPreflightCommand(use, short string) *cobra.Command {
	f := &preflightFlags{
		target: parsed[preflight.Version]{kind: "VERSION", parse: preflight.ParseVersion},
		failOn: enum{value: string(preflight.Error), kind: "severity"},
		output: enum{value: outTable, kind: "format", allowed: []string{outTable, outJSON, outYAML, outSARIF, outJUnit}},
	}
	for _, s := range preflight.Severities() {
		f.failOn.allowed = append(f.failOn.allowed, string(s))
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			if f.explain != "" {
				return a.explainCodes(cmd, f)
			}
			return a.preflight(cmd, f)
		}),
	}
	f.cluster.add(cmd)
	f.platform.add(cmd)
	flags := cmd.Flags()
	flags.Var(&f.target, "target-version", "say what means something else with this version of the network, e.g. 1.20")
	flags.Var(&f.failOn, "fail-on", "exit with 1 when something is as bad as that, or worse: "+f.failOn.choices())
	flags.VarP(&f.output, "output", "o", "output format: "+f.output.choices())
	flags.StringVar(&f.explain, "explain", "", "say what a code means, and do nothing else; "+explainAll+" lists every code")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show only what --fail-on does not accept")
	return cmd
}

// preflightResult is the JSON form of all findings.
type preflightResult struct {
	For      snapshot.Platform   `json:"for"`
	Target   string              `json:"targetVersion,omitempty"`
	Findings []preflight.Finding `json:"findings"`
	Counts   preflight.Counts    `json:"counts"`
	Policies int                 `json:"policies"`
	Objects  int                 `json:"objects"`

	failOn preflight.Severity
}

func (a *app) preflight(cmd *cobra.Command, f *preflightFlags) error {
	s, err := f.cluster.load(cmd.Context(), a)
	if err != nil {
		return notJudged(err)
	}
	show := a.showProgress()
	res := preflightResult{
		For: f.platform.of(s), Target: f.target.text, Policies: policyObjects(s), Objects: s.Input.Objects,
		failOn: preflight.Severity(f.failOn.value),
	}
	findings := preflight.Check(s, preflight.Options{
		For: res.For, Target: f.target.value,
		Progress: func(what string, done, total int) { show.update(done, total, what) },
	})
	show.clear()
	res.Counts = preflight.Count(findings)
	failed := preflight.AtLeast(findings, res.failOn)
	res.Findings = []preflight.Finding{}
	for _, x := range findings {
		if !f.quiet || x.Severity.AtLeast(res.failOn) {
			res.Findings = append(res.Findings, x)
		}
	}
	if err := a.preflightOutput(f, res); err != nil {
		return err
	}
	if failed > 0 {
		return &reportedError{fmt.Errorf("%w: %s", errFindings, countsLine(res.Counts))}
	}
	return nil
}

// policyObjects counts the objects that are policies.
func policyObjects(s *snapshot.Snapshot) int {
	seen := map[snapshot.Object]bool{}
	for _, p := range s.Policies {
		seen[snapshot.Object{Kind: p.Kind.String(), Namespace: p.Namespace, Name: p.Name}] = true
	}
	return len(seen)
}

func (a *app) preflightOutput(f *preflightFlags, res preflightResult) error {
	var out bytes.Buffer
	var err error
	switch f.output.value {
	case outSARIF:
		err = writeSARIF(&out, res, a.env.Version)
	case outJUnit:
		err = writeJUnit(&out, res)
	case outTable:
		preflightText(&out, res, f.quiet)
	default:
		err = encode(&out, f.output.value, res)
	}
	if err != nil {
		return err
	}
	return a.write(out.Bytes())
}

// preflightText writes findings by object, one a line.
func preflightText(out *bytes.Buffer, res preflightResult, quiet bool) {
	last := ""
	for i, f := range res.Findings {
		head := findingHead(f)
		if i == 0 || head != last {
			if i > 0 {
				out.WriteByte('\n')
			}
			out.WriteString(head + "\n")
		}
		last = head
		place := ""
		if f.Field != "" {
			place = f.Field + ": "
		}
		fmt.Fprintf(out, "  %-7s  %s  %s%s\n", f.Severity, f.Code, place, f.Message)
	}
	if quiet {
		return
	}
	if len(res.Findings) > 0 {
		out.WriteByte('\n')
	}
	read := "in the cluster"
	if res.Objects > 0 {
		read = "in " + plural(res.Objects, "object")
	}
	fmt.Fprintf(out, "%s; checked for %s: %s %s.\n", countsLine(res.Counts), platformName(res.For), policiesText(res.Policies), read)
}

func policiesText(n int) string {
	if n == 1 {
		return "1 policy"
	}
	return fmt.Sprintf("%d policies", n)
}

// findingHead names what a finding is about, and where that was read.
func findingHead(f preflight.Finding) string {
	head := f.Object.String()
	if head == "" {
		head = "The cluster"
		if f.Origin.File != "" {
			return placeText(snapshot.Problem{Origin: f.Origin})
		}
	}
	if f.Origin.File != "" {
		head += " (" + placeText(snapshot.Problem{Origin: f.Origin}) + ")"
	}
	return head
}

// countsLine gives e.g. "1 error, 2 warnings, no notes".
func countsLine(c preflight.Counts) string {
	count := func(n int, noun string) string {
		if n == 0 {
			return "no " + noun + "s"
		}
		return plural(n, noun)
	}
	return strings.Join([]string{count(c.Errors, "error"), count(c.Warnings, "warning"), count(c.Notes, "note")}, ", ")
}

// explainCodes says what codes mean.
func (a *app) explainCodes(cmd *cobra.Command, f *preflightFlags) error {
	codes := preflight.Codes()
	if f.explain != explainAll {
		code, ok := preflight.Explain(strings.ToUpper(f.explain))
		if !ok {
			return usagef(cmd, "--explain: there is no code %q; --explain %s lists all", f.explain, explainAll)
		}
		codes = []preflight.Code{code}
	}
	var out bytes.Buffer
	switch f.output.value {
	case outJSON, outYAML:
		if err := encode(&out, f.output.value, codes); err != nil {
			return err
		}
	case outTable:
		for i, c := range codes {
			if i > 0 {
				out.WriteByte('\n')
			}
			fmt.Fprintf(&out, "%s  %s (%s)\n  %s\n", c.Name, c.Title, c.Severity, c.Explanation)
		}
	default:
		return usagef(cmd, "--explain: the output format is %s, %s or %s", outTable, outJSON, outYAML)
	}
	return a.write(out.Bytes())
}
