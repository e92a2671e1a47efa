package reconcile

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestModel runs random edits, synchronous calls, drift and failures against
// the loop. Whatever happened, once the kernel works again it ends up holding
// exactly what is desired, and the status says so.
func TestModel(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { model(t, seed) })
		})
	}
}

func model(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	d, k := newTable(), newKernel()
	k.rng = rand.New(rand.NewPCG(seed, 8))
	k.chance = rng.Float64() * 0.6
	k.latency = time.Duration(rng.IntN(3)) * 5 * time.Millisecond
	key := func() string { return fmt.Sprintf("k%d", rng.IntN(12)) }
	for range rng.IntN(8) {
		k.rows[key()] = rng.IntN(3)
		d.rows[key()] = rng.IntN(3)
	}
	l := newLoop(t, d, k)
	defer run(t, l)()

	for range 200 {
		name, value := key(), rng.IntN(3)
		// Drift stays unseen until an audit, so it has rows of its own: for
		// all others the result of a synchronous call must hold at once.
		drifting := fmt.Sprintf("drift%d", rng.IntN(4))
		if rng.IntN(4) == 0 {
			d.edit(func(rows map[string]int) { rows[drifting] = value })
		}
		switch rng.IntN(8) {
		case 0, 1:
			d.edit(func(rows map[string]int) { rows[name] = value })
		case 2:
			d.edit(func(rows map[string]int) { delete(rows, name) })
		case 3: // a CNI ADD: table first; on an error the caller takes it back
			d.edit(func(rows map[string]int) { rows[name] = value })
			if err := l.Apply(t.Context(), name, value); err == nil {
				if got, ok := k.snapshot()[name]; !ok || got != value {
					t.Fatalf("after Apply(%s, %d) the kernel holds %d, %v", name, value, got, ok)
				}
			} else if rng.IntN(2) == 0 {
				d.edit(func(rows map[string]int) { delete(rows, name) })
			}
		case 4: // a CNI DEL
			d.edit(func(rows map[string]int) { delete(rows, name) })
			if err := l.Remove(t.Context(), name); err == nil {
				if got, ok := k.snapshot()[name]; ok {
					t.Fatalf("after Remove(%s) the kernel holds %d", name, got)
				}
			}
		case 5:
			k.set(func() { k.rows[drifting] = value })
		case 6:
			k.set(func() { delete(k.rows, drifting) })
		case 7:
			time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
		}
	}

	k.set(func() { k.chance = 0 })
	time.Sleep(DefaultBackoffMax) // every failed row has had its turn
	l.Trigger()                   // and drift its audit
	time.Sleep(DefaultBackoffMax)
	synctest.Wait()
	want, _, _ := d.desired()
	if diff := cmp.Diff(want, k.snapshot()); diff != "" {
		t.Errorf("kernel (-desired +kernel):\n%s", diff)
	}
	if s := l.Status(); s.Failing != 0 || s.LastError != "" || s.Desired != len(want) {
		t.Errorf("status is %+v with %d desired rows, want nothing failing", s, len(want))
	}
	select {
	case <-l.Synced():
	default:
		t.Error("Synced is not closed")
	}
	k.verbs()
	d.edit(func(map[string]int) {})
	synctest.Wait()
	if verbs := k.verbs(); len(verbs) != 0 {
		t.Errorf("nothing changed, yet the kernel saw %v", verbs)
	}
}
