package k8s

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/policy/resolve"
	"github.com/placid-net/placid/internal/state"
)

// verdicts judges one pod of the namespace shop against peers of all kinds. It
// returns the flows that are allowed.
func verdicts(rows ...state.NetworkPolicy) map[policy.Query]bool {
	const subject, inside, elsewhere = 1, 1000, 1001
	namespace := func(ns, app string) map[string]string {
		return map[string]string{"k8s:app": app, "k8s:io.kubernetes.pod.namespace": ns}
	}
	e := policy.NewEngine(policy.Config{})
	e.SetIdentity(state.Identity{ID: inside, Labels: namespace("shop", "a")})
	e.SetIdentity(state.Identity{ID: elsewhere, Labels: namespace("other", "b")})
	e.SetSubject(policy.Subject{
		Endpoint: subject, Pod: state.PodRef{Namespace: "shop", Name: "web"}, Labels: map[string]string{"app": "web"},
		Derived: map[string]string{"k8s:io.kubernetes.pod.namespace": "shop"},
	})
	for _, c := range resolve.All(resolve.Cluster{Policies: rows}) {
		e.SetPolicy(*c.Policy)
	}
	e.Take()
	tables := e.Tables()
	out := map[policy.Query]bool{}
	for _, egress := range []bool{false, true} {
		for id, addr := range map[uint32]string{
			inside: "10.0.0.5", elsewhere: "10.1.0.5", state.IdentityHost: "192.0.2.10", state.IdentityRemoteNode: "192.0.2.11",
			state.IdentityInit: "10.0.0.9", state.IdentityWorld: "10.1.2.3",
		} {
			for _, p := range []state.PolicyPort{
				{Protocol: state.ProtocolTCP, Port: 80}, {Protocol: state.ProtocolUDP, Port: 53}, {Protocol: state.ProtocolICMP, Port: 8}, {Protocol: 47},
			} {
				q := policy.Query{Endpoint: subject, Egress: egress, Peer: netip.MustParseAddr(addr), Identity: id, Protocol: p.Protocol, Port: p.Port}
				out[q] = tables.Judge(q).Allowed
			}
		}
	}
	return out
}

// neverOpens compares verdicts with those without the rule that is not understood.
// A rule that denies leaves nothing.
func neverOpens(t *testing.T, list string, with, without map[policy.Query]bool) {
	t.Helper()
	for q, allowed := range with {
		switch {
		case !allowed, !q.Egress && q.Identity == state.IdentityHost: // a node reaches its pods
		case !without[q]:
			t.Errorf("the rule opens %+v", q)
		case strings.HasSuffix(list, "Deny") && q.Egress == strings.HasPrefix(list, "egress"):
			t.Errorf("the rule was to deny everything, and %+v is allowed", q)
		}
	}
}

// lists are the four lists of rules.
func ciliumLists() []string { return []string{"ingress", "ingressDeny", "egress", "egressDeny"} }

// policyWith is a policy with rules that allow and deny some, and one more rule in
// a list, unless that is empty.
func policyWith(list, rule string) string {
	rules := map[string][]string{
		"ingress": {`{fromEntities: [cluster]}`, `{fromCIDR: [10.1.0.0/16], toPorts: [{ports: [{port: "80"}]}]}`}, "ingressDeny": {`{fromEntities: [init]}`},
		"egress": {`{toEntities: [world]}`, `{toEndpoints: [{}]}`}, "egressDeny": {`{icmps: [{fields: [{type: 8}]}]}`},
	}
	if list != "" {
		rules[list] = append(rules[list], rule)
	}
	text := "spec: {endpointSelector: {matchLabels: {app: web}}"
	for _, l := range ciliumLists() {
		text += fmt.Sprintf(", %s: [%s]", l, strings.Join(rules[l], ", "))
	}
	return text + "}"
}

func TestMalformedRulesNeverOpen(t *testing.T) {
	without := verdicts(rowsOf(t, false, policyWith("", ""))...)
	open := 0
	for _, allowed := range without {
		if allowed {
			open++
		}
	}
	if open == 0 || open == len(without) {
		t.Fatalf("%d of %d flows are allowed without any bad rule: nothing can be told from that", open, len(without))
	}
	tried := 0
	for _, tc := range ciliumRuleCases() {
		last := tc.want[len(tc.want)-1]
		if !strings.HasPrefix(last, "problem") && !strings.HasPrefix(last, "unsupported") {
			continue
		}
		for _, list := range ciliumLists() {
			if strings.HasPrefix(list, "in") != strings.HasPrefix(tc.list, "in") {
				continue
			}
			tried++
			t.Run(tc.name+" in "+list, func(t *testing.T) {
				rows := rowsOf(t, false, policyWith(list, tc.rule))
				if len(rows[0].Problems)+len(rows[0].Unsupported) == 0 {
					t.Skip("it is understood where it " + list + "s")
				}
				neverOpens(t, list, verdicts(rows...), without)
			})
		}
	}
	if tried < 60 {
		t.Errorf("only %d bad rules were tried", tried)
	}
}

// FuzzCiliumRule: whatever stands in a rule, a part that is not understood opens
// nothing, and what is understood makes rows that mean something.
func FuzzCiliumRule(f *testing.F) {
	for _, tc := range ciliumRuleCases() {
		for i, list := range ciliumLists() {
			if list == tc.list {
				f.Add(tc.rule, uint8(i))
			}
		}
	}
	without := verdicts(rowsOf(f, false, policyWith("", ""))...)
	f.Fuzz(func(t *testing.T, rule string, list uint8) {
		p, name := &v2.CiliumNetworkPolicy{}, ciliumLists()[list%4]
		if yaml.Unmarshal([]byte(policyWith("", "")), p) != nil {
			t.Fatal("the rest of the policy is not understood")
		}
		if !addRule(p.Spec, name, rule) {
			return
		}
		p.Namespace, p.Name = "shop", "p"
		rows := CiliumRows(p)
		if len(rows[0].Problems)+len(rows[0].Unsupported) > 0 {
			neverOpens(t, name, verdicts(rows...), without)
			return
		}
		for _, l := range [][]state.PolicyRule{rows[0].Ingress, rows[0].Egress, rows[0].IngressDeny, rows[0].EgressDeny} {
			for _, r := range l {
				checkCiliumRule(t, r)
			}
		}
	})
}

// addRule adds a rule to one list; false when it is no such rule.
func addRule(spec *v2.Rule, list, rule string) bool {
	var in v2.IngressRule
	var out v2.EgressRule
	if yaml.Unmarshal([]byte(rule), &in) != nil || yaml.Unmarshal([]byte(rule), &out) != nil {
		return false
	}
	switch list {
	case "ingress":
		spec.Ingress = append(spec.Ingress, in)
	case "ingressDeny":
		spec.IngressDeny = append(spec.IngressDeny, in)
	case "egress":
		spec.Egress = append(spec.Egress, out)
	case "egressDeny":
		spec.EgressDeny = append(spec.EgressDeny, out)
	}
	return true
}

// checkCiliumRule checks what always holds of a rule that was understood.
func checkCiliumRule(t *testing.T, r state.PolicyRule) {
	t.Helper()
	for _, p := range r.Peers {
		if b := p.Block; b != nil {
			ok := b.CIDR.IsValid() && b.CIDR == b.CIDR.Masked() && b.Outside
			for _, e := range b.Except {
				ok = ok && e == e.Masked() && inside(e, b.CIDR)
			}
			if !ok {
				t.Errorf("a block is %+v", *b)
			}
		}
		if s := p.Endpoints; s != nil && !strings.Contains(selectorText(s), "io.kubernetes.pod.namespace") && !strings.Contains(selectorText(s), "namespace.labels.") {
			t.Errorf("%s selects in all namespaces", selectorText(s))
		}
	}
	for _, p := range r.Ports {
		icmp := p.Protocol == state.ProtocolICMP || p.Protocol == state.ProtocolICMPv6
		if icmp != (p.ICMPType != nil) || p.EndPort != 0 && (p.EndPort < p.Port || p.Port == 0) || p.Name != "" && p.Port != 0 ||
			p.Protocol == state.ProtocolAny && (p.Port != 0 || p.Name != "") {
			t.Errorf("a port is %+v", p)
		}
	}
}
