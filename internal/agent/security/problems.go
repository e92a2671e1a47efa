package security

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/policy"
)

// Reasons of the events about a set that is not in force.
const (
	reasonRefused    = "PolicyRefused"    // on the policy
	reasonNotInForce = "PolicyNotInForce" // on the pod
)

// Problem is a policy set that could not be put in force. The pods under it keep
// what they were under, or are closed when that was nothing.
type Problem struct {
	Set       policy.SetID
	Policies  []string // keys, sorted
	Endpoints []uint32
	Reason    string
}

// String is one sentence for people.
func (p Problem) String() string {
	if len(p.Endpoints) == 0 {
		return fmt.Sprintf("the rules of %s are in force without some that do not fit: %s", strings.Join(p.Policies, ", "), p.Reason)
	}
	return fmt.Sprintf("the rules of %s are not in force for %d pods: %s", strings.Join(p.Policies, ", "), len(p.Endpoints), p.Reason)
}

// problems are those of the last turn, and what was said about them.
type problems struct {
	outage bool // writing fails as a whole
	now    []Problem
	told   map[string]bool // what the cluster was told about, and why
}

// problemsLocked collects the sets that are not in force, and tells the cluster
// about those that are new.
func (e *Enforcer) problemsLocked() {
	p := &e.problems
	p.now = p.now[:0]
	refusals := e.engine.Refusals()
	for _, set := range slices.Sorted(maps.Keys(refusals)) {
		r := refusals[set]
		p.now = append(p.now, Problem{Set: set, Policies: r.Names, Endpoints: r.Endpoints, Reason: r.Reason})
	}
	for _, d := range e.cfg.Datapath.PolicyProblems() {
		names := d.Names
		if set, ok := e.engine.Set(d.Set); ok {
			names = set.Names
		}
		p.now = append(p.now, Problem{Set: d.Set, Policies: names, Endpoints: d.Endpoints, Reason: d.Err.Error()})
	}
	told := map[string]bool{}
	for _, problem := range p.now {
		for _, name := range problem.Policies {
			e.tellPolicyLocked(told, name, problem)
		}
		for _, id := range problem.Endpoints {
			e.tellPodLocked(told, id, problem)
		}
	}
	p.told = told // what is solved is told again when it comes back
}

func (e *Enforcer) tellPolicyLocked(told map[string]bool, name string, p Problem) {
	key := "policy " + name + " " + p.Reason
	if !told[key] && !e.problems.told[key] {
		e.cfg.Log.Error("policy is not in force", "policy", name, "pods", len(p.Endpoints), "reason", p.Reason)
		e.cfg.Cluster.PolicyEvent(e.policies[name].object, k8s.EventWarning, reasonRefused,
			"node "+e.cfg.NodeName+": "+p.String())
	}
	told[key] = true
}

func (e *Enforcer) tellPodLocked(told map[string]bool, endpoint uint32, p Problem) {
	m, ok := e.members[endpoint]
	if !ok || !m.named() {
		return
	}
	key := "pod " + m.ep.Pod.String() + " " + p.Reason
	if !told[key] && !e.problems.told[key] {
		e.cfg.Cluster.Event(m.ep.Pod, k8s.EventWarning, reasonNotInForce, p.String())
	}
	told[key] = true
}
