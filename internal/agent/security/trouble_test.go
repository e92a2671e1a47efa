package security

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

func TestAway(t *testing.T) {
	story(t, "the kernel refuses a while", func(n *node) {
		web, db := n.enforced()
		n.kernel.set(func(k *fakeKernel) { k.fail = true })
		n.allow("db", "app=db", "app=web")
		n.pod("web", "app=db")
		n.Pass(5 * time.Second)
		if !n.open(db) || n.agent.Ready() == nil {
			n.Errorf("db open %t, ready: %v", n.open(db), n.agent.Ready())
		}
		n.pod("web-2", "app=web")
		if _, err := n.add(podRef("web-2")); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), errFake.Error()) {
			n.Errorf("ADD while nothing can be written: %v", err)
		}
		n.kernel.set(func(k *fakeKernel) { k.fail = false })
		n.Pass(retryMax)
		if n.open(db) || n.open(web) || n.identityOf(web) != 302 {
			n.Errorf("nothing may be lost: db open %t, web open %t, identity %d", n.open(db), n.open(web), n.identityOf(web))
		}
		n.Must(n.agent.Ready())
	})
	story(t, "an audit mends the kernel", func(n *node) {
		web, _ := n.enforced()
		n.kernel.set(func(k *fakeKernel) { delete(k.tables.Endpoints, web) })
		n.Pass(time.Hour + time.Second)
		if n.open(web) {
			n.Error("not mended")
		}
	})
}

func TestRefusedSet(t *testing.T) {
	story(t, "told once, on the policy and on the pod", func(n *node) {
		web, _ := n.enforced()
		problem := datapath.PolicyProblem{Set: 77, Names: []string{ns + "/web"}, Endpoints: []uint32{web}, Err: errors.New("no room in policy_map")}
		n.kernel.set(func(k *fakeKernel) { k.problems = []datapath.PolicyProblem{problem} })
		n.pod("any-1")
		n.pod("any-2", "app=x")
		n.identify(320, "app=x")
		var events []string
		n.cluster.look(func(c *fakeCluster) { events = append(events, c.events...) })
		if len(events) != 2 || !strings.HasPrefix(events[0], "policy shop/web (uid-web) PolicyRefused: node node-1: ") || !strings.HasPrefix(events[1], "pod shop/web PolicyNotInForce: ") {
			n.Errorf("events %q", events)
		}
		if s := n.agent.Status(); len(s.Problems) != 1 || !strings.Contains(s.Problems[0].String(), "no room in policy_map") {
			n.Errorf("problems %v", s.Problems)
		}
		n.kernel.set(func(k *fakeKernel) { k.problems = nil })
		n.identify(321, "app=y")
		if s := n.agent.Status(); len(s.Problems) != 0 {
			n.Errorf("problems %v", s.Problems)
		}
	})
}

func TestPublish(t *testing.T) {
	story(t, "as long as somebody asks", func(n *node) {
		web, _ := n.enforced()
		n.removePolicy("web")
		n.Pass(withdrawDelay - time.Second)
		if !n.open(web) || !n.isPublished() {
			n.Errorf("after the last policy: open %t, published %t", n.open(web), n.isPublished())
		}
		n.allow("web", "app=web", "app=client") // replaced: at once
		n.Pass(stageQuiet + stagePoll)
		if n.open(web) {
			n.Error("not enforced")
		}
		n.removePolicy("web")
		n.Pass(withdrawDelay + time.Second)
		if n.isPublished() {
			n.Error("not withdrawn")
		}
		n.agent.Forget(web)
		synctest.Wait()
		if n.isPublished() {
			n.Error("published again")
		}
	})
	story(t, "what an earlier agent published is withdrawn", func(n *node) {
		n.cluster.look(func(c *fakeCluster) { c.there = true })
		n.start()
		n.sync()
		n.Pass(withdrawDelay + time.Second)
		if n.isPublished() {
			n.Error("not withdrawn")
		}
	})
	story(t, "an endpoint that ends", func(n *node) {
		web, _ := n.enforced()
		publishes := n.count().publishes
		n.agent.Forget(web)
		n.agent.Forget(web)
		synctest.Wait()
		if n.publishedAs("web") != 0 || n.publishedAs("db") != 302 || n.count().publishes != publishes+1 {
			n.Errorf("web %d, db %d, %d lists", n.publishedAs("web"), n.publishedAs("db"), n.count().publishes-publishes)
		}
		if _, ok := n.kernel.SecurityOf(web); ok {
			n.Error("the kernel knows it")
		}
	})
	story(t, "nothing twice", func(n *node) {
		n.enforced()
		publishes, writes := n.count().publishes, n.count().writes
		n.namespace("other", nil)
		n.Pass(time.Minute)
		if n.count().publishes != publishes || n.count().writes != writes {
			n.Errorf("%d lists and %d writes for nothing", n.count().publishes-publishes, n.count().writes-writes)
		}
	})
}

func TestModes(t *testing.T) {
	story(t, "always", func(n *node) {
		n.mode = policy.ModeAlways
		n.pod("web", "app=web")
		n.start()
		n.sync()
		web := n.mustAdd("web")
		if n.open(web) || n.reaches(web, 301) || !n.isPublished() {
			n.Errorf("open %t, client %t, published %t", n.open(web), n.reaches(web, 301), n.isPublished())
		}
	})
	story(t, "never", func(n *node) {
		n.mode = policy.ModeNever
		n.kernel.tables.Endpoints[9] = policy.EndpointPolicy{Ingress: 7}
		n.eps[9] = state.Endpoint{ID: 9, Pod: podRef("old")}
		n.start() // nothing is ever synced
		web := n.mustAdd("web")
		if !n.open(web) || !n.open(9) {
			n.Errorf("open %t, the one that an earlier agent isolated %t", n.open(web), n.open(9))
		}
	})
	story(t, "audit", func(n *node) {
		web, _ := n.enforced()
		n.agent.SetAuditAll(true)
		synctest.Wait()
		if s, _ := n.kernel.SecurityOf(web); !s.Policy.AuditIngress || n.open(web) || !n.reaches(web, 302) {
			n.Errorf("policy %+v", s.Policy)
		}
		n.agent.SetAuditAll(false)
		synctest.Wait()
		if s, _ := n.kernel.SecurityOf(web); s.Policy.AuditIngress || n.reaches(web, 302) {
			n.Errorf("policy %+v", s.Policy)
		}
	})
	story(t, "NetworkPolicies off", func(n *node) {
		n.mode = policy.ModeNever
		n.pod("web", "app=web")
		n.allow("web", "app=web", "app=client")
		n.start()
		if web := n.mustAdd("web"); !n.open(web) {
			n.Error("isolated")
		}
	})
}

func TestWithoutPod(t *testing.T) {
	story(t, "an endpoint that Kubernetes does not know", func(n *node) {
		n.enforced()
		began := time.Now()
		id, err := n.add(state.PodRef{})
		n.Must(err)
		if took := time.Since(began); took != 0 || !n.open(id) || n.identityOf(id) != state.IdentityInit {
			n.Errorf("after %v: open %t, identity %d", took, n.open(id), n.identityOf(id))
		}
		n.cluster.look(func(c *fakeCluster) {
			if len(c.published) != 2 {
				n.Errorf("published %v", c.published)
			}
		})
	})
}

func TestMeter(t *testing.T) {
	story(t, "how long it took", func(n *node) {
		n.enforced()
		n.pod("job", "app=job")
		n.Pass(3 * time.Second)
		_, wait, _ := n.adding("job")
		n.Pass(time.Second)
		n.identify(303, "app=job")
		n.Must(wait())
		n.publishes(there, "client", 301, "far", 303)
		n.cluster.look(func(c *fakeCluster) {
			if len(c.identified) == 0 || c.identified[len(c.identified)-1] != 4*time.Second {
				n.Errorf("identified %v", c.identified)
			}
			if len(c.propagated) != 2 || c.implements == 0 {
				n.Errorf("propagated %v, %d changes implemented", c.propagated, c.implements)
			}
		})
	})
}
