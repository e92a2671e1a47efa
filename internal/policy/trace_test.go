package policy

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

func TestTrace(t *testing.T) {
	byLabel := in("hashed")
	byLabel.Subject = eq("hash", "1")
	e := engine(t, Config{PodLabelKnown: func(k string) bool { return k != "hash" }},
		ident(client, "app", "client"), ident(other, "app", "web", http(8080)), web(1),
		in("a", allow(from(pods("app", "client")), tcp(80)), allow(from(cidr("10.0.0.0/8")), tcp(80, 90))),
		in("b", allow(nil, tcp(80)), allow(nil, namedTCP("http"))), in("c"), byLabel)
	remote := func(q Query) TraceQuery {
		q.Endpoint = 0
		return TraceQuery{Query: q, Subject: other}
	}
	isolated := []string{"ns/a", "ns/b", "ns/c"}
	for _, tc := range []struct {
		name   string
		query  TraceQuery
		want   Trace  // without Reason
		reason string // a part of it
	}{
		{"all rules that allow", TraceQuery{Query: asks(false, client, "10.0.2.1", 80)}, Trace{Allowed: true, Rules: []RuleRef{{"ns/a", 0, false}, {"ns/a", 1, false}, {"ns/b", 0, false}}, Isolated: isolated}, "rules of them allow this"},
		{"only the rule for the port", TraceQuery{Query: asks(false, client, "10.0.2.1", 90)}, Trace{Allowed: true, Rules: []RuleRef{{"ns/a", 1, false}}, Isolated: isolated}, "allow this"},
		{"denied", TraceQuery{Query: asks(false, client, "10.0.2.1", 91)}, Trace{Isolated: isolated}, "no rule of them allows this"},
		{"open", TraceQuery{Query: asks(true, client, "10.0.2.1", 91)}, Trace{Allowed: true}, "no policy isolates the pod for egress"},
		{"own node", TraceQuery{Query: asks(false, state.IdentityHost, "192.168.0.1", 91)}, Trace{Allowed: true}, "its own pods"},
		{"peer that is not known", TraceQuery{Query: asks(false, 999, "11.0.0.1", 91)}, Trace{Isolated: isolated}, "identity 999"},
		{"pod of another node, its named port", remote(asks(false, client, "11.0.0.1", 8080)), Trace{Allowed: true, Rules: []RuleRef{{"ns/b", 1, false}}, Isolated: isolated, Unsure: []string{"ns/hashed"}}, "ns/hashed may select the pod too"},
		{"of another node, denied", remote(asks(false, client, "11.0.0.1", 8081)), Trace{Isolated: isolated, Unsure: []string{"ns/hashed"}}, "no rule of them"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := e.Trace(tc.query)
			if err != nil || !strings.Contains(got.Reason, tc.reason) {
				t.Errorf("reason is %q, want %q in it; %v", got.Reason, tc.reason, err)
			}
			got.Reason = ""
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("Trace = %+v, want %+v", got, tc.want)
			}
		})
	}
	for _, q := range []TraceQuery{{Query: Query{Endpoint: 7}}, {Subject: 7}} {
		if _, err := e.Trace(q); !errors.Is(err, ErrUnknownPod) {
			t.Errorf("Trace(%+v) gives error %v", q, err)
		}
	}
	always := engine(t, Config{Mode: ModeAlways}, web(1))
	if got, _ := always.Trace(TraceQuery{Query: asks(true, client, "10.0.2.1", 1)}); got.Allowed || !strings.Contains(got.Reason, "always") {
		t.Errorf("Trace = %+v", got)
	}
}

func TestSelectors(t *testing.T) {
	unused := in("unused", allow(from(pods("app", "unused"))))
	unused.Subject = eq("app", "nobody")
	e := engine(t, Config{PodLabelKnown: func(k string) bool { return k != "hash" }}, web(1),
		ident(client, "app", "client"), ident(other, "app", "client", http(1)),
		in("a", allow(from(pods("app", "client"), pods("hash", "1"), cidr("10.0.0.0/8")))),
		out("b", allow(from(pods("app", "client"), state.PolicyPeer{Namespaces: &state.Selector{}}))), unused)
	got := e.Selectors()
	want := []SelectorUse{
		{Selector: "every pod", Policies: []string{"ns/b"}, Identities: []uint32{client, other}},
		{Selector: "k8s:app=client,k8s:io.kubernetes.pod.namespace=ns", Policies: []string{"ns/a", "ns/b"}, Identities: []uint32{client, other}},
		{Selector: "k8s:hash=1,k8s:io.kubernetes.pod.namespace=ns", Policies: []string{"ns/a"}, Problem: "label hash is not part of identities (key labels)"},
	}
	if !slices.EqualFunc(got, want, func(a, b SelectorUse) bool { return reflect.DeepEqual(a, b) }) {
		t.Errorf("Selectors() = %+v", got)
	}
}
