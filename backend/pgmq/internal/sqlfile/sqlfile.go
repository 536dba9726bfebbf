// Package sqlfile is for SQL that stands in files of its own, with comments for people who know SQL, and for what is
// written into it.
//
// Go puts something in the place of what is in braces. {table}, {archive} and {queue} are the table of a queue, its
// archive and its name, which is a string there. All others are explained in the comments of the file, or in those of its package.
package sqlfile

import (
	"strings"

	"github.com/ezq-go/ezq/internal/schema"
)

// Text returns the statement in a file, without its comments, which are lines that begin with --.
func Text(file string) string {
	var sql strings.Builder
	for line := range strings.Lines(file) {
		if !strings.HasPrefix(line, "--") {
			sql.WriteString(line)
		}
	}
	return strings.TrimSpace(sql.String())
}

// OrNull returns a parameter that is NULL if text is empty.
func OrNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// Literal returns text as a constant of SQL, whatever standard_conforming_strings is.
func Literal(text string) string { return schema.Literal(text) }
