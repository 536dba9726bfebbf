// Package databaseurl tells a database URL from a text that pgx only takes for one.
package databaseurl

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"
)

// IsOne reports whether the text that config was read from is a database URL, or one of the form
// key=value. pgx reads every text with a = in it as the latter, unless it begins with postgres:// or
// postgresql://. If that was a URL with another scheme, all that is before the = is then the name of a
// parameter, with the password, which the server quotes. It quotes the user and the database, too.
func IsOne(config *pgconn.Config) bool {
	for name, value := range config.RuntimeParams {
		if !isName(name) || holdsURL(value) {
			return false
		}
	}
	hosts := []string{config.Host}
	for _, fallback := range config.Fallbacks {
		hosts = append(hosts, fallback.Host)
	}
	return !slices.ContainsFunc(hosts, isMisread) && IsUser(config.User) && IsDatabase(config.Database)
}

// isName reports whether a parameter of PostgreSQL can have this name: it consists of words, with a dot in
// between where it is an extension's.
func isName(name string) bool {
	return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`).MatchString(name)
}

// isMisread reports whether a single part holds settings of its own, as in DATABASE_URL=postgres://…, or a
// character that no name has: a line that was broken where the URL was written.
func isMisread(part string) bool {
	return HoldsSettings(part) || strings.ContainsFunc(part, unicode.IsControl)
}

// holdsURL reports whether the value of a parameter is a whole URL with a user.
func holdsURL(value string) bool {
	_, rest, found := strings.Cut(value, "://")
	return found && strings.Contains(rest, "@")
}

// HoldsSettings reports whether text, which is to be a name, looks like connection settings instead, which may have a
// password anywhere if they were written wrongly: a URL, user:password@host, host=…, or several of the form key=value.
func HoldsSettings(text string) bool {
	return regexp.MustCompile(`(?is)://|(:|//).*@|(password|passwd|pwd)\s*[=:]|` +
		`\b(host|hostaddr|server|port|dbname|database|user|username|uid|role|pass\w*|secret|service|passfile|ssl\w*)\s*=|` +
		`\w\s*=.*[\s;&?,]\w+\s*=`).MatchString(text)
}

// IsUser reports whether text is the name of a role alone, without a password behind a colon.
func IsUser(text string) bool { return !isMisread(text) && !strings.Contains(text, ":") }

// IsDatabase reports whether text is the name of a database alone.
func IsDatabase(text string) bool { return !isMisread(text) }
