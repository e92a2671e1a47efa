package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func typeName(o any) string { return fmt.Sprintf("%T", o) }

// TestCrashAtEveryWrite kills the operator before and after each of its writes
// and lets another finish: nothing is lost, nothing is given twice.
func TestCrashAtEveryWrite(t *testing.T) {
	crash := errors.New("killed")
	for at := range 40 {
		store := newStore(t)
		addNodes(t, store, names(4)...)
		n := 0
		dying := writes(store, func(string, bool) error {
			n++
			if n > at {
				return crash
			}
			return nil
		})
		first := newReplica(t, dying, pool("10.0.0.0/29", 31), pool("fd00::/125", 127))
		first.pool.joining.add(names(4)...)
		for _, name := range names(4) {
			if err := first.step(name); err != nil {
				break
			}
		}
		second := newReplica(t, store, pool("10.0.0.0/29", 31), pool("fd00::/125", 127))
		second.settle(names(4)...)
		for name, cidrs := range all(t, store) {
			if len(cidrs) != 2 {
				t.Errorf("killed at %d: node %s has %v", at, name, cidrs)
			}
		}
		if at > n {
			return // it lived to the end
		}
	}
	t.Error("the last crash was not behind the last write")
}

// TestWritesFailAtRandom lets any write fail, or succeed and be reported as
// failed, and checks that one operator gets there all the same.
func TestWritesFailAtRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := newStore(t)
		broken := true
		flaky := writes(store, func(what string, after bool) error {
			if broken && rapid.IntRange(0, 3).Draw(t, fmt.Sprintf("fail %s after %v", what, after)) == 0 {
				return apierrors.NewServerTimeout(corev1.Resource("any"), what, 1)
			}
			return nil
		})
		r := newReplica(t, flaky, pool("10.0.0.0/28", 31), pool("fd00::/124", 127))
		five := names(5)
		addNodes(t, store, five...)
		r.pool.joining.add(five...)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			name := rapid.SampledFrom(five).Draw(t, "node")
			switch rapid.SampledFrom([]string{"reconcile", "reconcile", "remove", "add"}).Draw(t, "what") {
			case "remove":
				err := store.Delete(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
				mustDo(t, client.IgnoreNotFound(err))
			case "add":
				if err := store.Create(t.Context(), node(name)); err != nil && !apierrors.IsAlreadyExists(err) {
					t.Fatal(err)
				}
			}
			_ = r.step(name) // what failed is repeated below
			all(t, store)
		}
		broken = false
		r.settle(five...)
		checkComplete(t, store, r, five)
	})
}

// checkComplete demands that the nodes that exist, and no others, have two
// ranges, and that the pools hold exactly theirs.
func checkComplete(t tb, store client.Client, r *replica, names []string) {
	t.Helper()
	got := all(t, store)
	alive := 0
	for _, n := range names {
		exists, err := get(context.Background(), store, n, &corev1.Node{})
		mustDo(t, err)
		cidrs, has := got[n]
		if has != (exists != nil) || has && len(cidrs) != 2 {
			t.Fatalf("node %s exists %v and has %v", n, exists != nil, cidrs)
		}
		if has {
			alive++
		}
	}
	for _, u := range r.pool.usage() {
		if u.Used != alive {
			t.Fatalf("pool %s: %d ranges used by %d nodes", u.Pool, u.Used, alive)
		}
	}
}

// TestTwoOperatorsInterleaved runs two operators that both believe to lead. At
// any write of the first the second does some work, and the nodes come and go.
func TestTwoOperatorsInterleaved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := newStore(t)
		five := names(5)
		pools := []string{"10.0.0.0/28", "fd00::/124"}
		var b *replica
		inside := false
		hooked := writes(store, func(string, bool) error {
			if inside {
				return nil
			}
			inside = true
			defer func() { inside = false }()
			for range rapid.IntRange(0, 3).Draw(t, "steps of b") {
				_ = b.step(rapid.SampledFrom(five).Draw(t, "node of b"))
				all(t, store)
			}
			return nil
		})
		a := newReplica(t, hooked, pool(pools[0], 31), pool(pools[1], 127))
		b = newReplica(t, store, pool(pools[0], 31), pool(pools[1], 127))
		uid := 0
		t.Repeat(map[string]func(*rapid.T){
			"a": func(t *rapid.T) { _ = a.step(rapid.SampledFrom(five).Draw(t, "node")) },
			"b": func(t *rapid.T) { _ = b.step(rapid.SampledFrom(five).Draw(t, "node")) },
			"batch": func(*rapid.T) {
				a.pool.joining.add(five...)
				b.pool.joining.add(five...)
			},
			"add": func(t *rapid.T) {
				n := node(rapid.SampledFrom(five).Draw(t, "node"))
				uid++
				n.UID = types.UID(fmt.Sprint("uid-", uid))
				if err := store.Create(t.Context(), n); err != nil && !apierrors.IsAlreadyExists(err) {
					t.Fatal(err)
				}
			},
			"remove": func(t *rapid.T) {
				name := rapid.SampledFrom(five).Draw(t, "node")
				mustDo(t, client.IgnoreNotFound(store.Delete(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})))
			},
			"restart a": func(*rapid.T) { a = newReplica(t, hooked, pool(pools[0], 31), pool(pools[1], 127)) },
			"":          func(t *rapid.T) { all(t, store) },
		})
		inside = true // b rests: a alone must get everything done
		a.settle(five...)
		last := newReplica(t, store, pool(pools[0], 31), pool(pools[1], 127))
		last.settle(five...)
		checkComplete(t, store, last, five)
	})
}

// TestTwoOperatorsAtOnce is the same with real goroutines.
func TestTwoOperatorsAtOnce(t *testing.T) {
	store := newStore(t)
	nodes := names(64)
	addNodes(t, store, nodes...)
	var wg sync.WaitGroup
	for i := range 3 {
		order := slices.Clone(nodes)
		if i%2 == 1 {
			slices.Reverse(order)
		}
		r := newReplica(t, store, pool("10.0.0.0/8", 24))
		r.pool.joining.add(order[:i*16]...)
		wg.Go(func() {
			for _, n := range order {
				for tries := 0; r.step(n) != nil; tries++ {
					if tries == 1000 {
						t.Errorf("node %s does not settle", n)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	got := all(t, store)
	for _, n := range nodes {
		if len(got[n]) != 1 {
			t.Errorf("node %s has %v", n, got[n])
		}
	}
}

// TestStartWithManyNodes counts what a start with 600 new nodes costs.
func TestStartWithManyNodes(t *testing.T) {
	store := newStore(t)
	nodes := names(600)
	addNodes(t, store, nodes...)
	count := map[string]int{}
	counted := writes(store, func(what string, after bool) error {
		if !after {
			if verb, name, _ := strings.Cut(what, " "); name == intentsName {
				count["intents"]++
			} else {
				count[verb]++
			}
		}
		return nil
	})
	r := newReplica(t, counted, pool("10.0.0.0/8", 24), pool("fd00::/104", 120))
	r.pool.joining.add(nodes...)
	r.settle(nodes...)
	want := map[string]int{"intents": 3, "create": 600}
	for k, v := range count {
		if want[k] != v {
			t.Errorf("%s: %d writes, want %d", k, v, want[k])
		}
	}
	if n := len(all(t, store)); n != 600 {
		t.Errorf("%d PlacidNodes", n)
	}
}

// rival is the start of the scenarios below: three nodes compete for two ranges
// while two operators work. What a remembers of node-1 is overtaken by b, which
// sees node-1 go and gives its range to node-2.
func rival(t *testing.T, a, b *replica, store client.Client, remember func()) {
	t.Helper()
	remember()
	mustDo(t, b.step("node-0")) // b reads the ledger
	deleteNode(t, store, "node-1")
	mustDo(t, b.step("node-1"))
	addNodes(t, store, "node-2")
	mustDo(t, b.step("node-2"))
	if got := all(t, store)["node-2"]; !slices.Equal(got, []string{"10.0.0.2/31"}) {
		t.Fatalf("node-2 has %v, so the scenario shows nothing", got)
	}
}

func again(name string) *corev1.Node {
	n := node(name)
	n.UID = "second"
	return n
}

func TestStaleLedgerIsNotActedOn(t *testing.T) {
	store := newStore(t)
	addNodes(t, store, "node-0", "node-1")
	a, b := newReplica(t, store, pool("10.0.0.0/30", 31)), newReplica(t, store, pool("10.0.0.0/30", 31))
	rival(t, a, b, store, func() { a.settle("node-0", "node-1") })
	mustDo(t, store.Create(t.Context(), again("node-1")))
	_ = a.step("node-1")
	all(t, store)
	a.settle("node-1")
	if got := mustRead(t, store, "node-1"); got.Spec.PodCIDRs != nil || got.Status.OperatorError == "" {
		t.Errorf("node-1 has %v and operatorError %q", got.Spec.PodCIDRs, got.Status.OperatorError)
	}
}

func TestIntentIsForOneNodeObjectOnly(t *testing.T) {
	store := newStore(t)
	addNodes(t, store, "node-0", "node-1")
	a, b := newReplica(t, store, pool("10.0.0.0/30", 31)), newReplica(t, store, pool("10.0.0.0/30", 31))
	rival(t, a, b, store, func() {
		a.pool.joining.add("node-1")
		mustDo(t, a.step("node-0")) // carves for node-1 too, and does not write it yet
	})
	mustDo(t, store.Create(t.Context(), again("node-1")))
	if err := a.step("node-1"); !apierrors.IsConflict(err) {
		t.Errorf("got %v, want a conflict on the intents", err)
	}
	all(t, store)
}

func TestIntentsOfAnotherAreRecordedAnew(t *testing.T) {
	store := newStore(t)
	addNodes(t, store, "node-0", "node-1")
	stale, err := get(t.Context(), store, "node-1", &corev1.Node{})
	mustDo(t, err)
	dead := newReplica(t, store, pool("10.0.0.0/30", 31))
	dead.pool.joining.add("node-1")
	mustDo(t, dead.step("node-0"))

	a, b := newReplica(t, store, pool("10.0.0.0/30", 31)), newReplica(t, store, pool("10.0.0.0/30", 31))
	rival(t, a, b, store, func() { mustDo(t, a.step("node-0")) }) // a has read the intents
	if _, err := a.pool.prepare(t.Context(), stale, nil); !apierrors.IsConflict(err) {
		t.Errorf("a's cache still has node-1: got %v, want a conflict on the intents", err)
	}
}

func TestDeletedIntentsAreNoticed(t *testing.T) {
	store := newStore(t)
	addNodes(t, store, names(6)...)
	r := newReplica(t, store, pool("10.0.0.0/8", 24))
	r.pool.joining.add(names(4)...)
	r.settle("node-0")
	mustDo(t, store.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: intentsName}}))
	if err := r.step("node-5"); !apierrors.IsNotFound(err) {
		t.Errorf("got %v, want that the ConfigMap is gone", err)
	}
	r.settle(names(6)...)
	for n, cidrs := range all(t, store) {
		if len(cidrs) != 1 {
			t.Errorf("node %s has %v", n, cidrs)
		}
	}
}

func TestDeletionSparesAChangedObject(t *testing.T) {
	store := newStore(t, node("a"))
	racing := writes(store, func(what string, after bool) error {
		if what == "delete a" && !after {
			pn := mustRead(t, store, "a")
			pn.Status.MTU++
			mustDo(t, store.Status().Update(t.Context(), pn))
		}
		return nil
	})
	r := newReplica(t, racing, pool("10.0.0.0/8", 24))
	r.settle("a")
	deleteNode(t, store, "a")
	if err := r.step("a"); !apierrors.IsConflict(err) || read(t, store, "a") == nil {
		t.Errorf("got %v, want a conflict and the object still there", err)
	}
	if got := r.pool.carver.Prefixes("a"); len(got) != 1 {
		t.Errorf("the range was freed before its PlacidNode was gone: %v", got)
	}
}
