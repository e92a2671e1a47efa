package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/spf13/cobra"

	"github.com/placid-net/placid/internal/planner/snapshot"
	verdicts "github.com/placid-net/placid/internal/planner/verdict"
	"github.com/placid-net/placid/internal/state"
)

// errChanges is an answer that --fail-on asked to fail on.
var errChanges = errors.New("verdicts change")

const policyDiffHelp = `Show every verdict that changes between two sets of network policies.

OLD and NEW are a file or directory, "live" for the policies of the cluster that
the kubeconfig names, or "none". Shown are all pairs of groups of pods, nodes,
entities and address ranges for which other ports are allowed, with the rules that
are the cause. A group is pods that no policy of either side can tell apart.

Pods, nodes, namespaces and services are those of --cluster; without it of NEW, or
else OLD, if there are pods in it, or else of the live cluster. A namespace that
OLD or NEW has with labels has these labels on that side.

Exit codes: 0 nothing changes; 1 something does (see --fail-on); 2 wrong
arguments; 3 --connections, and the agent did not answer; 4 a part of the input
could not be read, so no verdict can be told.`

// Words that stand for a set of policies.
const (
	diffLive = "live"
	diffNone = "none"
)

// diffLimit is the default of --limit.
const diffLimit = 100

// What --fail-on can ask for.
const (
	failOpened = "opened"
	failClosed = "closed"
	failAny    = "any"
)

const outMarkdown = "markdown"

// policyDiffFlags are the flags of `placid policy diff`.
type policyDiffFlags struct {
	cluster     []string
	live        clusterFlags // without paths
	platform    platformFlag
	failOn      enum
	limit       parsed[int]
	output      enum
	connections bool
}

// policyDiffCommand has an --output of its own, which hides the global one.
func (a *app) policyDiffCommand() *cobra.Command {
	f := &policyDiffFlags{
		failOn: enum{value: failAny, kind: "WHAT", allowed: []string{failOpened, failClosed, failAny}},
		limit:  newLimit(diffLimit),
		output: enum{value: outTable, kind: "format", allowed: []string{outTable, outJSON, outYAML, outMarkdown}},
	}
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Show every verdict that changes between two sets of policies",
		Long:  policyDiffHelp,
		Example: "  placid policy diff live policies/\n" +
			"  placid policy diff main/policies/ branch/policies/ --cluster cluster.yaml --output markdown\n" +
			"  placid policy diff live policies/ --fail-on closed --connections",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef(cmd, "%s takes exactly two arguments, got %d", cmd.Use, len(args))
			}
			if args[0] == "-" && args[1] == "-" {
				return usagef(cmd, "only one of OLD and NEW can be -, the standard input")
			}
			return nil
		},
		RunE: a.run(func(cmd *cobra.Command, args []string) error { return a.policyDiff(cmd.Context(), args[0], args[1], f) }),
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.cluster, "cluster", nil, "file or directory with the pods, nodes, namespaces and services; may be repeated")
	flags.StringVar(&f.live.kubeconfig, "kubeconfig", "", "kubeconfig of the live cluster; empty takes KUBECONFIG, then ~/.kube/config")
	flags.StringVar(&f.live.context, "context", "", "context of the kubeconfig; empty takes its current one")
	f.platform.add(cmd)
	flags.Var(&f.failOn, "fail-on", "what makes the exit code 1: "+f.failOn.choices())
	flags.Var(&f.limit, "limit", "the most changes to show; 0 shows all")
	flags.VarP(&f.output, "output", "o", "output format: "+f.output.choices())
	flags.BoolVar(&f.connections, "connections", false, "list the connections of this node that would be cut; asks the agent")
	return cmd
}

// policyDelta is the answer of `placid policy diff`.
type policyDelta struct {
	Old      string            `json:"old"`
	New      string            `json:"new"`
	For      snapshot.Platform `json:"for"`
	Policies policyChanges     `json:"policies"`
	Verdicts verdicts.Result   `json:"verdicts"`
	// Connections are those of this node that would be cut; absent if not asked for.
	Connections []cutConnection `json:"connections,omitzero"`
	// Notes are sentences about what is not judged, of the old side and the new one.
	Notes [2][]string `json:"notes"`
}

// policyChanges are keys of policies, sorted; Same counts the rest.
type policyChanges struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	Changed []string `json:"changed"`
	Same    int      `json:"same"`
}

func (a *app) policyDiff(ctx context.Context, oldArg, newArg string, f *policyDiffFlags) error {
	in, err := a.loadDiff(ctx, oldArg, newArg, f)
	if err != nil {
		return notJudged(err)
	}
	d := policyDelta{Old: oldArg, New: newArg, For: f.platform.of(in.cluster), Policies: comparePolicies(in.old.Policies, in.now.Policies)}
	var sides [2]verdicts.Side
	for i, s := range []*snapshot.Snapshot{in.old, in.now} {
		if sides[i], d.Notes[i], err = verdicts.SideOf(s, d.For); err != nil {
			return notJudged(err)
		}
		d.Notes[i] = nonNil(d.Notes[i])
	}
	a.notesOf(d)
	o := verdicts.Options{Limit: f.limit.value}
	var flows []flowOf
	if f.connections {
		if flows, err = a.nodeFlows(ctx); err != nil {
			return err
		}
		for _, x := range flows {
			o.Flows = append(o.Flows, x.flow)
		}
	}
	show := a.showProgress()
	o.Progress = func(what string, done, total int) { show.update(done, total, what) }
	d.Verdicts, err = verdicts.Compare(ctx, verdicts.ClusterOf(in.cluster), sides[0], sides[1], o)
	show.clear()
	if err != nil {
		return notJudged(err)
	}
	if f.connections {
		d.Connections = nonNil(cutConnections(flows, d.Verdicts.Cut))
		d.Verdicts.Cut = nil // Connections says it
	}
	if err := a.printDiff(d, f); err != nil {
		return err
	}
	r := d.Verdicts
	if failed := map[string]int{failOpened: r.Opened, failClosed: r.Closed, failAny: r.Changed}[f.failOn.value]; failed > 0 {
		return &reportedError{errChanges}
	}
	return nil
}

// notesOf tells what is not judged: of both sides once.
func (a *app) notesOf(d policyDelta) {
	for _, n := range d.Notes[0] {
		if slices.Contains(d.Notes[1], n) {
			a.note("%s", n)
		} else {
			a.note("%s: %s", d.Old, n)
		}
	}
	for _, n := range d.Notes[1] {
		if !slices.Contains(d.Notes[0], n) {
			a.note("%s: %s", d.New, n)
		}
	}
}

func (a *app) printDiff(d policyDelta, f *policyDiffFlags) error {
	var out bytes.Buffer
	switch f.output.value {
	case outTable:
		policyDiffText(&out, d, f.connections)
	case outMarkdown:
		policyDiffMarkdown(&out, d, f.connections)
	default:
		if err := encode(&out, f.output.value, d); err != nil {
			return err
		}
	}
	return a.write(out.Bytes())
}

// diffInput is what a diff compares: the cluster with the policies of each side.
type diffInput struct{ cluster, old, now *snapshot.Snapshot }

// loadDiff reads both sides and the cluster. A part that could not be read is an
// error.
func (a *app) loadDiff(ctx context.Context, oldArg, newArg string, f *policyDiffFlags) (diffInput, error) {
	read := map[string]*snapshot.Snapshot{} // live and a path that is named twice are read once
	load := func(from clusterFlags, name string) (*snapshot.Snapshot, error) {
		if s := read[name]; s != nil {
			return s, nil
		}
		s, err := from.load(ctx, a)
		if err == nil {
			err = a.complain(s)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		read[name] = s
		return s, nil
	}
	one := func(arg string) (*snapshot.Snapshot, error) {
		from := f.live
		switch arg {
		case diffNone:
			return &snapshot.Snapshot{}, nil
		case diffLive:
		default:
			from.paths = []string{arg}
		}
		return load(from, arg)
	}
	old, err := one(oldArg)
	if err != nil {
		return diffInput{}, err
	}
	now, err := one(newArg)
	if err != nil {
		return diffInput{}, err
	}
	cluster := old
	switch {
	case len(f.cluster) > 0:
		cluster, err = load(clusterFlags{paths: f.cluster}, "--cluster")
	case len(now.Pods) > 0:
		cluster = now
	case len(old.Pods) == 0:
		cluster, err = load(f.live, diffLive)
	}
	if err != nil {
		return diffInput{}, err
	}
	return diffInput{cluster, withPolicies(cluster, old), withPolicies(cluster, now)}, nil
}

// withPolicies gives the cluster with the policies of one side, the labels that it
// gives to namespaces, and its groups of CIDRs if it has any.
func withPolicies(cluster, side *snapshot.Snapshot) *snapshot.Snapshot {
	out := *cluster
	out.Policies = side.Policies
	if len(side.CIDRGroups) > 0 {
		out.CIDRGroups = side.CIDRGroups
	}
	byName := map[string]state.Namespace{}
	for _, ns := range cluster.Namespaces {
		byName[ns.Name] = ns
	}
	for _, ns := range side.Namespaces {
		if _, known := byName[ns.Name]; !known || !isImplied(ns) {
			byName[ns.Name] = ns
		}
	}
	out.Namespaces = slices.SortedFunc(maps.Values(byName), func(a, b state.Namespace) int { return cmp.Compare(a.Name, b.Name) })
	return &out
}

// isImplied tells whether a namespace has no labels but the one that every
// namespace has: then it may be there only because other objects name it.
func isImplied(ns state.Namespace) bool {
	_, named := ns.Labels["kubernetes.io/metadata.name"]
	return len(ns.Labels) == 0 || named && len(ns.Labels) == 1
}

func comparePolicies(old, now []state.NetworkPolicy) policyChanges {
	before := map[string]state.NetworkPolicy{}
	for _, p := range old {
		before[p.Key()] = p
	}
	out := policyChanges{Added: []string{}, Removed: []string{}, Changed: []string{}}
	for _, p := range now {
		was, known := before[p.Key()]
		delete(before, p.Key())
		was.UID, p.UID = "", ""
		switch {
		case !known:
			out.Added = append(out.Added, p.Key())
		case reflect.DeepEqual(was, p):
			out.Same++
		default:
			out.Changed = append(out.Changed, p.Key())
		}
	}
	out.Removed = append(out.Removed, slices.Collect(maps.Keys(before))...)
	slices.Sort(out.Added)
	slices.Sort(out.Removed)
	slices.Sort(out.Changed)
	return out
}
