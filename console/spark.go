package console

import (
	"fmt"
	"html/template"
	"strings"
)

// The size of the line of the last hour.
const (
	sparkWidth  = 120
	sparkHeight = 20
)

// spark returns the line of how many messages waited in the last hour, as SVG.
func spark(points []point) template.HTML {
	if len(points) < 2 {
		return ""
	}
	most := 0
	for _, p := range points {
		most = max(most, p.waiting)
	}
	var line strings.Builder
	last := points[len(points)-1].at
	for _, p := range points {
		x := sparkWidth * (1 - last.Sub(p.at).Minutes()/historyPoints)
		y := 1 + float64(sparkHeight-2)*(1-float64(p.waiting)/float64(max(most, 1)))
		fmt.Fprintf(&line, "%.1f,%.1f ", max(x, 0), y)
	}
	// There is nothing in it but numbers.
	return template.HTML(fmt.Sprintf( //nolint:gosec // numbers need no escaping
		`<svg class="spark" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="waiting in the last hour: %d at most, %d now"><polyline points="%s"/></svg>`,
		sparkWidth, sparkHeight, most, points[len(points)-1].waiting, strings.TrimSpace(line.String())))
}
