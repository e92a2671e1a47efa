package identity

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// seen is one new identity of a trace.
type seen struct {
	at        time.Duration
	namespace string
	labels    map[string]string
}

func TestChurn(t *testing.T) {
	var jobs, deploys, steady, slow, both []seen
	for i := range 120 { // a job every minute, for two hours
		at := time.Duration(i) * time.Minute
		jobs = append(jobs, seen{at, "batch", map[string]string{"k8s:job-id": fmt.Sprint(i), "k8s:app": "job", "k8s:shard": fmt.Sprint(i % 3)}})
		steady = append(steady, seen{at, "shop", map[string]string{"k8s:app": "web", "k8s:io.kubernetes.pod.namespace": "shop"}})
	}
	for i := range 12 { // a deploy of four applications every ten minutes, with a hash that the filter let through
		for app := range 4 {
			deploys = append(deploys, seen{
				time.Duration(i) * 10 * time.Minute, "shop",
				map[string]string{"k8s:app": fmt.Sprint(app), "k8s:hash": fmt.Sprintf("%d-%d", app, i)},
			})
		}
	}
	for i := range 3 { // a new value every 40 minutes
		slow = append(slow, seen{time.Duration(i) * 40 * time.Minute, "shop", map[string]string{"k8s:app": fmt.Sprint(i)}})
	}
	both = append(append(both, jobs...), deploys...)
	slices.SortStableFunc(both, func(a, b seen) int { return int(a.at - b.at) })

	for _, tc := range []struct {
		name  string
		trace []seen
		at    time.Duration
		n     int
		want  []ChurnLabel
	}{
		{"nothing", nil, 0, 9, nil},
		{"one identity", jobs[:1], 0, 9, nil},
		{"steady", steady, 2 * time.Hour, 9, nil},
		{"job ids, after half an hour", jobs[:31], 30 * time.Minute, 9, []ChurnLabel{{"batch", "k8s:job-id", 62, 31}, {"batch", "k8s:shard", 6, 3}}},
		{"job ids, after two hours", jobs, 119 * time.Minute, 9, []ChurnLabel{{"batch", "k8s:job-id", 60, 60}, {"batch", "k8s:shard", 3, 3}}},
		{"job ids, half an hour later", jobs, 149 * time.Minute, 9, []ChurnLabel{{"batch", "k8s:job-id", 30, 30}, {"batch", "k8s:shard", 3, 3}}},
		{"job ids, an hour later", jobs, 179 * time.Minute, 9, nil},
		{"the worst one", jobs, 119 * time.Minute, 1, []ChurnLabel{{"batch", "k8s:job-id", 60, 60}}},
		{"none", jobs, 119 * time.Minute, 0, nil},
		{"less than none", jobs, 119 * time.Minute, -1, nil},
		{"template hash", deploys, 110 * time.Minute, 9, []ChurnLabel{{"shop", "k8s:hash", 24, 24}, {"shop", "k8s:app", 4, 4}}},
		{"a burst at the start is not the rule", deploys[:4], time.Minute, 9, []ChurnLabel{{"shop", "k8s:app", 24, 4}, {"shop", "k8s:hash", 24, 4}}},
		{"slow", slow, 80 * time.Minute, 9, []ChurnLabel{{"shop", "k8s:app", 2, 2}}},
		{"both", both, 119 * time.Minute, 3, []ChurnLabel{{"batch", "k8s:job-id", 60, 60}, {"shop", "k8s:hash", 24, 24}, {"shop", "k8s:app", 4, 4}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := NewChurn()
			for _, s := range tc.trace {
				c.Observe(start.Add(s.at), s.labels, s.namespace)
			}
			if got := c.Top(start.Add(tc.at), tc.n); !slices.Equal(got, tc.want) {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
		})
	}
}

// What it remembers is bounded; the oldest is forgotten first, and the rate stays
// right.
func TestChurnIsBounded(t *testing.T) {
	c := NewChurn()
	const perMinute = 1000
	for i := range 60 * perMinute {
		c.Observe(start.Add(time.Duration(i)*time.Minute/perMinute), map[string]string{"k8s:job-id": fmt.Sprint(i), "k8s:app": "job"}, "batch")
	}
	if len(c.seen) != churnMax || c.order.Len() != churnMax || len(c.values) != 2 {
		t.Fatalf("%d values, %d in order, %d keys", len(c.seen), c.order.Len(), len(c.values))
	}
	got := c.Top(start.Add(time.Hour), 9)
	if len(got) != 1 || got[0].Key != "k8s:job-id" || got[0].Values != churnMax-1 {
		t.Fatalf("%+v", got)
	}
	if want := 60.0 * perMinute; math.Abs(got[0].PerHour-want) > want/1000 {
		t.Errorf("%v an hour, want %v", got[0].PerHour, want)
	}
	if c.Top(start.Add(3*time.Hour), 9) != nil || len(c.seen)+c.order.Len()+len(c.values) > 0 {
		t.Errorf("something is left after three hours: %d %d %d", len(c.seen), c.order.Len(), len(c.values))
	}
}

// The oracle keeps every identity and counts.
func TestChurnOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewChurn()
		var trace []seen
		now := start
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "minutes")) * time.Minute)
			labels := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b"}), rapid.SampledFrom([]string{"1", "2", "3"}), 0, 2).Draw(t, "labels")
			namespace := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "namespace")
			trace = append(trace, seen{now.Sub(start), namespace, labels})
			c.Observe(now, labels, namespace)
		}
		values := map[churnKey]map[string]bool{}
		for _, s := range trace {
			for key, value := range s.labels {
				if now.Sub(start)-s.at < time.Hour {
					k := churnKey{s.namespace, key}
					if values[k] == nil {
						values[k] = map[string]bool{}
					}
					values[k][value] = true
				}
			}
		}
		maps.DeleteFunc(values, func(_ churnKey, v map[string]bool) bool { return len(v) < 2 })
		got := c.Top(now, 100)
		if len(got) != len(values) {
			t.Fatalf("%+v, want %v", got, values)
		}
		for _, l := range got {
			if len(values[churnKey{l.Namespace, l.Key}]) != l.Values || l.PerHour < float64(l.Values) || l.PerHour > 6*float64(l.Values) {
				t.Fatalf("%+v, want %v", got, values)
			}
		}
	})
}
