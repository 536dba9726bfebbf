// Package databaseurl tells a database URL from a text that pgx only takes for one.
package databaseurl

import (
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// IsOne reports whether the text that config was read from is a database URL, or one of the form
// key=value. pgx reads every text with a = in it as the latter, unless it begins with postgres:// or
// postgresql://. If that was a URL with another scheme, all that is before the = is then the name of a
// parameter, with the password, which the server quotes.
func IsOne(config *pgconn.Config) bool {
	for name, value := range config.RuntimeParams {
		if !isName(name) || holdsURL(value) {
			return false
		}
	}
	for _, fallback := range config.Fallbacks {
		if holdsURL(fallback.Host) {
			return false
		}
	}
	return !holdsURL(config.Host) && !holdsURL(config.User) && !holdsURL(config.Database)
}

// isName reports whether a parameter of PostgreSQL can have this name: it consists of words, with a dot in
// between where it is an extension's.
func isName(name string) bool {
	return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`).MatchString(name)
}

// holdsURL reports whether a single part is a whole URL, as in DATABASE_URL=postgres://….
func holdsURL(part string) bool {
	_, rest, found := strings.Cut(part, "://")
	return found && strings.Contains(rest, "@")
}
