package security

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// reaches judges a TCP connection from a pod of that identity, as the kernel does.
func (n *node) reaches(id uint32, peer uint32) bool {
	n.kernel.mu.Lock()
	defer n.kernel.mu.Unlock()
	return n.kernel.tables.Judge(policy.Query{Endpoint: id, Identity: peer, Protocol: state.ProtocolTCP, Port: 80}).Allowed
}

func TestPodBeforePolicy(t *testing.T) {
	story(t, "nothing is asked for", func(n *node) {
		n.pod("web", "app=web")
		n.start()
		n.sync()
		began := time.Now()
		web := n.mustAdd("web")
		if took := time.Since(began); took != 0 {
			n.Errorf("without a policy the ADD waited %v", took)
		}
		if !n.open(web) || n.isPublished() {
			n.Errorf("open %t, published %t", n.open(web), n.isPublished())
		}
	})
	story(t, "the first policy is enforced when all are known", func(n *node) {
		n.otherNode()
		n.pod("web", "app=web")
		n.start()
		n.sync()
		web := n.mustAdd("web")
		n.allow("web", "app=web", "app=client")
		n.Pass(5 * time.Second)
		if !n.open(web) || n.publishedAs("web") != state.IdentityInit {
			n.Fatalf("before anybody has an identity: open %t, published as %d", n.open(web), n.publishedAs("web"))
		}
		if why := n.agent.Status().Staged; !strings.Contains(why, "shop/web") {
			n.Errorf("staged because %q", why)
		}
		n.identify(300, "app=web")
		n.identify(301, "app=client")
		if n.publishedAs("web") != 300 || n.identityOf(web) != 300 {
			n.Errorf("published as %d, in the kernel %d", n.publishedAs("web"), n.identityOf(web))
		}
		n.Pass(5 * time.Second)
		if why := n.agent.Status().Staged; !n.open(web) || !strings.Contains(why, there) {
			n.Fatalf("before the other node publishes: open %t, %q", n.open(web), why)
		}
		n.publishes(there, "client", int(state.IdentityInit))
		n.Pass(5 * time.Second)
		if why := n.agent.Status().Staged; !n.open(web) || !strings.Contains(why, "1 pods of node node-2") {
			n.Fatalf("before the client has an identity: open %t, %q", n.open(web), why)
		}
		n.publishes(there, "client", 301)
		if !n.open(web) {
			n.Error("enforced before the datapath could write who the client is")
		}
		n.Pass(time.Second)
		if n.open(web) || !n.reaches(web, 301) || n.reaches(web, state.IdentityWorld) {
			n.Errorf("open %t, client %t, world %t", n.open(web), n.reaches(web, 301), n.reaches(web, state.IdentityWorld))
		}
		if why := n.agent.Status().Staged; why != "" {
			n.Errorf("still staged: %s", why)
		}
	})
	story(t, "30 seconds are the limit", func(n *node) {
		n.otherNode()
		n.pod("web", "app=web")
		n.start()
		n.sync()
		web := n.mustAdd("web")
		n.allow("web", "app=web", "app=client")
		n.Pass(29 * time.Second)
		if !n.open(web) {
			n.Error("enforced early")
		}
		n.Pass(2 * time.Second)
		if n.open(web) {
			n.Error("not enforced after 30 s")
		}
	})
	story(t, "a node without an agent is not waited for", func(n *node) {
		n.Must(n.tables.UpsertNode(state.Node{Name: there}))
		n.pod("web", "app=web")
		n.start()
		n.sync()
		web := n.mustAdd("web")
		n.identify(300, "app=web")
		n.allow("web", "app=web", "app=client")
		n.Pass(time.Second)
		if n.open(web) {
			n.Error("not enforced")
		}
	})
	story(t, "the next policy is enforced at once", func(n *node) {
		web, db := n.enforced()
		n.allow("db", "app=db", "app=web")
		if n.open(db) || !n.reaches(db, 300) || n.reaches(db, 301) {
			n.Errorf("open %t, web %t, client %t", n.open(db), n.reaches(db, 300), n.reaches(db, 301))
		}
		n.removePolicy("web")
		if !n.open(web) || n.open(db) {
			n.Errorf("after one policy went: web open %t, db open %t", n.open(web), n.open(db))
		}
	})
}

// enforced brings the node to where a policy protects web, and db is free. The
// identities are 300 web, 301 client, 302 db; client is a pod of the other node.
func (n *node) enforced() (web, db uint32) {
	n.Helper()
	n.otherNode()
	n.pod("web", "app=web")
	n.pod("db", "app=db")
	n.start()
	n.sync()
	web, db = n.mustAdd("web"), n.mustAdd("db")
	n.identify(300, "app=web")
	n.identify(301, "app=client")
	n.identify(302, "app=db")
	n.publishes(there, "client", 301)
	n.allow("web", "app=web", "app=client")
	n.Pass(time.Second)
	if n.open(web) || !n.reaches(web, 301) || n.reaches(web, 302) || !n.open(db) {
		n.Fatalf("web open %t, client %t, db %t; db open %t", n.open(web), n.reaches(web, 301), n.reaches(web, 302), n.open(db))
	}
	return web, db
}

func TestPolicyBeforePod(t *testing.T) {
	story(t, "no window at the start", func(n *node) {
		n.enforced()
		n.pod("web-2", "app=web")
		began := time.Now()
		web := n.mustAdd("web-2")
		if took := time.Since(began); took != 0 {
			n.Errorf("the ADD waited %v for nothing", took)
		}
		if n.open(web) || !n.reaches(web, 301) || n.reaches(web, 302) || n.identityOf(web) != 300 || n.publishedAs("web-2") != 300 {
			n.Errorf("open %t, identity %d, published as %d", n.open(web), n.identityOf(web), n.publishedAs("web-2"))
		}
	})
	story(t, "its row comes late", func(n *node) {
		n.enforced()
		id, wait, done := n.adding("web-2")
		n.Pass(3 * time.Second)
		if done() {
			n.Fatalf("admitted without labels: %v", wait())
		}
		n.pod("web-2", "app=web")
		n.Must(wait())
		if n.open(id) || n.count().asked != 0 {
			n.Errorf("open %t, asked %d times", n.open(id), n.count().asked)
		}
	})
	story(t, "its row does not come, the API server has it", func(n *node) {
		n.enforced()
		n.cluster.has(state.Pod{Ref: podRef("web-2"), Labels: parseLabels([]string{"app=web"}), ServiceAccount: "default"})
		began := time.Now()
		id := n.mustAdd("web-2")
		if took := time.Since(began); took != podWait || n.open(id) || n.identityOf(id) != 300 {
			n.Errorf("after %v: open %t, identity %d", took, n.open(id), n.identityOf(id))
		}
		n.pod("web-2", "app=db") // the watch catches up, and the labels are others
		if !n.open(id) || n.identityOf(id) != 302 {
			n.Errorf("open %t, identity %d", n.open(id), n.identityOf(id))
		}
	})
	story(t, "nobody has it", func(n *node) {
		n.enforced()
		_, err := n.add(podRef("web-2"))
		if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "shop/web-2") {
			n.Errorf("ADD of an unknown pod: %v", err)
		}
		n.cluster.look(func(c *fakeCluster) { c.away = true })
		_, err = n.add(podRef("web-2"))
		if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "shop/web-2") {
			n.Errorf("ADD while the API server is away: %v", err)
		}
		if got := n.agent.Status().Members; got != 2 {
			n.Errorf("%d members are left, want 2", got)
		}
	})
	story(t, "the row is of an earlier pod of that name", func(n *node) {
		n.enforced()
		n.Must(n.tables.UpsertPod(state.Pod{Ref: state.PodRef{Namespace: ns, Name: "web-2", UID: "earlier"}}))
		id, wait, done := n.adding("web-2")
		n.Pass(time.Second)
		if done() {
			n.Fatalf("admitted with the labels of another pod: %v", wait())
		}
		n.pod("web-2", "app=web")
		n.Must(wait())
		if n.open(id) {
			n.Error("open")
		}
	})
	story(t, "it starts while staging", func(n *node) {
		n.otherNode()
		n.pod("web", "app=web")
		n.pod("web-2", "app=web")
		n.pod("db", "app=db")
		n.start()
		n.sync()
		web := n.mustAdd("web")
		n.identify(300, "app=web")
		n.identify(302, "app=db")
		n.allow("web", "app=web", "app=client")
		began := time.Now()
		db := n.mustAdd("db")
		if took := time.Since(began); took != 0 || !n.open(db) {
			n.Errorf("a pod that no policy isolates waited %v; open %t", took, n.open(db))
		}
		second, wait, done := n.adding("web-2")
		n.Pass(10 * time.Second)
		if done() {
			n.Fatalf("the ADD did not wait for the end of staging: %v", wait())
		}
		if n.open(second) || !n.open(web) {
			n.Errorf("the new pod is open: %t; the old one %t", n.open(second), n.open(web))
		}
		n.publishes(there)
		n.Pass(time.Second)
		if !done() || n.open(web) {
			n.Errorf("after staging: ADD done %t, the old pod open %t", done(), n.open(web))
		}
		n.Must(wait())
	})
	story(t, "nothing is known since the start", func(n *node) {
		n.pod("web", "app=web")
		n.start()
		began := time.Now()
		_, err := n.add(podRef("web"))
		if !errors.Is(err, ErrNotReady) || time.Since(began) != knownWait || n.agent.Ready() == nil {
			n.Errorf("after %v: %v", time.Since(began), err)
		}
		_, wait, _ := n.adding("web")
		n.Pass(time.Second)
		n.sync()
		n.Must(wait())
		n.Must(n.agent.Ready())
	})
}

func TestOperatorSlow(t *testing.T) {
	story(t, "the pod goes on without an identity", func(n *node) {
		n.enforced()
		n.pod("job", "app=job")
		began := time.Now()
		id := n.mustAdd("job")
		if took := time.Since(began); took != identityWait {
			n.Errorf("the ADD waited %v, want %v", took, identityWait)
		}
		if n.identityOf(id) != state.IdentityInit || n.publishedAs("job") != state.IdentityInit {
			n.Errorf("identity %d, published as %d", n.identityOf(id), n.publishedAs("job"))
		}
		n.identify(303, "app=job")
		if n.identityOf(id) != 303 || n.publishedAs("job") != 303 {
			n.Errorf("identity %d, published as %d", n.identityOf(id), n.publishedAs("job"))
		}
	})
	story(t, "the identity comes while the pod waits", func(n *node) {
		n.enforced()
		n.pod("job", "app=job")
		id, wait, _ := n.adding("job")
		n.Pass(500 * time.Millisecond)
		n.identify(303, "app=job")
		began := time.Now()
		n.Must(wait())
		if time.Since(began) != 0 || n.identityOf(id) != 303 {
			n.Errorf("identity %d after %v", n.identityOf(id), time.Since(began))
		}
	})
}

func TestRelabel(t *testing.T) {
	story(t, "the pod", func(n *node) {
		web, db := n.enforced()
		n.pod("web", "app=db") // no policy selects it any more
		if !n.open(web) || n.identityOf(web) != 302 || n.publishedAs("web") != 302 {
			n.Errorf("open %t, identity %d, published as %d", n.open(web), n.identityOf(web), n.publishedAs("web"))
		}
		n.pod("db", "app=web", "tier=2") // a set of labels that has no identity yet
		if n.open(db) || n.identityOf(db) != 302 {
			n.Errorf("before its identity exists: open %t, identity %d", n.open(db), n.identityOf(db))
		}
		n.identify(304, "app=web", "tier=2")
		if n.identityOf(db) != 304 || n.publishedAs("db") != 304 {
			n.Errorf("identity %d, published as %d", n.identityOf(db), n.publishedAs("db"))
		}
	})
	story(t, "the namespace", func(n *node) {
		web, db := n.enforced()
		n.namespace(ns, map[string]string{"team": "a"})
		if n.identityOf(web) != 300 {
			n.Errorf("identity %d before the new one exists", n.identityOf(web))
		}
		n.identify(310, "app=web")
		n.identify(312, "app=db")
		if n.identityOf(web) != 310 || n.identityOf(db) != 312 || n.publishedAs("web") != 310 {
			n.Errorf("identities %d and %d, published as %d", n.identityOf(web), n.identityOf(db), n.publishedAs("web"))
		}
	})
	story(t, "an identity goes", func(n *node) {
		web, _ := n.enforced()
		n.Must(n.tables.DeleteIdentity(300))
		synctest.Wait()
		if n.identityOf(web) != state.IdentityInit {
			n.Errorf("identity %d is used although it is gone", n.identityOf(web))
		}
	})
}

func TestRestart(t *testing.T) {
	story(t, "what is enforced stays, at all times", func(n *node) {
		web, _ := n.enforced()
		n.stop()
		n.cluster.look(func(c *fakeCluster) {
			row := state.NodeEndpoints{Node: here, Endpoints: c.published}
			n.Must(n.tables.UpsertNodeEndpoints(row))
		})
		sinceOf := func() (at time.Time) {
			n.cluster.look(func(c *fakeCluster) {
				for _, ep := range c.published {
					if ep.Pod.Name == "web" {
						at = ep.Since
					}
				}
			})
			return at
		}
		since := sinceOf()
		n.Pass(time.Hour)
		n.cluster.synced = make(chan struct{}) // the API server is away
		n.start()
		n.Pass(time.Minute)
		if n.open(web) || !n.reaches(web, 301) || n.agent.Ready() == nil {
			n.Errorf("while nothing is known: open %t, client %t", n.open(web), n.reaches(web, 301))
		}
		n.sync()
		if n.open(web) || !n.reaches(web, 301) || n.identityOf(web) != 300 || n.agent.Status().Staged != "" {
			n.Errorf("open %t, client %t, identity %d, staged %q", n.open(web), n.reaches(web, 301), n.identityOf(web), n.agent.Status().Staged)
		}
		if got := sinceOf(); !got.Equal(since) {
			n.Errorf("web has its identity since %v, before the restart since %v", got, since)
		}
	})
	story(t, "what changed meanwhile is enforced at once", func(n *node) {
		web, db := n.enforced()
		n.stop()
		n.cluster.synced = make(chan struct{})
		n.removePolicy("web")
		n.allow("db", "app=db", "app=web")
		n.start()
		n.sync()
		if !n.open(web) || n.open(db) || !n.reaches(db, 300) {
			n.Errorf("web open %t, db open %t, web to db %t", n.open(web), n.open(db), n.reaches(db, 300))
		}
	})
	story(t, "an endpoint without a pod keeps what it is under", func(n *node) {
		web, _ := n.enforced()
		n.stop()
		n.cluster.synced = make(chan struct{})
		n.Must(n.tables.DeletePod(ns, "web"))
		n.start()
		n.sync()
		n.Pass(2 * time.Hour) // an audit too
		if n.open(web) {
			n.Error("it is open")
		}
	})
	story(t, "killed while staging", func(n *node) {
		n.otherNode()
		n.pod("web", "app=web")
		n.start()
		n.sync()
		web := n.mustAdd("web")
		n.allow("web", "app=web", "app=client")
		n.Pass(10 * time.Second)
		n.stop()
		n.cluster.synced = make(chan struct{})
		n.start()
		n.sync()
		n.identify(300, "app=web")
		n.publishes(there)
		n.Pass(time.Second)
		if n.open(web) {
			n.Error("open")
		}
	})
}
