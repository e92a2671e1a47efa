package steps

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// The cluster whose policies are known.
const (
	crowdPolicies   = 1_000
	crowdIdentities = 10_000
	crowdPods       = 110 // of this node, when its policies are written for the first time
	// wideMember and localMember are pods whose policies allow pods of all
	// namespaces, and of their own.
	wideMember  = 0
	localMember = 100
)

// Kinds of ADDs, as the table has them.
const (
	addAlone  = "no policies"
	addFirst  = "the first pod under its policy, which allows 1,000 identities"
	addNarrow = "the first pod under its policy, which allows 10 identities"
	addNext   = "another pod under a policy in use"
)

// Crowded is what many policies cost.
type Crowded struct {
	// Adds are the times of ADDs by kind, in milliseconds, without the plugin and
	// the agent's socket.
	Adds map[string][]float64
	// Learn is the time to take the cluster in, Write that to put the policies of
	// crowdPods pods into the kernel, in milliseconds.
	Learn, Write []float64
	Entries      int     // of the policy map then
	Heap         float64 // of what is known, in MiB
}

func addKinds() []string { return []string{addAlone, addNext, addNarrow, addFirst} }

// crowded measures ADDs of each kind in turn.
func crowded(ctx context.Context, n *node.Node, rounds int) (c Crowded, err error) {
	c.Adds = map[string][]float64{}
	crowd := node.Crowd{Policies: crowdPolicies, Identities: crowdIdentities}
	if err = c.begin(ctx, n, crowd, min(rounds, 10)); err != nil {
		return c, err
	}
	alone, full := policy.NewEngine(policy.Config{}), crowd.Engine()
	pod, err := netlab.New()
	if err != nil {
		return c, err
	}
	defer pod.Close()
	// The pod that has the set in use for addNext.
	if _, err = n.Add(ctx, at(pod, 1), full, crowd.Member(localMember+1)); err != nil {
		return c, err
	}
	for range rounds {
		for _, i := range rand.Perm(len(addKinds())) {
			kind := addKinds()[i]
			e, m := full, crowd.Member(localMember)
			switch kind {
			case addAlone:
				e = alone
			case addFirst:
				m = crowd.Member(wideMember)
			case addNext:
				m = crowd.Member(localMember + 1)
			}
			took, err := addOnce(ctx, n, e, m)
			if err != nil {
				return c, fmt.Errorf("%s: %w", kind, err)
			}
			c.Adds[kind] = append(c.Adds[kind], took)
		}
	}
	return c, nil
}

func at(pod *netlab.Namespace, number int) node.Pod {
	return node.Pod{Netns: pod.Path(), IPv4: node.PodAddr(1, number, false), IPv6: node.PodAddr(1, number, true)}
}

// addOnce times one ADD, and undoes it.
func addOnce(ctx context.Context, n *node.Node, e *policy.Engine, m node.Member) (took float64, err error) {
	pod, err := netlab.New()
	if err != nil {
		return 0, err
	}
	defer pod.Close()
	began := time.Now()
	ep, err := n.Add(ctx, at(pod, 2), e, m)
	took = milliseconds(time.Since(began))
	if err != nil {
		return 0, err
	}
	return took, n.Remove(ctx, ep, e)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// begin measures what an agent that starts has to do: learn, and write.
func (c *Crowded) begin(ctx context.Context, n *node.Node, crowd node.Crowd, rounds int) error {
	for range rounds {
		before := heap()
		began := time.Now()
		e := crowd.Engine()
		for i := range crowdPods {
			m := crowd.Member(i * 13)
			e.SetSubject(policy.Subject{
				Endpoint: 1<<20 + uint32(i), Labels: m.Labels, Pod: state.PodRef{Namespace: m.Namespace, Name: fmt.Sprintf("pod-%d", i)},
			})
		}
		e.Tables()
		c.Learn = append(c.Learn, milliseconds(time.Since(began)))
		c.Heap = heap() - before
		began = time.Now()
		var err error
		if c.Entries, err = n.Sync(ctx, e); err != nil {
			return err
		}
		c.Write = append(c.Write, milliseconds(time.Since(began)))
		runtime.KeepAlive(e)
		if _, err := n.Sync(ctx, policy.NewEngine(policy.Config{})); err != nil { // all away again
			return err
		}
	}
	return nil
}

// heap is what is in use, in MiB.
func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
