package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/placid-net/placid/api/v1alpha1"
)

const (
	// Labels of an identity are written as the operator sees them.
	identityNamespace      = "k8s:io.kubernetes.pod.namespace"
	identityNamespaceLabel = "k8s:io.cilium.k8s.namespace.labels."
	// firstPolicyTimeout is how long the first policy may take on a busy machine;
	// when nodes do not hear of each other it takes the 30 s of ADR 6.
	firstPolicyTimeout = 15 * time.Second
	// A pass of the collection a minute, two passes for an identity to go.
	identityTimeout = 4 * time.Minute
)

// identities are those of the label sets in a namespace, by number.
func (l *lab) identities(t *testing.T, namespace string) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	for _, i := range get[v1alpha1.PlacidIdentityList](t, l, "placididentities").Items {
		if i.Labels[identityNamespace] == namespace || namespace == "" {
			out[i.Name] = i.Labels
		}
	}
	return out
}

// published are the identities of a namespace's pods as the nodes tell each
// other, by pod.
func (l *lab) published(t *testing.T, namespace string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, n := range get[v1alpha1.PlacidEndpointsList](t, l, "placidendpoints").Items {
		for _, ep := range n.Endpoints {
			if ep.Namespace == namespace {
				out[ep.Name] = strconv.FormatInt(ep.Identity, 10)
			}
		}
	}
	return out
}

// testFirstPolicy shows that nothing is numbered while there is no policy, and
// that the first one drops nothing of what it allows.
func (l *lab) testFirstPolicy(t *testing.T) {
	const name = "first"
	tr := l.newTroupe(t, name)
	l.run(t, "without a policy there are no identities and no published endpoints", func(t *testing.T) {
		if got := l.identities(t, ""); len(got) > 0 {
			t.Errorf("identities %v", got)
		}
		if got := get[v1alpha1.PlacidEndpointsList](t, l, "placidendpoints").Items; len(got) > 0 {
			t.Errorf("%d PlacidEndpoints", len(got))
		}
	})
	l.run(t, "the first policy ends what it forbids within seconds, and drops nothing that it allows", func(t *testing.T) {
		flows := startLoad(t, [2]place{tr.friend, tr.near}, [2]place{tr.friend, tr.far})
		opened := keepTrying(t, true, tr.permitted()...)
		if err := wantAnswers(t, tr.forbidden(), true); err != nil {
			t.Fatalf("before there is a policy: %v", err)
		}
		began := time.Now()
		l.apply(t, tr.policy)
		shut := keepTrying(t, false, tr.forbidden()...)
		tr.waitShut(t)
		shut.stop()
		shut.done.Wait()
		if took := shut.lastWrong().Sub(began); took > firstPolicyTimeout {
			t.Errorf("what the policy forbids went on for %s, want at most %s", took, firstPolicyTimeout)
		} else {
			t.Logf("what the policy forbids ended after %s", max(took, 0).Round(time.Millisecond))
		}
		opened.end(t, minimumExchanges)
		flows.end(t, minimumExchanges)
	})
	l.run(t, "each label set has one identity, also after its namespace is relabelled", func(t *testing.T) {
		l.waitIdentities(t, name, "")
		before := l.identities(t, name)
		steady := keepTrying(t, true, tr.permitted()...)
		l.kubectl(t, "label", "namespace", name, "tier=gold")
		l.waitIdentities(t, name, "gold")
		steady.end(t, minimumExchanges)
		if err := wantAnswers(t, tr.forbidden(), false); err != nil {
			t.Error(err)
		}
		for number := range before {
			l.outdated = append(l.outdated, number)
		}
	})
	l.run(t, "a policy that selects by a label that no identity has gets an event", func(t *testing.T) {
		const key = "pod-template-hash"
		p := ingressPolicy(name, "unmatchable", with(roleLabel, friendRole), ingressRule{From: []policyPeer{{PodSelector: with(key, "1")}}})
		l.apply(t, p)
		eventually(t, time.Minute, "event of the policy", func() error {
			return l.eventSays(t, "NetworkPolicy", p.Name, "PolicyUsesFilteredLabel", key, "spec.ingress[0].from[0].podSelector")
		})
		l.kubectl(t, "-n", name, "delete", "networkpolicy", p.Name)
	})
	l.run(t, "metrics tell of identities and policies", func(t *testing.T) {
		for _, h := range l.nodes {
			m := l.metrics(t, h)
			for series, atLeast := range map[string]float64{
				`cilium_policy`:                                                    1,
				`cilium_identity{type="cluster_local"}`:                            3,
				`placid_policy_sets`:                                               1,
				`placid_endpoint_identity_seconds_count`:                           1,
				`cilium_policy_implementation_delay_count{source="k8s"}`:           1,
				`placid_identity_propagation_seconds_count`:                        1,
				`cilium_policy_endpoint_enforcement_status{enforcement="ingress"}`: 1,
				`placid_policy_staged`:                                             0,
				`placid_policy_refused_sets`:                                       0,
				`placid_endpoints_without_identity`:                                0,
			} {
				if got, ok := m[series]; !ok || got < atLeast || atLeast == 0 && got != 0 {
					t.Errorf("%s: %s is %v (present %t), want %v or more", h.name, series, got, ok, atLeast)
				}
			}
		}
	})
}

// waitIdentities waits until the four pods of a troupe have the identities of
// their labels, which are three sets, with this value of the namespace's tier.
func (l *lab) waitIdentities(t *testing.T, name, tier string) {
	t.Helper()
	eventually(t, policyTimeout, "an identity for each label set", func() error {
		all, pods := l.identities(t, name), l.published(t, name)
		if len(pods) != 4 || pods["near"] != pods["far"] || len(slices.Compact(slices.Sorted(maps.Values(pods)))) != 3 {
			return fmt.Errorf("pods have the identities %v", pods)
		}
		current := 0
		for _, labels := range all {
			if labels[identityNamespaceLabel+"tier"] == tier {
				current++
			}
		}
		for pod, number := range pods {
			if all[number] == nil || all[number][identityNamespaceLabel+"tier"] != tier {
				return fmt.Errorf("pod %s has the identity %s with the labels %v", pod, number, all[number])
			}
		}
		if current != 3 {
			return fmt.Errorf("%d identities for three label sets: %v", current, all)
		}
		return nil
	})
}

// testOutdatedIdentities shows that identities go that no pod has had for a while:
// those that a namespace's pods had before it was relabelled.
func (l *lab) testOutdatedIdentities(t *testing.T) {
	if len(l.outdated) == 0 {
		t.Fatal("no identities should go: the test before this one did not get so far")
	}
	eventually(t, identityTimeout, "unused identities are gone", func() error {
		all := l.identities(t, "")
		for _, number := range l.outdated {
			if all[number] != nil {
				return fmt.Errorf("identity %s is still there: %v", number, all[number])
			}
		}
		return nil
	})
}

// metrics are the agent's, by series.
func (l *lab) metrics(t *testing.T, h host) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for line := range strings.Lines(l.on(t, h, "curl", "-sSf", "http://127.0.0.1:9962/metrics")) {
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64)
		if err != nil {
			t.Fatalf("metric %q: %v", line, err)
		}
		out[line[:i]] = v
	}
	return out
}
