package capacity

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ErrArgument is a growth, a rate or a type of machine that is not understood, or
// that the cluster cannot have.
var ErrArgument = errors.New("bad argument")

// maxFactor bounds how far a cluster is thought to grow.
const maxFactor = 1e6

// Amount is how much of something is added. The zero Amount adds nothing.
type Amount struct {
	Factor float64 // as many times as now; 0: see Plus
	Plus   int     // so many more
}

// String gives the form that ParseGrowth reads, "" for no growth.
func (a Amount) String() string {
	switch {
	case a.Factor > 0:
		return strconv.FormatFloat(a.Factor, 'f', -1, 64) + "x"
	case a.Plus > 0:
		return "+" + strconv.Itoa(a.Plus)
	}
	return ""
}

// times gives the growth of that many as a factor.
func (a Amount) times(now int) float64 {
	switch {
	case a.Factor > 0:
		return a.Factor
	case a.Plus > 0 && now > 0:
		return float64(now+a.Plus) / float64(now)
	}
	return 1
}

// Growth is how a cluster grows. The zero Growth leaves it as it is.
type Growth struct {
	Pods, Nodes, Services, Policies, Namespaces Amount
}

// fields names the parts of a growth in the order in which they are written.
func (g *Growth) fields() []struct {
	name   string
	amount *Amount
} {
	return []struct {
		name   string
		amount *Amount
	}{{"namespaces", &g.Namespaces}, {"nodes", &g.Nodes}, {"pods", &g.Pods}, {"services", &g.Services}, {"policies", &g.Policies}}
}

// String gives the form that ParseGrowth reads, "" for none.
func (g Growth) String() string {
	var parts []string
	for _, f := range g.fields() {
		if text := f.amount.String(); text != "" {
			parts = append(parts, f.name+"="+text)
		}
	}
	return strings.Join(parts, ",")
}

// ParseGrowth reads "pods=2x,services=+500,nodes=3x,policies=+20%": what grows, and
// to how many times as many, by how many, or by how much of what there is. The
// error wraps ErrArgument and names the part.
func ParseGrowth(text string) (Growth, error) {
	var g Growth
	given := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return Growth{}, fmt.Errorf("%w: %q: want WHAT=AMOUNT such as pods=2x", ErrArgument, part)
		}
		if given[name] {
			return Growth{}, fmt.Errorf("%w: %s is given twice", ErrArgument, name)
		}
		given[name] = true
		amount, err := parseAmount(value)
		if err != nil {
			return Growth{}, fmt.Errorf("%w: %s=%s: %w", ErrArgument, name, value, err)
		}
		known := false
		for _, f := range g.fields() {
			if f.name == name {
				*f.amount, known = amount, true
			}
		}
		if !known {
			return Growth{}, fmt.Errorf("%w: nothing called %q grows: want pods, nodes, services, policies or namespaces", ErrArgument, name)
		}
	}
	return g, nil
}

// parseAmount reads "2x", "+500" and "+20%".
func parseAmount(text string) (Amount, error) {
	errForm := errors.New("want a factor such as 2x, a number such as +500, or a share such as +20%")
	if number, ok := strings.CutSuffix(text, "x"); ok {
		f, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(f) {
			return Amount{}, errForm
		}
		if f < 1 || f > maxFactor {
			return Amount{}, fmt.Errorf("want a factor from 1 to %d: a cluster is planned for growth", int(maxFactor))
		}
		return Amount{Factor: f}, nil
	}
	number, plus := strings.CutPrefix(text, "+")
	if !plus {
		return Amount{}, errForm
	}
	if percent, ok := strings.CutSuffix(number, "%"); ok {
		n, err := strconv.ParseUint(percent, 10, 31)
		if err != nil {
			return Amount{}, errForm
		}
		return Amount{Factor: min(1+float64(n)/100, maxFactor)}, nil
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return Amount{}, errForm
	}
	return Amount{Plus: int(n)}, nil
}

// direction is a growth as factors of what a cluster has.
type direction struct {
	pods, nodes, services, policies, namespaces float64
	growth                                      Growth
	// whole tells that nobody said how the cluster grows: it runs several times as
	// much, on the same nodes.
	whole bool
}

// resolve makes factors of a growth. What there is none of cannot get more.
func (g Growth) resolve(c *census) (direction, error) {
	d := direction{growth: g}
	for _, f := range []struct {
		name   string
		amount Amount
		now    int
		factor *float64
	}{
		{"pods", g.Pods, c.appPods, &d.pods},
		{"nodes", g.Nodes, len(c.nodes), &d.nodes},
		{"services", g.Services, c.services, &d.services},
		{"policies", g.Policies, len(c.snap.Policies), &d.policies},
		{"namespaces", g.Namespaces, c.namespaces, &d.namespaces},
	} {
		if f.amount != (Amount{}) && f.now == 0 {
			return d, fmt.Errorf("%w: %s=%s: the cluster has none to grow from", ErrArgument, f.name, f.amount)
		}
		*f.factor = f.amount.times(f.now)
	}
	if g == (Growth{}) {
		d = direction{pods: 1, nodes: 1, services: 1, policies: 1, namespaces: 2, whole: true}
	}
	return d, nil
}

// at is the scale when t times that growth has happened: 0 is the cluster as it is,
// 1 what was asked for.
func (d direction) at(t float64) scale {
	along := func(f float64) float64 { return 1 + (f-1)*t }
	return newScale(along(d.pods), along(d.nodes), along(d.services), along(d.policies), along(d.namespaces))
}

// asked is the scale of the growth that was asked for.
func (d direction) asked() scale {
	if d.whole {
		return asItIs()
	}
	return d.at(1)
}

// text says how far the growth has come at t, e.g. "pods 2.3x, services +120", or
// "2.3x" of what runs.
func (d direction) text(t float64) string {
	if d.whole {
		return times(1 + t)
	}
	var parts []string
	for _, f := range d.growth.fields() {
		switch {
		case f.amount.Plus > 0 && float64(f.amount.Plus)*t < maxFactor:
			parts = append(parts, fmt.Sprintf("%s +%d", f.name, int(float64(f.amount.Plus)*t+1e-9)))
		case f.amount.Plus > 0:
			parts = append(parts, f.name+" more than a million")
		case f.amount.Factor > 1:
			parts = append(parts, f.name+" "+times(1+(f.amount.Factor-1)*t))
		}
	}
	return strings.Join(parts, ", ")
}

// times gives e.g. "1.05x", "12.5x", "350x" or ">1000x": three digits, rounded down,
// so that what fits at the factor fits.
func times(f float64) string {
	if f >= 1000 {
		return ">1000x"
	}
	digits := 2 - min(max(int(math.Floor(math.Log10(f))), 0), 2)
	unit := math.Pow10(digits)
	return strconv.FormatFloat(math.Floor(f*unit+1e-9)/unit, 'f', -1, 64) + "x"
}
