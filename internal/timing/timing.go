// Package timing has what loops need that wait for a time, a change, or the end
// of their context, whichever comes first.
//
// Invariants: nothing here starts a goroutine, and the zero time is never.
package timing

import (
	"context"
	"time"
)

// Sleep waits for d, and tells whether ctx is still alive then. It returns at
// once when ctx ends.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Closed tells whether a channel is closed. Nobody sends on it; a nil one never
// is.
func Closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// Earliest returns the first of the times that are set, or the zero time.
func Earliest(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// Alarm rings once. The zero Alarm never does.
type Alarm struct {
	Due   <-chan time.Time // has the time when it is due
	timer *time.Timer
}

// NewAlarm returns an Alarm for a time; for the zero time one that never rings.
// The caller stops it.
func NewAlarm(at time.Time) Alarm {
	if at.IsZero() {
		return Alarm{}
	}
	t := time.NewTimer(time.Until(at))
	return Alarm{Due: t.C, timer: t}
}

// Stop has the Alarm ring no more.
func (a Alarm) Stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
