package cli

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// grid is a table in the making: a header and rows of as many cells.
type grid struct {
	header []string
	rows   [][]string
}

func newGrid(header ...string) *grid { return &grid{header: header} }

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// render appends the table to out, every line indented. A column whose cells
// are all numbers is aligned right. Without rows only the header is written.
func (g *grid) render(out *bytes.Buffer, indent string) {
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "   "
	t := table.NewWriter()
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(cellsOf(g.header))
	configs := make([]table.ColumnConfig, len(g.header))
	for i := range g.header {
		configs[i] = table.ColumnConfig{Number: i + 1}
		if g.numeric(i) {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	t.SetColumnConfigs(configs)
	for _, row := range g.rows {
		t.AppendRow(cellsOf(row))
	}
	for line := range strings.Lines(t.Render()) {
		out.WriteString(indent + strings.TrimRight(line, " \n") + "\n")
	}
}

func cellsOf(in []string) table.Row {
	row := make(table.Row, len(in))
	for i, cell := range in {
		row[i] = cell
	}
	return row
}

// numeric tells whether column i holds only numbers, percentages, byte sizes
// and "-", and at least one that is not "-".
func (g *grid) numeric(i int) bool {
	number := regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?(%| ([KMGT]i)?B)?$`)
	found := false
	for _, row := range g.rows {
		switch {
		case i < len(row) && number.MatchString(row[i]):
			found = true
		case i < len(row) && row[i] != "-":
			return false
		}
	}
	return found
}
