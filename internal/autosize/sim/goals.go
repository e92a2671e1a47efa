package sim

import (
	"fmt"

	"github.com/placid-net/placid/internal/autosize"
)

// maxRatio is how many times the oracle's memory the tables may take on average.
const maxRatio = 2

// Ratio is the memory that all tables took to the oracle's, on average over time.
func (r *Result) Ratio() float64 { return r.Mean / r.OracleMean }

// Problems lists the goals that were missed: no table fuller than the limit,
// nothing refused, at most twice the oracle's memory, at most one resize of a
// table in ten minutes unless it was filling, never beyond the budget. In a flood
// the table of embryonic flows is full and evicts, as it should.
func (r *Result) Problems() []string {
	var out []string
	for _, c := range r.Tables {
		flooded := r.Trace.Flood && c.Map == Embryonic
		if c.Highest >= autosize.Limit && !flooded {
			out = append(out, fmt.Sprintf("%s: up to %.0f %% full", c.Label, 100*c.Highest))
		}
		if c.Failures > 0 {
			out = append(out, fmt.Sprintf("%s: %.0f inserts failed", c.Label, c.Failures))
		}
		if c.Early > 0 && !flooded {
			out = append(out, fmt.Sprintf("%s: %.0f entries evicted that were needed", c.Label, c.Early))
		}
		if c.Closest > 0 && c.Closest < autosize.Pause {
			out = append(out, fmt.Sprintf("%s: resized again after %s without need", c.Label, c.Closest))
		}
	}
	if r.Ratio() > maxRatio {
		out = append(out, fmt.Sprintf("%.2f times the oracle's memory", r.Ratio()))
	}
	if r.Most > float64(r.Budget) {
		out = append(out, fmt.Sprintf("%.0f bytes taken of a budget of %d", r.Most, r.Budget))
	}
	return out
}
