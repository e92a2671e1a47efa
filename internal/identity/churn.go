package identity

import (
	"cmp"
	"container/list"
	"maps"
	"slices"
	"time"
)

const (
	// churnWindow is how long a value counts after it was seen.
	churnWindow = time.Hour
	// churnLeast is the shortest time from which a rate is taken, so that the
	// first burst after the start is not taken for the rule.
	churnLeast = 10 * time.Minute
	// churnMax is the most values that are remembered, of all namespaces and keys
	// together: some megabytes.
	churnMax = 16384
)

// Churn finds labels of high cardinality while the cluster runs: for each
// namespace and key it counts the different values that came with new identities
// within the last hour. A key that has the same value everywhere is the cause of
// none of them, and is not named.
//
// It remembers at most 16384 values, so at most as many keys. When more come in
// an hour, those that were seen longest ago are forgotten first: Values is then
// too low, of a time that is shorter than an hour, and PerHour is right as long
// as that is ten minutes at least.
//
// Create it with NewChurn. It is not safe for concurrent use.
type Churn struct {
	limit int
	seen  map[churnValue]*list.Element
	// order holds a churnSeen for each of seen, the one seen longest ago first.
	order *list.List
	// values counts the values of each key.
	values map[churnKey]int
	// since is when what is remembered begins; zero before the first identity.
	since time.Time
}

type churnKey struct{ namespace, name string }

type churnValue struct {
	churnKey
	value string
}

type churnSeen struct {
	churnValue
	at time.Time
}

// ChurnLabel is one label that makes identities.
type ChurnLabel struct {
	Namespace string
	// Key is the label's "source:key".
	Key string
	// PerHour is how many different values come in an hour, Values how many came
	// within the last one.
	PerHour float64
	Values  int
}

// NewChurn returns a Churn that has seen nothing.
func NewChurn() *Churn {
	return &Churn{limit: churnMax, seen: map[churnValue]*list.Element{}, order: list.New(), values: map[churnKey]int{}}
}

// Observe takes note of the labels ("source:key" to value) of a new identity that
// a pod of the namespace got. Times must not go back.
func (c *Churn) Observe(now time.Time, labels map[string]string, namespace string) {
	if c.since.IsZero() {
		c.since = now
	}
	c.expire(now)
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		v := churnValue{churnKey{namespace, name}, labels[name]}
		if e, ok := c.seen[v]; ok {
			e.Value = churnSeen{v, now}
			c.order.MoveToBack(e)
			continue
		}
		if c.order.Len() >= c.limit {
			c.since = c.forgetOldest()
		}
		c.seen[v] = c.order.PushBack(churnSeen{v, now})
		c.values[v.churnKey]++
	}
}

// Top returns the n labels with most different values, most first, then by
// namespace and key. Labels with one value are left out.
func (c *Churn) Top(now time.Time, n int) []ChurnLabel {
	c.expire(now)
	took := min(max(now.Sub(c.since), churnLeast), churnWindow)
	var out []ChurnLabel
	for key, values := range c.values {
		if values > 1 {
			out = append(out, ChurnLabel{key.namespace, key.name, float64(values) / took.Hours(), values})
		}
	}
	slices.SortFunc(out, func(a, b ChurnLabel) int {
		return cmp.Or(cmp.Compare(b.Values, a.Values), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Key, b.Key))
	})
	return out[:min(len(out), max(n, 0))]
}

// expire forgets what was seen an hour ago or earlier.
func (c *Churn) expire(now time.Time) {
	for e := c.order.Front(); e != nil && now.Sub(e.Value.(churnSeen).at) >= churnWindow; e = c.order.Front() {
		c.forgetOldest()
	}
}

// forgetOldest forgets the value that was seen longest ago and returns when that
// was. There must be one.
func (c *Churn) forgetOldest() time.Time {
	old := c.order.Remove(c.order.Front()).(churnSeen)
	delete(c.seen, old.churnValue)
	if c.values[old.churnKey]--; c.values[old.churnKey] == 0 {
		delete(c.values, old.churnKey)
	}
	return old.at
}
