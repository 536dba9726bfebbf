package report

import (
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/ezq-go/ezq/bench/result"
)

const (
	plotWidth  = 860
	barsFrom   = 320
	barsWidth  = 420
	rowHeight  = 24
	titleSpace = 40
)

// plot draws a work as bars, as SVG. It reads well on light and on dark pages.
func plot(w result.Work) string {
	var most float64
	for _, o := range w.Outcomes {
		if v := o.Median(w.Metric); v > most {
			most = v
		}
	}
	height := titleSpace + rowHeight*len(w.Outcomes) + 10
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" `+
		`font-family="system-ui,sans-serif" font-size="13">`+"\n", plotWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, height)
	better := "more is better"
	if w.Metric.LowerIsBetter() {
		better = "less is better"
	}
	fmt.Fprintf(&b, `<text x="12" y="24" font-size="14" font-weight="600" fill="#1f2328">%s</text>`+"\n",
		html.EscapeString(fmt.Sprintf("%s (%s, %s)", w.Title, w.Metric, better)))
	for i, o := range w.Outcomes {
		b.WriteString(bar(titleSpace+rowHeight*i, o, w.Metric, most))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func bar(y int, o result.Outcome, metric result.Metric, most float64) string {
	colour := "#9aa4b2"
	if strings.HasPrefix(o.Entrant, "ezq") {
		colour = "#1f6feb"
	}
	value, text := o.Median(metric), ""
	switch {
	case o.Problem() != "":
		text = "not compared: " + o.Problem()
		value = 0
	case math.IsNaN(value):
		text, value = "not measured", 0
	default:
		text = number(value)
	}
	width := 0.0
	if most > 0 {
		width = value / most * barsWidth
	}
	return fmt.Sprintf(`<text x="%d" y="%d" text-anchor="end" fill="#1f2328">%s</text>`+
		`<rect x="%d" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>`+
		`<text x="%.1f" y="%d" fill="#59636e">%s</text>`+"\n",
		barsFrom-8, y+16, html.EscapeString(o.Entrant),
		barsFrom, y+3, width, rowHeight-6, colour,
		barsFrom+width+6, y+16, html.EscapeString(text))
}
