package ezqenv

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"
)

// URL is where a database is, with the password. Reveal tells it; everything that prints,
// logs or encodes a value, or looks into it by reflection, gets user, host and database at
// most. The zero URL is none.
type URL struct {
	display string
	whole   *func() string // reflection finds a function, and cannot call it
}

func newURL(text string, config *pgconn.Config) URL {
	whole := func() string { return text }
	return URL{display: withoutPassword(config), whole: &whole}
}

// Reveal returns the URL with the password, for [pgmq.Open]. It is empty if none was set.
func (u URL) Reveal() string {
	if u.whole == nil {
		return ""
	}
	return (*u.whole)()
}

// String returns user, host and database.
func (u URL) String() string { return u.display }

// GoString implements [fmt.GoStringer], for the verb %#v.
func (u URL) GoString() string { return fmt.Sprintf("ezqenv.URL(%q)", u.display) }

// MarshalText implements [encoding.TextMarshaler], which JSON uses too.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.display), nil }

// LogValue implements [slog.LogValuer].
func (u URL) LogValue() slog.Value { return slog.StringValue(u.display) }

// withoutPassword returns user, host and database. Text before an @ in the place of a host or
// a database is the rest of a password that should have been percent-encoded; a comma in it
// makes hosts of it.
func withoutPassword(config *pgconn.Config) string {
	host, port, database := config.Host, config.Port, config.Database
	for _, fallback := range config.Fallbacks {
		if strings.Contains(fallback.Host, "@") {
			host, port = fallback.Host, fallback.Port
		}
	}
	if i := strings.LastIndexByte(database, '@'); i >= 0 {
		return "postgres://…" + database[i:]
	}
	shown := url.URL{
		Scheme: "postgres", User: url.User(config.User), Path: "/" + database,
		Host: net.JoinHostPort(host[strings.LastIndexByte(host, '@')+1:], strconv.Itoa(int(port))),
	}
	return shown.String()
}

// isHost reports whether text is an address, or consists of one or more names. Only what is
// certainly neither is refused.
func isHost(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	return !strings.ContainsFunc(text, func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsMark(c) && !unicode.IsDigit(c) && !strings.ContainsRune(".-_,", c)
	})
}

func checkPort(text string) error {
	port, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return errors.New("is not a number")
	case port < 1 || port > 65535:
		return errors.New("is not a valid port")
	}
	return nil
}
