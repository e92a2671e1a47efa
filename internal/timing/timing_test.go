package timing

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		if !Sleep(ctx, time.Minute) || time.Since(begin) != time.Minute {
			t.Errorf("a sleep of a minute ended after %s, ctx %v", time.Since(begin), ctx.Err())
		}
		time.AfterFunc(time.Second, cancel)
		begin = time.Now()
		if Sleep(ctx, time.Minute) || time.Since(begin) != time.Second {
			t.Errorf("a sleep whose context ended after a second ended after %s", time.Since(begin))
		}
	})
}

func TestClosed(t *testing.T) {
	ch := make(chan struct{})
	if Closed(ch) || Closed(nil) {
		t.Error("an open channel, or none, is closed")
	}
	close(ch)
	if !Closed(ch) {
		t.Error("a closed channel is open")
	}
}

func TestEarliest(t *testing.T) {
	a, b := time.Unix(1, 0), time.Unix(2, 0)
	for name, tc := range map[string]struct {
		times []time.Time
		want  time.Time
	}{
		"none":       {nil, time.Time{}},
		"all never":  {[]time.Time{{}, {}}, time.Time{}},
		"some never": {[]time.Time{{}, b, {}, a}, a},
		"in order":   {[]time.Time{a, b}, a},
	} {
		if got := Earliest(tc.times...); !got.Equal(tc.want) {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		a := NewAlarm(begin.Add(time.Minute))
		if at := <-a.Due; at.Sub(begin) != time.Minute {
			t.Errorf("rings after %s", at.Sub(begin))
		}
		a.Stop()
		stopped, never := NewAlarm(time.Now().Add(time.Minute)), NewAlarm(time.Time{})
		stopped.Stop()
		never.Stop()
		select {
		case <-stopped.Due:
			t.Error("rings after Stop")
		case <-never.Due:
			t.Error("rings without a time")
		case <-time.After(time.Hour):
		}
	})
}
