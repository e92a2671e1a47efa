package operator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
)

func labels(app string) map[string]string { return map[string]string{"k8s:app": app} }

// collide returns apps whose search begins at the same number of the space.
func collide(n *numbers, count int) []string {
	by := map[uint32][]string{}
	for i := 0; ; i++ {
		app := fmt.Sprint("app-", i)
		at := n.start("k8s:app=" + app + ";")
		if by[at] = append(by[at], app); len(by[at]) == count {
			return by[at]
		}
	}
}

func numbersOn(through client.Client, c *clock, first, last uint32) *numbers {
	return &numbers{client: through, live: through, first: first, last: last, now: c.now}
}

func mustAllocate(t tb, n *numbers, app string) *v1alpha1.PlacidIdentity {
	t.Helper()
	id, _, err := n.allocate(context.Background(), labels(app), nil)
	mustDo(t, err)
	return id
}

func TestAllocateWritesOnce(t *testing.T) {
	store := newIdentityStore(t)
	wrote := 0
	n := numbersOn(counter(store, &wrote), newClock(), state.IdentityMin, state.IdentityMax)
	ports := []state.NamedPort{{Name: "dns", Protocol: state.ProtocolUDP, Port: 53}, {Name: "s", Protocol: state.ProtocolSCTP, Port: 7}}
	id, created, err := n.allocate(t.Context(), labels("a"), ports)
	mustDo(t, err)
	if !created || wrote != 1 || id.UID == "" {
		t.Errorf("created %v with %d writes", created, wrote)
	}
	row, _, err := rowOf(id)
	mustDo(t, err)
	if diff := cmp.Diff(ports, row.NamedPorts); diff != "" || row.ID < state.IdentityMin {
		t.Errorf("identity %d, ports (-want +got):\n%s", row.ID, diff)
	}
	again, created, err := n.allocate(t.Context(), labels("a"), ports)
	mustDo(t, err)
	if created || again.Name != id.Name || again.UID != id.UID {
		t.Errorf("the second time: %s, created %v, want %s", again.Name, created, id.Name)
	}
	other, created, err := n.allocate(t.Context(), labels("a"), ports[:1])
	mustDo(t, err)
	if !created || other.Name == id.Name {
		t.Errorf("other ports: %s, created %v", other.Name, created)
	}
}

func TestNumbersAreInRangeAndSpread(t *testing.T) {
	n := numbersOn(nil, newClock(), state.IdentityMin, state.IdentityMax)
	seen := map[uint32]bool{}
	const sets = 10_000
	for i := range sets {
		at := n.first + n.start(fmt.Sprint(i))
		if at < state.IdentityMin || at > state.IdentityMax {
			t.Fatalf("number %d", at)
		}
		seen[at] = true
	}
	// Three pairs among 10,000 are to be expected.
	if len(seen) < sets-20 {
		t.Errorf("%d numbers for %d label sets", len(seen), sets)
	}
}

// TestPassedIdentityStays is why identities that were passed are kept: without
// that, the second label set would get a second number.
func TestPassedIdentityStays(t *testing.T) {
	store, c := newIdentityStore(t), newClock()
	n := numbersOn(store, c, 1000, 1015)
	apps := collide(n, 3)
	first, second := mustAllocate(t, n, apps[0]), mustAllocate(t, n, apps[1])
	third := mustAllocate(t, n, apps[2])
	if first.Name == second.Name || second.Name == third.Name {
		t.Fatalf("one number for two label sets: %s, %s, %s", first.Name, second.Name, third.Name)
	}
	fresh := func(id *v1alpha1.PlacidIdentity) *v1alpha1.PlacidIdentity {
		now, err := get(t.Context(), store, id.Name, &v1alpha1.PlacidIdentity{})
		mustDo(t, err)
		return now
	}
	removed := func(id *v1alpha1.PlacidIdentity) bool {
		ok, err := n.remove(t.Context(), fresh(id))
		mustDo(t, err)
		return ok
	}
	if removed(first) || removed(second) {
		t.Error("an identity that was just passed is gone")
	}
	c.pass(passRest)
	if removed(first) || removed(second) {
		t.Error("an identity that was passed is gone, while those who passed it exist")
	}
	if got := mustAllocate(t, n, apps[2]); got.Name != third.Name {
		t.Errorf("the third label set has %s and %s", third.Name, got.Name)
	}
	for _, id := range []*v1alpha1.PlacidIdentity{third, second, first} {
		if !removed(id) {
			t.Errorf("%s is not removed, nobody needs it", id.Name)
		}
	}
	if len(byKey(t, store)) != 0 {
		t.Error("something is left")
	}
}

// TestPassMeetsDeletion: an operator decides to delete an identity, another passes
// it, then the first deletes.
func TestPassMeetsDeletion(t *testing.T) {
	store, c := newIdentityStore(t), newClock()
	n := numbersOn(store, c, 1000, 1015)
	apps := collide(n, 2)
	first := mustAllocate(t, n, apps[0])
	second := mustAllocate(t, n, apps[1])
	if _, err := n.remove(t.Context(), first); !apierrors.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
	if got := byKey(t, store); len(got) != 2 {
		t.Errorf("left %v, want both", got)
	}
	// The second goes; while the first is being deleted it comes back.
	c.pass(passRest)
	ok, err := n.remove(t.Context(), second)
	mustDo(t, err)
	first, err = get(t.Context(), store, first.Name, &v1alpha1.PlacidIdentity{})
	mustDo(t, err)
	deleting := numbersOn(writes(store, func(what string, after bool) error {
		if what == "delete "+first.Name && !after {
			mustAllocate(t, n, apps[1])
		}
		return nil
	}), c, 1000, 1015)
	if _, err := deleting.remove(t.Context(), first); !ok || !apierrors.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
	if got := byKey(t, store); len(got) != 2 {
		t.Errorf("left %v, want both", got)
	}
}

func TestSearchOverForeignObject(t *testing.T) {
	store, c := newIdentityStore(t), newClock()
	n := numbersOn(store, c, 1000, 1003)
	at := n.first + n.start("k8s:app=a;")
	create(t, store, &v1alpha1.PlacidIdentity{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(at), Annotations: map[string]string{passedAnnotation: "nonsense"}},
		Labels:     labels("a"), NamedPorts: []v1alpha1.NamedPort{{Name: "x", Protocol: "ICMP", Port: 1}},
	})
	if id := mustAllocate(t, n, "a"); id.Name == fmt.Sprint(at) {
		t.Error("took an identity that makes no sense for its own")
	}
}

func TestAllocateErrors(t *testing.T) {
	for _, broken := range []error{
		apierrors.NewForbidden(corev1.Resource("placididentities"), "x", errors.New("no")),
		apierrors.NewNotFound(corev1.Resource("placididentities"), ""), // the definition is gone
		context.DeadlineExceeded,
	} {
		store := writes(newIdentityStore(t), func(string, bool) error { return broken })
		_, _, err := numbersOn(store, newClock(), 1000, 1003).allocate(t.Context(), labels("a"), nil)
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "create PlacidIdentity 10") {
			t.Errorf("got %v, want %v", err, broken)
		}
	}
}

// TestCrashInSearch ends the operator before and after each of its writes, and
// lets another finish.
func TestCrashInSearch(t *testing.T) {
	crash := errors.New("killed")
	for at := range 40 {
		store, c := newIdentityStore(t), newClock()
		wrote := 0
		dying := writes(store, func(string, bool) error {
			if wrote++; wrote > at {
				return crash
			}
			return nil
		})
		n, next := numbersOn(dying, c, 1000, 1015), numbersOn(store, c, 1000, 1015)
		apps := collide(n, 3)
		for _, app := range apps {
			if _, _, err := n.allocate(t.Context(), labels(app), nil); err != nil {
				break
			}
		}
		for _, app := range slices.Backward(apps) {
			mustAllocate(t, next, app)
		}
		if got := byKey(t, store); len(got) != len(apps) {
			t.Errorf("killed at %d: %v", at, got)
		}
		// The marks that the dead one left do not keep anything for ever.
		c.pass(passRest)
		for range apps {
			var list v1alpha1.PlacidIdentityList
			mustDo(t, store.List(t.Context(), &list))
			for i := range list.Items {
				_, err := next.remove(t.Context(), &list.Items[i])
				mustDo(t, err)
			}
		}
		if got := byKey(t, store); len(got) != 0 {
			t.Errorf("killed at %d: cannot be collected: %v", at, got)
		}
		if at > wrote {
			return // it lived to the end
		}
	}
	t.Error("the last crash was not behind the last write")
}

// calls calls hook before and after every request that goes through the client.
func calls(store client.WithWatch, hook func()) client.WithWatch {
	reads := interceptor.NewClient(store, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			defer hook()
			return c.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			defer hook()
			return c.List(ctx, l, opts...)
		},
	})
	return writes(reads, func(string, bool) error {
		hook()
		return nil
	})
}

// TestNumbersInterleaved lets any operator look for a number and delete any
// identity at any time, in so small a space that label sets collide all the time.
// Between any two requests of one, others do the same, up to three deep.
func TestNumbersInterleaved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store, c := newIdentityStore(t), newClock()
		apps := []string{"a", "b", "c", "d"}
		depth := 0
		var n *numbers
		// stale are identities as somebody read them at some time.
		stale := map[string]*v1alpha1.PlacidIdentity{}
		read := func() {
			var list v1alpha1.PlacidIdentityList
			mustDo(t, store.List(context.Background(), &list))
			for i := range list.Items {
				stale[list.Items[i].Name] = &list.Items[i]
			}
		}
		remove := func(t *rapid.T) {
			if len(stale) == 0 {
				return
			}
			name := rapid.SampledFrom(slices.Sorted(maps.Keys(stale))).Draw(t, "identity")
			if _, err := n.remove(context.Background(), stale[name].DeepCopy()); err != nil && !apierrors.IsConflict(err) {
				t.Fatal(err)
			}
		}
		act := func(t *rapid.T) {
			switch rapid.SampledFrom([]string{"allocate", "remove", "remove stale", "read", "time"}).Draw(t, "what") {
			case "allocate":
				_, _, err := n.allocate(context.Background(), labels(rapid.SampledFrom(apps).Draw(t, "app")), nil)
				if err != nil && !errors.Is(err, errOvertaken) {
					t.Fatal(err)
				}
			case "remove":
				read()
				remove(t)
			case "remove stale":
				remove(t)
			case "read":
				read()
			case "time":
				c.pass(time.Minute)
			}
			byKey(t, store)
		}
		n = numbersOn(calls(store, func() {
			if depth == 3 {
				return
			}
			depth++
			defer func() { depth-- }()
			if rapid.IntRange(0, 3).Draw(t, "others act") == 0 {
				act(t)
			}
		}), c, 1000, 1005)
		t.Repeat(map[string]func(*rapid.T){
			"act": act,
			"day": func(*rapid.T) { c.pass(passRest) }, // nobody is in the middle of a search
			"":    func(t *rapid.T) { byKey(t, store) },
		})
	})
}

// idleFor lets the grace go by, in which the operators see what is unused.
func idleFor(c *clock, offices ...*office) {
	for range 1 + int(grace/collectEvery) {
		c.pass(collectEvery)
		for _, f := range offices {
			f.sets.idle(grace)
		}
	}
}

// TestTwoOfficesInterleaved runs two operators that both believe to lead, in so
// small a space that label sets collide all the time. At any write of the first the
// second does some work: pods come and go, namespaces are relabelled, identities
// are made and collected, watches lag, operators start anew.
func TestTwoOfficesInterleaved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store, c := newIdentityStore(t, namespace("ns"), policyFrom("ns", "p", "app", "x")), newClock()
		space := officeOptions{first: 1000, last: 1005}
		var b *office
		inside := false
		act := func(t *rapid.T, f *office) {
			switch rapid.SampledFrom([]string{"look", "work", "work", "collect", "time"}).Draw(t, "what") {
			case "look":
				f.look()
			case "work":
				_ = f.workOnce() // what failed stays woken
			case "collect":
				f.collect(context.Background())
			case "time":
				c.pass(rapid.SampledFrom([]time.Duration{time.Second, collectEvery, grace}).Draw(t, "time"))
			}
			byKey(t, store)
		}
		hooked := writes(store, func(string, bool) error {
			if inside {
				return nil
			}
			inside = true
			defer func() { inside = false }()
			for range rapid.IntRange(0, 3).Draw(t, "steps of b") {
				act(t, b)
			}
			return nil
		})
		a := newOffice(t, hooked, store, c, space)
		b = newOffice(t, store, store, c, space)
		apps := []string{"a", "b", "c", "d"}
		t.Repeat(map[string]func(*rapid.T){
			"a": func(t *rapid.T) { act(t, a) },
			"b": func(t *rapid.T) { inside = true; act(t, b); inside = false },
			"pod": func(t *rapid.T) {
				app := rapid.SampledFrom(apps).Draw(t, "app")
				if err := store.Create(context.Background(), pod("ns", "pod-"+app, "app", app)); err != nil {
					remove(t, store, pod("ns", "pod-"+app))
				}
			},
			"quiet grace": func(*rapid.T) {
				a.look()
				b.look()
				idleFor(c, a, b)
			},
			"day":       func(*rapid.T) { c.pass(passRest) }, // nobody is in the middle of a search
			"restart a": func(*rapid.T) { a = newOffice(t, hooked, store, c, space) },
			"":          func(t *rapid.T) { byKey(t, store) },
		})
		inside = true // b rests: a alone must get everything done
		a.settle()
		var pods corev1.PodList
		mustDo(t, store.List(context.Background(), &pods))
		got := byKey(t, store)
		for _, p := range pods.Items {
			if got[key("ns", "app="+p.Labels["app"]+";")] == "" {
				t.Fatalf("%s has no identity: %v", p.Name, got)
			}
			remove(t, store, &p)
		}
		a.settle()
		for range len(apps) + 1 {
			c.pass(passRest)
			idleFor(c, a)
			a.collect(context.Background())
		}
		if got := byKey(t, store); len(got) != 0 {
			t.Fatalf("without pods there are left %v", got)
		}
	})
}

// TestTwoAllocateAtOnce is the race with real goroutines.
func TestTwoAllocateAtOnce(t *testing.T) {
	store, c := newIdentityStore(t), newClock()
	var wg sync.WaitGroup
	for i := range 3 {
		n := numbersOn(store, c, 1000, 1063)
		wg.Go(func() {
			for j := range 40 {
				app := fmt.Sprint((j*7 + i*13) % 40)
				for tries := 0; ; tries++ {
					if _, _, err := n.allocate(context.Background(), labels(app), nil); err == nil {
						break
					} else if tries == 100 {
						t.Errorf("label set %s: %v", app, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if got := byKey(t, store); len(got) != 40 {
		t.Errorf("%d identities for 40 label sets", len(got))
	}
}
