package main

import (
	"bytes"
	"fmt"
	"image/color"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/placid-net/placid/internal/autosize"
	"github.com/placid-net/placid/internal/autosize/sim"
)

// Size of a picture.
const (
	width  = 9 * vg.Inch
	height = 6 * vg.Inch
)

// Colours that people who do not see all of them can tell apart (Okabe and Ito).
func colours() []color.Color {
	return []color.Color{
		color.RGBA{0x00, 0x72, 0xb2, 0xff},
		color.RGBA{0xe6, 0x9f, 0x00, 0xff},
		color.RGBA{0x00, 0x9e, 0x73, 0xff},
		color.RGBA{0xcc, 0x79, 0xa7, 0xff},
	}
}

// svgDraw draws one trace: above, how full each table is; below, entries and
// sizes of the table that the trace is about.
func svgDraw(r *sim.Result) ([]byte, error) {
	above, err := fillPlot(r)
	if err != nil {
		return nil, err
	}
	below, err := sizePlot(r)
	if err != nil {
		return nil, err
	}
	canvas := vgsvg.New(width, height)
	tiles := draw.Tiles{Rows: 2, Cols: 1, PadY: vg.Points(12), PadTop: vg.Points(6), PadBottom: vg.Points(6), PadLeft: vg.Points(6), PadRight: vg.Points(12)}
	plots := [][]*plot.Plot{{above}, {below}}
	for i, area := range plot.Align(plots, tiles, draw.New(canvas)) {
		plots[i][0].Draw(area[0])
	}
	var out bytes.Buffer
	if _, err = canvas.WriteTo(&out); err != nil {
		return nil, fmt.Errorf("encode as SVG: %w", err)
	}
	return out.Bytes(), nil
}

// newPlot returns a plot over the time of the trace, in hours, with room for the
// legend on the right.
func newPlot(r *sim.Result, title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Y.Min = 0
	p.Legend.Top = true
	hours := r.Trace.Length.Hours()
	var ticks plot.ConstantTicks
	for i := range 9 {
		at := hours * float64(i) / 8
		ticks = append(ticks, plot.Tick{Value: at, Label: strconv.FormatFloat(at, 'f', -1, 64)})
	}
	p.X.Tick.Marker = ticks
	p.X.Min, p.X.Max = 0, hours*1.15
	p.Add(plotter.NewGrid())
	return p
}

func fillPlot(r *sim.Result) (*plot.Plot, error) {
	p := newPlot(r, r.Trace.Name+": how full the tables are, at most")
	p.Y.Label.Text = "per cent of the size"
	p.Y.Max = 100
	limit := line{label: "limit", colour: color.Gray{0x60}, dashed: true}
	for i, c := range r.Tables {
		l := line{label: c.Label, colour: colours()[i%len(colours())]}
		for _, pt := range c.Points {
			l.add(pt, min(100*pt.Fill, 100))
		}
		if err := l.draw(p); err != nil {
			return nil, err
		}
		if i == 0 {
			limit.add(c.Points[0], 100*autosize.Limit)
			limit.add(c.Points[len(c.Points)-1], 100*autosize.Limit)
		}
	}
	return p, limit.draw(p)
}

func sizePlot(r *sim.Result) (*plot.Plot, error) {
	c := r.Table(r.Trace.Main)
	if c == nil {
		return nil, fmt.Errorf("the trace is about %s, which took no part", r.Trace.Main)
	}
	p := newPlot(r, c.Label+": entries that count, and sizes")
	p.X.Label.Text = "hours"
	p.Y.Label.Text = "thousand entries"
	entries := line{label: "entries", colour: colours()[0]}
	size := line{label: "size", colour: colours()[1], steps: true}
	oracle := line{label: "oracle's size", colour: colours()[2], steps: true, dashed: true}
	for _, pt := range c.Points {
		// What a flood would like to have is off the page.
		entries.add(pt, float64(min(pt.Entries, pt.Size))/1000)
		size.add(pt, float64(pt.Size)/1000)
		oracle.add(pt, float64(pt.Oracle)/1000)
	}
	for _, l := range []line{entries, size, oracle} {
		if err := l.draw(p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// line is one line of a plot in the making.
type line struct {
	label         string
	colour        color.Color
	steps, dashed bool
	points        plotter.XYs
}

func (l *line) add(at sim.Point, y float64) {
	l.points = append(l.points, plotter.XY{X: at.At.Hours(), Y: y})
}

func (l *line) draw(p *plot.Plot) error {
	drawn, err := plotter.NewLine(l.points)
	if err != nil {
		return fmt.Errorf("line %s: %w", l.label, err)
	}
	drawn.Color, drawn.Width = l.colour, vg.Points(1.5)
	if l.steps {
		drawn.StepStyle = plotter.PostStep
	}
	if l.dashed {
		drawn.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
	}
	p.Add(drawn)
	p.Legend.Add(l.label, drawn)
	return nil
}
