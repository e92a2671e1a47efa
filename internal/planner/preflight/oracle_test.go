package preflight

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy/policytest"
	"github.com/placid-net/placid/internal/state"
)

// useless are the codes that say that something could go, and nothing would change.
func useless() []string { return []string{NoSubject, Denied, Duplicate, Contained, NoEffect} }

// TestUselessIsUseless takes away, in random clusters, what findings call useless,
// one at a time: every packet must have the same verdict, by the oracle of
// internal/policy.
func TestUselessIsUseless(t *testing.T) {
	const clusters, packets = 500, 60
	rng := rand.New(rand.NewPCG(5, 2))
	tried := map[string]int{}
	for range clusters {
		c := policytest.Random(rng)
		c.HiddenDerivedLabels = nil // no filter can leave out all of them
		c.Policies = slices.DeleteFunc(c.Policies, odd)
		for range rng.IntN(3) {
			repeat(rng, &c)
		}
		c.Number()
		before := c.Packets(rng, packets)
		for _, f := range Check(snapshotOf(c), Options{For: snapshot.Placid}) {
			if !slices.Contains(useless(), f.Code) {
				continue
			}
			tried[f.Code]++
			without := c
			without.Policies = remove(t, c.Policies, f)
			for _, p := range before {
				if c.Allowed(p) != without.Allowed(p) {
					policies, _ := yaml.Marshal(c.Policies)
					t.Fatalf("%s (%s) says that it is useless, and %+v was allowed %v and is %v without it\n%s", line(f), f.Message, p, c.Allowed(p), without.Allowed(p), policies)
				}
			}
		}
	}
	t.Logf("%v", tried)
	for _, code := range useless() {
		if tried[code] < 10 {
			t.Errorf("%s: %d cases are too few: the generator has become useless", code, tried[code])
		}
	}
}

// TestAnythingIsChecked checks random clusters as they come, also what no object of
// the API server leads to: for every platform, twice with the same findings, each
// with a code that is known, a message, and a severity no worse than its code's.
func TestAnythingIsChecked(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 1))
	for range 150 {
		c := policytest.Random(rng)
		s := snapshotOf(c)
		for _, platform := range []snapshot.Platform{snapshot.Placid, snapshot.Cilium, snapshot.Terway} {
			o := Options{For: platform, Target: Version{1, 20}}
			found := Check(s, o)
			if !slices.Equal(found, Check(s, o)) {
				t.Fatalf("%s: the second time it finds something else", platform)
			}
			for _, f := range found {
				code, ok := Explain(f.Code)
				if !ok || f.Message == "" || f.Severity.rank() < 0 || code.Severity != f.Severity && f.Severity.AtLeast(code.Severity) && f.Code != NobodySelected {
					t.Errorf("%+v of %+v", f, code)
				}
			}
		}
	}
}

// odd tells whether a policy has what no object of the API server leads to, or names
// other objects, which the oracle does not follow.
func odd(p state.NetworkPolicy) bool {
	bad := func(s *state.Selector) bool {
		return s != nil && slices.ContainsFunc(s.Expressions, func(r state.Requirement) bool {
			wants := r.Operator == state.OperatorIn || r.Operator == state.OperatorNotIn
			exists := r.Operator == state.OperatorExists || r.Operator == state.OperatorDoesNotExist
			return !wants && !exists || wants && len(r.Values) == 0
		})
	}
	if bad(&p.Subject) {
		return true
	}
	for _, r := range slices.Concat(p.Ingress, p.Egress, p.IngressDeny, p.EgressDeny) {
		for _, x := range r.Peers {
			kinds := 0
			for _, is := range []bool{x.Pods != nil || x.Namespaces != nil, x.Endpoints != nil, x.Block != nil, x.Entity != ""} {
				if is {
					kinds++
				}
			}
			if kinds > 1 || x.Nodes != nil || x.Service != nil || x.CIDRGroup != nil || x.Entity == state.EntityKubeAPIServer ||
				bad(x.Pods) || bad(x.Namespaces) || bad(x.Endpoints) || x.Block != nil && !x.Block.CIDR.IsValid() {
				return true
			}
		}
		for _, x := range r.Ports {
			ports := x.Protocol == state.ProtocolTCP || x.Protocol == state.ProtocolUDP || x.Protocol == state.ProtocolSCTP
			if !ports && (x.Name != "" || x.Port != 0 || x.EndPort != 0) || x.EndPort != 0 && x.EndPort < x.Port || x.Port == 0 && x.EndPort != 0 ||
				x.ICMPType != nil && x.Protocol != state.ProtocolICMP && x.Protocol != state.ProtocolICMPv6 {
				return true
			}
		}
	}
	return false
}

// repeat adds a policy that another one of the cluster comes close to: with a rule
// or a peer less, or with rules that deny what it allows.
func repeat(rng *rand.Rand, c *policytest.Cluster) {
	if len(c.Policies) == 0 {
		return
	}
	p := c.Policies[rng.IntN(len(c.Policies))]
	p.Name += "-again" + strconv.Itoa(len(c.Policies))
	p.Ingress, p.Egress = slices.Clone(p.Ingress), slices.Clone(p.Egress)
	for _, rules := range []*[]state.PolicyRule{&p.Ingress, &p.Egress} {
		if n := len(*rules); n > 0 && rng.IntN(2) == 0 {
			i := rng.IntN(n)
			r := (*rules)[i]
			if len(r.Peers) > 1 {
				r.Peers = r.Peers[1:]
				(*rules)[i] = r
			} else {
				*rules = slices.Delete(*rules, i, i+1)
			}
		}
	}
	switch rng.IntN(4) {
	case 0:
		if p.Kind != state.PolicyKubernetes {
			p.IngressDeny, p.EgressDeny = p.Ingress, p.Egress
			p.Ingress, p.Egress = nil, nil
		}
	case 1:
		if p.Kind != state.PolicyKubernetes {
			p.IsolatesIngress, p.IsolatesEgress = false, false
			p.IngressDeny, p.EgressDeny = nil, nil
		}
	}
	c.Policies = append(c.Policies, p)
}

func snapshotOf(c policytest.Cluster) *snapshot.Snapshot {
	s := &snapshot.Snapshot{
		Namespaces: c.Namespaces, Policies: c.Policies, ClusterName: policytest.Name,
		Origins: map[snapshot.Object]snapshot.Origin{}, Settings: map[string]string{"enable-policy": c.Mode},
	}
	if c.Mode == "" {
		s.Settings["enable-policy"] = "default"
	}
	var items []string
	for _, key := range c.HiddenPodLabels {
		items = append(items, "k8s:!"+regexp.QuoteMeta(key)+"$")
	}
	for _, key := range c.HiddenNamespaceLabels {
		items = append(items, "k8s:!"+regexp.QuoteMeta(strings.TrimPrefix(namespacePrefix, podPrefix)+key)+"$")
	}
	s.Settings["labels"] = strings.Join(items, " ")
	for _, n := range c.Namespaces {
		s.Origins[snapshot.Object{Kind: "Namespace", Name: n.Name}] = snapshot.Origin{}
	}
	for _, p := range c.Pods {
		s.Pods = append(s.Pods, snapshot.Pod{
			Pod:   state.Pod{Ref: p.Ref, Labels: p.Labels, ServiceAccount: p.ServiceAccount, NamedPorts: p.NamedPorts},
			Addrs: p.Addrs, Ports: p.NamedPorts,
		})
	}
	return s
}

var ruleForm = regexp.MustCompile(`^(?:spec|specs\[(\d+)\])\.(ingress|egress)(Deny)?\[(\d+)\]$`)

// remove gives the policies without what a finding is about.
func remove(t *testing.T, policies []state.NetworkPolicy, f Finding) []state.NetworkPolicy {
	t.Helper()
	m := ruleForm.FindStringSubmatch(f.Field)
	var out []state.NetworkPolicy
	for _, p := range policies {
		part := 0
		if m != nil && m[1] != "" {
			part, _ = strconv.Atoi(m[1])
			part++
		}
		if p.Kind.String() != f.Object.Kind || p.Namespace != f.Object.Namespace || p.Name != f.Object.Name || p.Part != part {
			out = append(out, p)
			continue
		}
		if m == nil {
			continue
		}
		list := map[string]*[]state.PolicyRule{"ingress": &p.Ingress, "egress": &p.Egress, "ingressDeny": &p.IngressDeny, "egressDeny": &p.EgressDeny}[m[2]+m[3]]
		i, _ := strconv.Atoi(m[4])
		*list = slices.Delete(slices.Clone(*list), i, i+1)
		out = append(out, p)
	}
	return out
}
