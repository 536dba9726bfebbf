// Package sqlfile is for SQL that stands in files of its own, with comments for people who know SQL.
package sqlfile

import "strings"

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
