package operator

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/placid-net/placid/api/v1alpha1"
)

const (
	// collectEvery is how often unused identities are looked for, unless they
	// are to go after less than a few times that.
	collectEvery = time.Minute
	// collectPause is between two deletions, so that a pass leaves most of the
	// requests to those who wait for an identity.
	collectPause = 50 * time.Millisecond
	// asleep is how many times the time between two passes must have gone by for
	// the operator to have slept: what it knows may then be as old.
	asleep = 4
)

// collectPeriod returns how often to look for identities that were unused for the
// grace.
func collectPeriod(grace time.Duration) time.Duration {
	return max(time.Second, min(collectEvery, grace/asleep))
}

// idle returns the identities that no pod has had and no node has listed for the
// grace, as far as it was called at least every so often meanwhile, and how many
// others there are.
func (s *labelSets) idle(grace time.Duration) (out []*v1alpha1.PlacidIdentity, alive int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	slept := now.Sub(s.collected) > asleep*collectPeriod(grace)
	s.collected = now
	for _, number := range slices.Sorted(maps.Keys(s.known)) {
		k := s.known[number]
		switch {
		case s.usedLocked(number, k):
			k.idleSince = time.Time{}
		case slept || k.idleSince.IsZero():
			k.idleSince = now
		case now.Sub(k.idleSince) >= grace:
			out = append(out, k.object)
			continue
		}
		alive++
	}
	return out, alive
}

// collectedNow takes note that a pass has ended.
func (s *labelSets) collectedNow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collected = s.now()
}

// stillIdle says whether nobody has needed the identity since idle returned it,
// and returns it as it is now.
func (s *labelSets) stillIdle(object *v1alpha1.PlacidIdentity) (*v1alpha1.PlacidIdentity, bool) {
	row, _, err := rowOf(object)
	if err != nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.known[row.ID]
	if k == nil || k.object.UID != object.UID || k.idleSince.IsZero() || s.usedLocked(row.ID, k) {
		return nil, false
	}
	return k.object, true
}

func (s *labelSets) usedLocked(number uint32, k *knownIdentity) bool {
	return s.listed[number] > 0 || s.needed && (!s.complete || k.set.pods > 0 && k.set.numbers[0] == number)
}

// holds says whether one of the label sets, given by digest, has an identity.
func (s *labelSets) holds(passed map[string]time.Time) bool {
	if len(passed) == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.known {
		if _, ok := passed[digest(k.set.key)]; ok {
			return true
		}
	}
	return false
}

// collectLoop collects every now and then until ctx ends.
func (d *identities) collectLoop(ctx context.Context) {
	ticker := time.NewTicker(collectPeriod(d.grace))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			d.collect(ctx)
		}
	}
}

// collect deletes the identities that have been unused for the grace. An error
// with one does not keep the others.
func (d *identities) collect(ctx context.Context) {
	begin := d.now()
	candidates, alive := d.sets.idle(d.grace)
	var deleted, failed int
	for _, c := range candidates {
		object, ok := d.sets.stillIdle(c)
		if !ok {
			alive++
			continue
		}
		if d.sets.holds(passedBy(object)) {
			alive++ // a label set went past it
			continue
		}
		removed, err := d.numbers.remove(ctx, object)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			alive++
			failed++
			d.metrics.failed(operationDelete)
			d.logger.Error("cannot delete an unused identity; it is tried again in the next pass", "identity", object.Name, "error", err)
		case !removed:
			alive++ // a label set went past it not long ago, or has just got a number
		default:
			deleted++
			d.sets.removeIdentity(object)
			d.metrics.deleted.Inc()
			d.logger.Info("deleted an identity that no pod has", "identity", object.Name, "labels", object.Labels)
		}
		d.pause(ctx, collectPause)
	}
	d.sets.collectedNow()
	d.metrics.pass(passResult{alive: alive, deleted: deleted, failed: failed, took: d.now().Sub(begin)})
}
