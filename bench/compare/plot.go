package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
)

// The plot's measures, in pixels.
const (
	plotWidth = 860
	plotLabel = 250 // the column of names
	plotBar   = 12
	plotGap   = 10
	plotTop   = 56
	plotMost  = 1.5 // the ratio at the right edge; what is better is cut there and has its figure beside
)

// colours are those of the targets, in their order; distinct for most eyes, on light and on dark ground.
var colours = [...]string{"#0072b2", "#cc79a7", "#009e73", "#8fd3b6", "#56b4e9", "#e69f00", "#999999"}

// plotted are the scenarios in the plot.
var plotted = []string{
	"GET manifest by tag", "HEAD manifest by tag", "GET 4 KB blob", "TLS: GET manifest by tag", "64 MiB layer, 1 at once", "64 MiB layer, 64 at once",
	"1 MiB ranges", "TLS: 64 MiB layer, 16 at once", "cold 1 GiB, open link", "herd of 50 on 150 MiB, open link",
}

// writePlot draws for each scenario a group of bars: the work of each server per second of its CPU time, as a ratio to the baseline.
func (r *report) writePlot(w io.Writer) {
	rows := slices.DeleteFunc(r.rows(machine), func(r row) bool { return !slices.Contains(plotted, r.name) || r.failed != "" })
	height := plotTop + len(rows)*plotBar + len(plotted)*plotGap + 20
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", plotWidth, height)
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	fmt.Fprintf(w, `<text x="8" y="18" font-size="14">Work per second of CPU time, as a ratio to %s (revision %s)</text>`+"\n", baseline, html.EscapeString(r.Revision))
	x := 8
	for n, t := range targets() {
		if slices.ContainsFunc(rows, func(r row) bool { return r.target == t.name }) {
			fmt.Fprintf(w, `<rect x="%d" y="30" width="10" height="10" fill="%s"/><text x="%d" y="39">%s</text>`+"\n", x, colour(n), x+14, t.name)
			x += 30 + 6*len(t.name)
		}
	}
	y := plotTop
	for n, row := range rows {
		if n > 0 && rows[n-1].name != row.name {
			y += plotGap
		}
		drawRow(w, rows, row, y, n == 0 || rows[n-1].name != row.name)
		y += plotBar
	}
	one := plotLabel + length(1)
	fmt.Fprintf(w, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#333" stroke-dasharray="3 3"/><text x="%d" y="%d">1.00</text>`+"\n",
		one, plotTop-6, one, y+4, one-10, y+16)
	fmt.Fprintln(w, "</svg>")
}

// length is how long the bar of a ratio is.
func length(ratio float64) int {
	return int(min(ratio, plotMost) / plotMost * float64(plotWidth-plotLabel-60))
}

func colour(n int) string { return colours[n%len(colours)] }

// drawRow draws one bar with its figure, and the name of the scenario beside the first of them.
func drawRow(w io.Writer, rows []row, r row, y int, first bool) {
	if first {
		fmt.Fprintf(w, `<text x="8" y="%d">%s</text>`+"\n", y+plotBar-2, html.EscapeString(r.name))
	}
	base, ok := compared(rows, r)
	value := r.cheaper(base)
	if !ok || math.IsNaN(value) {
		return
	}
	n := slices.IndexFunc(targets(), func(t target) bool { return t.name == r.target })
	width := max(1, length(value))
	fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/><text x="%d" y="%d" font-size="9">%.2f</text>`+"\n",
		plotLabel, y, width, plotBar-2, colour(n), plotLabel+width+4, y+plotBar-3, value)
}
