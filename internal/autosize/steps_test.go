package autosize

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestSteps(t *testing.T) {
	var got []int
	for n := 16; n <= 131072; n = stepAbove(n) {
		got = append(got, n)
	}
	for _, want := range []int{16, 20, 24, 28, 32, 40, 1024, 1280, 1536, 1792, 2048, 114688, 131072} {
		if !slices.Contains(got, want) {
			t.Errorf("%d is no step", want)
		}
	}
	for i, n := range got[1:] {
		below := got[i]
		if ratio := float64(n) / float64(below); ratio > 1.25 || ratio < 1.14 {
			t.Errorf("the step from %d to %d is %.3f", below, n, ratio)
		}
		if b := stepBelow(n); b != below {
			t.Errorf("stepBelow(%d) = %d, want %d", n, b, below)
		}
		if b := stepBelow(n + 1); n > smallest && b != n {
			t.Errorf("stepBelow(%d) = %d, want %d", n+1, b, n)
		}
		if s := step(float64(n)); s != n {
			t.Errorf("step(%d) = %d, want itself", n, s)
		}
		if s := step(float64(below) + 0.5); s != n {
			t.Errorf("step(%d.5) = %d, want %d", below, s, n)
		}
	}
	if step(0) != smallest || step(-1) != smallest || stepBelow(3) != smallest {
		t.Error("there is a step below the least")
	}
	if s := step(math.Inf(1)); s < math.MaxInt32 {
		t.Errorf("step(∞) = %d", s)
	}
}

func TestWindow(t *testing.T) {
	var w window
	at := time.Unix(1_000_000, 0)
	w.add(at, 7)
	w.add(at.Add(time.Second), 3)
	for _, tt := range []struct {
		after time.Duration
		want  float64
	}{{0, 7}, {9 * time.Minute, 7}, {Pause, 7}, {Pause + slotTime, 3}, {24 * time.Hour, 2}} {
		value := 3.0
		if tt.after == 24*time.Hour {
			value = 2
		}
		w.add(at.Add(tt.after), value)
		if got := w.max(); got != tt.want {
			t.Errorf("after %s the most is %g, want %g", tt.after, got, tt.want)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 7.4: "7", 999: "999", 999.6: "1k", 9000: "9k", 999600: "1.0M", 1.24e6: "1.2M"} {
		if got := short(n); got != want {
			t.Errorf("short(%g) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[float64]string{-1: "0 s", 0.4: "0 s", 40: "40 s", 119: "119 s", 180: "3 min", 7200: "2 h"} {
		if got := seconds(n); got != want {
			t.Errorf("seconds(%g) = %q, want %q", n, got, want)
		}
	}
	for b, want := range map[int64]string{0: "+0 MiB", 18 << 20: "+18 MiB", -(1 << 19): "-0.5 MiB", 1 << 20: "+1 MiB"} {
		if got := signed(b); got != want {
			t.Errorf("signed(%d) = %q, want %q", b, got, want)
		}
	}
}
