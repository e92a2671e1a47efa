package whatif

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/planner/verdict"
	"github.com/placid-net/placid/internal/state"
)

// Options say what to try. Exactly one of Labels, Auto and Propose counts: Propose
// before Auto before Labels.
type Options struct {
	// For is the network whose rules and objects are meant.
	For snapshot.Platform
	// Labels are the items of the new filter; empty is the built-in patterns alone.
	Labels []string
	// Auto takes the labels that policies select on.
	Auto bool
	// Propose looks for the fewest labels that keep every verdict.
	Propose bool
	// Limit is the most verdicts to list; 0 lists all.
	Limit int
	// Progress is told how much of what is done; a total of 0 is not known. Nil is
	// nobody.
	Progress func(what string, done, total int)
}

func (o Options) progress(what string, done, total int) {
	if o.Progress != nil {
		o.Progress(what, done, total)
	}
}

// Count is how many identities there are.
type Count struct {
	Total int `json:"total"`
	// Namespaces has those of each namespace that has any.
	Namespaces map[string]int `json:"namespaces"`
}

// Writes is what the API server would have to write when the filter changes, as
// soon as agents run with it.
type Writes struct {
	// IdentityKind and EndpointKind are the kinds of the objects.
	IdentityKind string `json:"identityKind"`
	EndpointKind string `json:"endpointKind"`
	// Created are new identities, Updated objects of endpoints, Deleted identities
	// that collection removes later.
	Created int `json:"created"`
	Updated int `json:"updated"`
	Deleted int `json:"deleted"`
}

// Unlabelled is pods of a namespace with the same labels, of which the new filter
// leaves none.
type Unlabelled struct {
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels"`
	Varying   []string          `json:"varying,omitempty"` // keys of those that differ
	Pods      int               `json:"pods"`
	Example   string            `json:"example"` // "namespace/name"
}

// Side is how things are under one filter.
type Side struct {
	// Labels is the value of the key labels.
	Labels     string `json:"labels"`
	Identities Count  `json:"identities"`
	// Policy is what the policy tables have to hold.
	Policy verdict.Size `json:"policy"`
}

// Result is what another filter would do.
type Result struct {
	For  snapshot.Platform `json:"for"`
	Pods int               `json:"pods"` // with a network of their own
	Now  Side              `json:"now"`
	Then Side              `json:"then"`
	// NamedPortIdentities are the identities that there are more, now and then, where
	// pods with other named ports have others: always with Placid, where they are
	// counted in already, and from Cilium 1.20 on.
	NamedPortIdentities [2]int `json:"namedPortIdentities"`
	// Addresses are the entries from addresses of pods to identities, Moved those of
	// them that change.
	Addresses int       `json:"addresses"`
	Moved     int       `json:"moved"`
	Writes    Writes    `json:"writes"`
	Keys      []Key     `json:"keys"`
	Varying   []Varying `json:"varying"`
	// Broken are selectors on labels that the new filter leaves out and the filter in
	// force does not; BrokenNow those that select nothing already.
	Broken    []Finding `json:"broken"`
	BrokenNow []Finding `json:"brokenNow"`
	// Unlabelled are pods that would have no label of their own in their identity.
	Unlabelled []Unlabelled   `json:"unlabelled"`
	Verdicts   verdict.Result `json:"verdicts"`
	Proposal   *Proposal      `json:"proposal,omitempty"`
	// Notes are sentences about what was not judged.
	Notes []string `json:"notes"`
}

// Run says what another label filter would do to the cluster. The error is a filter
// or a setting that is not valid, or that ctx ended.
func Run(ctx context.Context, s *snapshot.Snapshot, o Options) (Result, error) {
	now, notes, err := verdict.SideOf(s, o.For)
	if err != nil {
		return Result{}, fmt.Errorf("the filter in force: %w", err)
	}
	cluster := verdict.ClusterOf(s)
	res := Result{For: o.For, Now: Side{Labels: strings.Join(verdict.Labels(s), " ")}, Notes: append([]string{}, notes...)}
	items, err := chooseItems(ctx, s, cluster, now, o, &res)
	if err != nil {
		return Result{}, err
	}
	res.Then.Labels = strings.Join(items, " ")
	then := now
	if then.Filter, err = identity.ParseFilter(items); err != nil {
		return Result{}, fmt.Errorf("the new filter: %w", err)
	}
	var guarded identity.Filter
	if res.Proposal != nil {
		if guarded, err = identity.ParseFilter(strings.Fields(res.Proposal.Guarded)); err != nil {
			return Result{}, fmt.Errorf("the new filter: %w", err)
		}
	}
	o.progress("count identities", 0, 0)
	count(s, cluster.Name, &now, &then, guarded, &res)
	res.findings(s, now.Filter, then.Filter, now.ByIdentity)
	res.Verdicts, err = verdict.Compare(ctx, cluster, now, then, verdict.Options{Limit: o.Limit, Progress: o.Progress})
	if err != nil {
		return Result{}, err //nolint:wrapcheck // says what was done
	}
	res.Now.Policy, res.Then.Policy = res.Verdicts.Sizes[0], res.Verdicts.Sizes[1]
	return res, nil
}

// chooseItems gives the items of the new filter.
func chooseItems(ctx context.Context, s *snapshot.Snapshot, cluster verdict.Cluster, now verdict.Side, o Options, res *Result) ([]string, error) {
	switch {
	case o.Propose:
		p, err := propose(ctx, cluster, now, verdict.Labels(s), s.Policies, o)
		if err != nil {
			return nil, fmt.Errorf("propose a filter: %w", err)
		}
		res.Proposal = &p
		return strings.Fields(p.Labels), nil
	case o.Auto:
		keys, err := candidates(selectedBy(s.Policies, now.ByIdentity), nil, nil)
		return includeList(keys, nil), err
	}
	return o.Labels, nil
}

// count fills what is counted, and tells the sides the identities of the pods.
// guarded is the filter of a proposal, if there is one.
func count(s *snapshot.Snapshot, cluster string, now, then *verdict.Side, guarded identity.Filter, res *Result) {
	inv := newInventory(s, cluster)
	ports := !now.ByIdentity
	keptNow, keptThen := inv.kept(now.Filter, ports), inv.kept(then.Filter, ports)
	now.Identities, res.Now.Identities.Total = inv.identities(keptNow)
	then.Identities, res.Then.Identities.Total = inv.identities(keptThen)
	res.Now.Identities.Namespaces = byNamespace(s, now.Identities)
	res.Then.Identities.Namespaces = byNamespace(s, then.Identities)
	for i, f := range []identity.Filter{now.Filter, then.Filter} {
		res.NamedPortIdentities[i] = inv.count(inv.kept(f, true)) - inv.count(inv.kept(f, false))
	}

	res.Writes = Writes{IdentityKind: "PlacidIdentity", EndpointKind: "PlacidEndpoints"}
	moved := inv.moved(keptNow, keptThen)
	pods, nodes := 0, map[string]struct{}{}
	for i, p := range s.Pods {
		if p.HostNetwork {
			continue
		}
		res.Pods++
		res.Addresses += len(p.Addrs)
		if moved[i] {
			pods++
			res.Moved += len(p.Addrs)
			nodes[p.Node] = struct{}{}
		}
	}
	delete(nodes, "")
	res.Writes.Updated = len(nodes)
	if now.ByIdentity {
		res.Writes = Writes{IdentityKind: "CiliumIdentity", EndpointKind: "CiliumEndpoint", Updated: pods}
	}
	res.Writes.Created, res.Writes.Deleted = inv.only(keptThen, keptNow), inv.only(keptNow, keptThen)

	if p := res.Proposal; p != nil {
		p.GuardedIdentities = inv.count(inv.kept(guarded, ports))
	}
	res.Keys = inv.keys(keptNow, keptThen, selectedBy(s.Policies, now.ByIdentity))
	res.Varying = inv.varying(s, keptNow, keptThen)
}

func byNamespace(s *snapshot.Snapshot, identities []int) map[string]int {
	seen := map[string]map[int]struct{}{}
	for i, p := range s.Pods {
		if identities[i] == noIdentity {
			continue
		}
		if seen[p.Ref.Namespace] == nil {
			seen[p.Ref.Namespace] = map[int]struct{}{}
		}
		seen[p.Ref.Namespace][identities[i]] = struct{}{}
	}
	out := make(map[string]int, len(seen))
	for ns, ids := range seen {
		out[ns] = len(ids)
	}
	return out
}

// findings fills what the new filter breaks.
func (r *Result) findings(s *snapshot.Snapshot, now, then identity.Filter, byIdentity bool) {
	id := func(f Finding) string {
		return fmt.Sprint(f.Policy, "\x00", f.Key, "\x00", f.Namespace, "\x00", f.Fields)
	}
	already := map[string]struct{}{}
	r.BrokenNow = append([]Finding{}, broken(now, s.Policies, byIdentity)...)
	for _, f := range r.BrokenNow {
		already[id(f)] = struct{}{}
	}
	r.Broken = []Finding{}
	for _, f := range broken(then, s.Policies, byIdentity) {
		if !contains(already, id(f)) {
			r.Broken = append(r.Broken, f)
		}
	}
	var pods []state.Pod
	for _, p := range s.Pods {
		if !p.HostNetwork {
			pods = append(pods, p.Pod)
		}
	}
	r.Unlabelled = []Unlabelled{}
	for _, g := range identity.Unlabelled(then, pods) {
		r.Unlabelled = append(r.Unlabelled, Unlabelled{g.Namespace, g.Labels, g.Varying, len(g.Pods), g.Pods[0].String()})
	}
}

// Policies are the keys of the policies with findings, sorted.
func Policies(findings []Finding) []string {
	names := map[string]struct{}{}
	for _, f := range findings {
		names[f.Policy] = struct{}{}
	}
	return slices.Sorted(maps.Keys(names))
}
