package whatif

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/planner/verdict"
	"github.com/placid-net/placid/internal/state"
)

func run(t *testing.T, s *snapshot.Snapshot, o Options) Result {
	t.Helper()
	if o.For == "" {
		o.For = snapshot.Placid
	}
	res, err := Run(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestDropsWhatPoliciesNeed leaves out the label that the policy selects by.
func TestDropsWhatPoliciesNeed(t *testing.T) {
	for platform, want := range map[snapshot.Platform]struct {
		broken []string
		closed int
		opened int
	}{
		// The rule selects nobody: api pods are shut out, all others were.
		snapshot.Placid: {[]string{"spec.ingress[0].from[0].podSelector"}, 1, 0},
		// The policy selects no pod any more: the database is open to all others.
		snapshot.Cilium: {[]string{"spec.ingress[0].from[0].podSelector", "spec.podSelector"}, 0, 5},
		snapshot.Terway: {[]string{"spec.ingress[0].from[0].podSelector", "spec.podSelector"}, 0, 5},
	} {
		res := run(t, shop(), Options{For: platform, Labels: []string{"!app$", "!build$"}})
		var fields []string
		for _, f := range res.Broken {
			fields = append(fields, f.Fields...)
			if f.Policy != "shop/db" || f.Key != "app" || f.Namespace {
				t.Errorf("%s: finding %+v", platform, f)
			}
		}
		slices.Sort(fields)
		if !slices.Equal(fields, want.broken) || res.Verdicts.Closed != want.closed || res.Verdicts.Opened != want.opened {
			t.Errorf("%s: broken %q, %d closed, %d opened; want %+v", platform, fields, res.Verdicts.Closed, res.Verdicts.Opened, want)
		}
		if len(res.BrokenNow) != 0 || !slices.Equal(Policies(res.Broken), []string{"shop/db"}) {
			t.Errorf("%s: broken now %+v, policies %q", platform, res.BrokenNow, Policies(res.Broken))
		}
	}
}

// TestAlreadyBroken tells what is broken anyway from what the new filter breaks.
func TestAlreadyBroken(t *testing.T) {
	s := shop()
	s.Settings = map[string]string{"labels": "!app"}
	res := run(t, s, Options{Labels: []string{"!app$", "!build"}})
	if len(res.Broken) != 0 || len(res.BrokenNow) != 1 || res.Verdicts.Changed != 0 {
		t.Errorf("broken %+v, broken now %+v, %d verdicts change", res.Broken, res.BrokenNow, res.Verdicts.Changed)
	}
}

func TestCounts(t *testing.T) {
	res := run(t, shop(), Options{Labels: []string{"!build$"}})
	if res.Now.Identities.Total != 6 || res.Then.Identities.Total != 3 || res.Then.Identities.Namespaces["shop"] != 3 {
		t.Errorf("identities %+v, then %+v", res.Now.Identities, res.Then.Identities)
	}
	want := Writes{IdentityKind: "PlacidIdentity", EndpointKind: "PlacidEndpoints", Created: 3, Updated: 2, Deleted: 6}
	if diff := cmp.Diff(want, res.Writes); diff != "" {
		t.Error(diff)
	}
	want = Writes{IdentityKind: "CiliumIdentity", EndpointKind: "CiliumEndpoint", Created: 3, Updated: 6, Deleted: 6}
	if diff := cmp.Diff(want, run(t, shop(), Options{For: snapshot.Terway, Labels: []string{"!build$"}}).Writes); diff != "" {
		t.Error(diff)
	}
	if res.Addresses != 6 || res.Moved != 6 || res.Pods != 6 {
		t.Errorf("%d of %d addresses of %d pods move", res.Moved, res.Addresses, res.Pods)
	}
	// One set, with an entry for each identity that has app=api.
	if now, then := res.Now.Policy, res.Then.Policy; now.Sets != 1 || now.Entries != 2 || then.Entries != 1 || now.Node != "n1" || now.NodeEntries != 2 {
		t.Errorf("policy tables %+v, then %+v", now, then)
	}
	if now, then := res.Now.Policy, res.Then.Policy; now.PodEntries != 4 || then.PodEntries != 2 || now.LargestPod != "shop/db-0" || now.LargestPodEntries != 2 {
		t.Errorf("policy maps %+v, then %+v", now, then)
	}
}

func TestKeys(t *testing.T) {
	res := run(t, shop(), Options{Labels: []string{"!build$"}})
	top := res.Keys[0]
	want := Key{Key: "build", Pods: 6, Values: 6, Kept: true, Without: 3, Causes: 3, Alone: 6}
	if top != want {
		t.Errorf("the first label is %+v, want %+v", top, want)
	}
	for _, k := range res.Keys {
		if k.Key == "app" && (k.Policies != 1 || !k.KeptThen) || k.Key == "pod-template-hash" && (k.Kept || k.Causes != 0) {
			t.Errorf("%+v", k)
		}
		if k.Key == identity.NamespaceKey || k.Key == identity.ClusterKey {
			t.Errorf("%s is ranked", k.Key)
		}
	}
}

func TestVarying(t *testing.T) {
	s := shop()
	for i := range 20 {
		p := s.Pods[0]
		p.Ref.Name = "job-" + string('a'+rune(i))
		p.Labels = map[string]string{"job": p.Ref.Name, "kind": "job"}
		s.Pods = append(s.Pods, p)
	}
	res := run(t, s, Options{Labels: []string{"k8s:app$"}})
	want := []Varying{{Key: "job", Namespace: "shop", Values: 20, Pods: 20, Kept: true}}
	if diff := cmp.Diff(want, res.Varying); diff != "" {
		t.Error(diff)
	}
	if len(res.Unlabelled) != 1 || res.Unlabelled[0].Pods != 20 || res.Unlabelled[0].Labels["kind"] != "job" || !slices.Equal(res.Unlabelled[0].Varying, []string{"job"}) {
		t.Errorf("unlabelled %+v", res.Unlabelled)
	}
}

func TestAuto(t *testing.T) {
	s := shop()
	s.Policies = append(s.Policies, state.NetworkPolicy{
		Namespace: "shop", Name: "x", IsolatesEgress: true, Subject: *eq("tier", "x"),
		Egress: []state.PolicyRule{{Peers: []state.PolicyPeer{
			{Pods: eq("example.com/part", "y", "app.kubernetes.io/name", "z")}, {Namespaces: eq("team", "a")},
		}}},
	})
	for platform, want := range map[snapshot.Platform]string{
		snapshot.Placid: `k8s:app$ k8s:example\.com/part$`,
		snapshot.Cilium: `k8s:app$ k8s:example\.com/part$ k8s:tier$`,
	} {
		if got := run(t, s, Options{For: platform, Auto: true}).Then.Labels; got != want {
			t.Errorf("%s: %q, want %q", platform, got, want)
		}
	}
}

// TestPropose keeps of all labels the one that counts, and what the filter in force
// leaves out stays out.
func TestPropose(t *testing.T) {
	s := shop()
	s.Settings = map[string]string{"labels": `!build k8s:!example\.com`}
	res := run(t, s, Options{Propose: true})
	want := &Proposal{
		Labels: `k8s:app$ !build k8s:!example\.com`, Smallest: true, Guarded: `k8s:app$ !build k8s:!example\.com`, GuardedIdentities: 3,
		Keys: []ProposedKey{{
			Key: "app", Item: "k8s:app$", Policies: []string{"shop/db"}, Fields: []string{"shop/db spec.ingress[0].from[0].podSelector"},
		}},
	}
	if diff := cmp.Diff(want, res.Proposal); diff != "" {
		t.Error(diff)
	}
	if res.Verdicts.Changed != 0 || len(res.Broken) != 0 {
		t.Errorf("the proposal changes %+v and breaks %+v", res.Verdicts, res.Broken)
	}
	filter := parse(t, strings.Fields(res.Then.Labels))
	if filter.Keep("k8s", "apple") || !filter.Keep("k8s", "app") {
		t.Error("the item for app is not about app alone")
	}
}

// TestProposeNothing proposes a list that keeps no label of pods where no policy
// needs one.
func TestProposeNothing(t *testing.T) {
	s := shop()
	s.Policies = nil
	res := run(t, s, Options{Propose: true})
	if res.Then.Labels != noLabels || !res.Proposal.Smallest || res.Then.Identities.Total != 1 {
		t.Errorf("%+v with %d identities", res.Proposal, res.Then.Identities.Total)
	}
}

// TestSearch looks for lists where what counts is told by a function.
func TestSearch(t *testing.T) {
	keys := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"}
	has := func(kept []string, all ...string) bool {
		return !slices.ContainsFunc(all, func(k string) bool { return !slices.Contains(kept, k) })
	}
	for name, c := range map[string]struct {
		monotone bool
		keys     []string
		same     func(kept []string) bool
		want     string
		smallest bool
	}{
		"needed":           {true, keys, func(k []string) bool { return has(k, "b", "d") }, "bd", true},
		"nothing":          {true, keys[:5], func([]string) bool { return true }, "", true},
		"either":           {true, keys[:6], func(k []string) bool { return has(k, "a") && (has(k, "b", "c") || has(k, "d")) }, "ad", true},
		"either of many":   {true, keys, func(k []string) bool { return has(k, "b", "c") || has(k, "l") }, "l", true},
		"too many":         {true, keys, func(k []string) bool { return len(k) > 6 }, "fghijkl", false},
		"shorter":          {true, keys, func(k []string) bool { return has(k, "a") || has(k, "k", "l") }, "a", true},
		"not monotone":     {false, keys[:4], func(k []string) bool { return has(k, "a", "b") || len(k) == 1 && has(k, "c") }, "c", true},
		"not monotone, 12": {false, keys, func(k []string) bool { return has(k, "b", "d") }, "bd", true},
	} {
		tries := 0
		s := search{keys: c.keys, monotone: c.monotone, tries: 100, same: func(kept []string) (bool, error) {
			tries++
			return c.same(kept), nil
		}}
		found, smallest, err := s.run()
		if err != nil || strings.Join(found, "") != c.want || smallest != c.smallest {
			t.Errorf("%s: %q (smallest %v, %v), want %q (%v)", name, found, smallest, err, c.want, c.smallest)
		}
		if tries > 100+2*len(c.keys)+1 {
			t.Errorf("%s: %d tries", name, tries)
		}
	}
	broken := errors.New("broken")
	if _, _, err := (search{keys: keys, same: func([]string) (bool, error) { return false, broken }}).run(); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

func TestErrors(t *testing.T) {
	if _, err := Run(t.Context(), shop(), Options{Labels: []string{"k8s:("}}); !errors.Is(err, identity.ErrPattern) {
		t.Errorf("error %v, want %v", err, identity.ErrPattern)
	}
	s := shop()
	s.Settings = map[string]string{"labels": "k8s:("}
	if _, err := Run(t.Context(), s, Options{}); !errors.Is(err, identity.ErrPattern) || !strings.Contains(err.Error(), "in force") {
		t.Errorf("error %v does not say that the filter in force is not valid", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, o := range []Options{{}, {Propose: true}} {
		if _, err := Run(ended, shop(), o); !errors.Is(err, context.Canceled) {
			t.Errorf("%+v: error %v, want %v", o, err, context.Canceled)
		}
	}
}

// TestVerdictsAreThoseOfCompare checks that both sides of the comparison are the
// cluster's policies under the two filters.
func TestVerdictsAreThoseOfCompare(t *testing.T) {
	s := shop()
	res := run(t, s, Options{Labels: []string{"k8s:build$"}})
	if len(res.Verdicts.Changes) != 1 {
		t.Fatalf("changes %+v", res.Verdicts.Changes)
	}
	x := res.Verdicts.Changes[0]
	want := []verdict.Cause{{Direction: "ingress", Effect: verdict.AllowGone, Rules: []string{"shop/db spec.ingress[0]"}}}
	if diff := cmp.Diff(want, x.Causes); diff != "" || x.From.Name != "shop/app=api" || x.To.Name != "shop/app=db" || x.Closed.String() != "everything" {
		t.Errorf("%s to %s: closed %v; causes %s", x.From.Name, x.To.Name, x.Closed, diff)
	}
}
