package main

import (
	"bytes"
	"fmt"
	"image/color"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/placid-net/placid/internal/datapath"
)

// Size of the picture, and how much of a run it shows.
const (
	width  = 9 * vg.Inch
	height = 6 * vg.Inch
	shown  = 90 * time.Second
)

// Colours that people who do not see all of them can tell apart (Okabe and Ito).
func colours() []color.Color {
	return []color.Color{
		color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff},
	}
}

// svgDraw draws the beginning of the run: above, latency of queries; below, how full
// the tables of flows are. Where tables move, the ground is grey.
func (r *result) svgDraw() ([]byte, error) {
	p50, p99 := plotter.XYs{}, plotter.XYs{}
	most := 0.0
	for _, o := range r.Over {
		if x, ok := r.at(o.At); ok {
			p50, p99 = append(p50, plotter.XY{X: x, Y: o.P50 / 1000}), append(p99, plotter.XY{X: x, Y: o.P99 / 1000})
			most = max(most, o.P99/1000)
		}
	}
	above, err := r.newPlot("latency of queries to a ClusterIP", "ms", most)
	if err != nil {
		return nil, err
	}
	below, err := r.newPlot("how full the tables are", "per cent", 100)
	if err != nil {
		return nil, err
	}
	below.X.Label.Text = "seconds"
	err = line(above, "p50", p50, 0)
	if err == nil {
		err = line(above, "p99", p99, 1)
	}
	for i, name := range []string{datapath.CTTCPMap, datapath.CTAnyMap, datapath.CTNewMap} {
		points := plotter.XYs{}
		for _, f := range r.Fill {
			if x, ok := r.at(f.At); ok && f.Sizes[name] > 0 {
				points = append(points, plotter.XY{X: x, Y: 100 * float64(f.Entries[name]) / float64(f.Sizes[name])})
			}
		}
		if err == nil {
			err = line(below, name, points, i)
		}
	}
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
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, fmt.Errorf("encode as SVG: %w", err)
	}
	return out.Bytes(), nil
}

// at is a moment in seconds of the run, if it is shown.
func (r *result) at(t time.Time) (float64, bool) {
	d := t.Sub(r.Began)
	return d.Seconds(), d >= 0 && d <= shown && (r.Emptied.Begin.IsZero() || t.Before(r.Emptied.Begin))
}

func (r *result) newPlot(title, unit string, most float64) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = title, unit
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, shown.Seconds()*1.15, 0, most
	p.Legend.Top = true
	for _, m := range r.Moves.Spans {
		begin, ok := r.at(m.Begin)
		if !ok {
			continue
		}
		end := min(m.End.Sub(r.Began).Seconds(), shown.Seconds())
		ground, err := plotter.NewPolygon(plotter.XYs{{X: begin, Y: 0}, {X: end, Y: 0}, {X: end, Y: most}, {X: begin, Y: most}})
		if err != nil {
			return nil, fmt.Errorf("draw a move: %w", err)
		}
		ground.Color, ground.Width = color.Gray{0xe4}, 0
		p.Add(ground)
	}
	p.Add(plotter.NewGrid())
	return p, nil
}

func line(p *plot.Plot, label string, points plotter.XYs, i int) error {
	drawn, err := plotter.NewLine(points)
	if err != nil {
		return fmt.Errorf("line %s: %w", label, err)
	}
	drawn.Color, drawn.Width = colours()[i], vg.Points(1.2)
	p.Add(drawn)
	p.Legend.Add(label, drawn)
	return nil
}
