package terminal

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Table is for people: columns that are as wide as what is in them. Its cells must be printable.
type Table struct {
	style Style
	head  []string
	rows  [][]string
}

// NewTable returns a table with these columns, whose heads stand out on a terminal.
func NewTable(style Style, head ...string) *Table { return &Table{style: style, head: head} }

// Add adds a row with a cell for each column.
func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

// Write writes the table.
func (t *Table) Write(w io.Writer) error {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	b.WriteString(t.style.Bold(line(widths, t.head)) + "\n")
	for _, row := range t.rows {
		b.WriteString(line(widths, row) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func line(widths []int, cells []string) string {
	var b strings.Builder
	for i, cell := range cells {
		b.WriteString(cell)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
	}
	return b.String()
}
