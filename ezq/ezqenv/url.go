package ezqenv

import (
	"cmp"
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

	"github.com/ezq-go/ezq/internal/databaseurl"
)

// URL is where a database is, with the password. Reveal tells it; everything that prints,
// logs or encodes a value, or looks into it by reflection, gets user, host and database at
// most. The zero URL is none.
type URL struct {
	shown string
	whole *func() string // reflection finds a function, and cannot call it
}

func newURL(text string, config *pgconn.Config) URL {
	whole := func() string { return text }
	return URL{shown: withoutPassword(config), whole: &whole}
}

// Reveal returns the URL with the password, for [pgmq.Open]. It is empty if none was set.
func (u URL) Reveal() string {
	if u.whole == nil {
		return ""
	}
	return (*u.whole)()
}

// String returns user, host and database.
func (u URL) String() string { return u.shown }

// GoString implements [fmt.GoStringer], for the verb %#v.
func (u URL) GoString() string { return fmt.Sprintf("ezqenv.URL(%q)", u.shown) }

// MarshalText implements [encoding.TextMarshaler], which JSON uses too.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.shown), nil }

// LogValue implements [slog.LogValuer].
func (u URL) LogValue() slog.Value { return slog.StringValue(u.shown) }

// withoutPassword returns user, host and database. What is before an @ in the place of a host
// or a database is the rest of a password that should have been percent-encoded; a comma in
// it makes hosts of it.
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

// readURL reads EZQ_DATABASE_URL, or else what the Python library reads.
func (r *reader) readURL() URL {
	const variable = "EZQ_DATABASE_URL"
	if text, ok := r.find(variable); ok {
		return r.parseURL(variable, text)
	}
	host, a := r.find("EZQ_QUEUE_HOST")
	port, b := r.find("EZQ_QUEUE_PORT")
	user, c := r.find("EZQ_QUEUE_USERNAME")
	password, d := r.find("EZQ_QUEUE_PASSWORD")
	database, e := r.find("EZQ_QUEUE_DATABASE")
	if !a && !b && !c && !d && !e {
		return URL{}
	}
	const byDefault = "postgres"
	host, port = cmp.Or(host, "localhost"), cmp.Or(port, "5432")
	before := len(r.errs)
	r.checkParts(host, port, user, database)
	if len(r.errs) > before {
		return URL{}
	}
	made := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(cmp.Or(user, byDefault), cmp.Or(password, byDefault)),
		Host:   net.JoinHostPort(host, port),
		Path:   "/" + cmp.Or(database, byDefault),
	}
	return r.parseURL("EZQ_QUEUE_HOST and the like", made.String())
}

// checkParts finds the variable that is to blame, where the URL made of them would only be none,
// or would be another one.
func (r *reader) checkParts(host, port, user, database string) {
	if !isHost(host) {
		r.fail("EZQ_QUEUE_HOST", host, "is not a host",
			"a name or an address alone, as in db.example.com: EZQ_QUEUE_PORT, EZQ_QUEUE_USERNAME, EZQ_QUEUE_PASSWORD and EZQ_QUEUE_DATABASE have the rest")
	}
	if err := checkPort(port); err != nil {
		r.fail("EZQ_QUEUE_PORT", port, err.Error(), "a number from 1 to 65535")
	}
	const alone = "the name alone; EZQ_DATABASE_URL is for a whole URL"
	if strings.Contains(user, "://") {
		r.fail("EZQ_QUEUE_USERNAME", user, "is not the name of a role", alone)
	}
	if strings.Contains(database, "://") {
		r.fail("EZQ_QUEUE_DATABASE", database, "is not the name of a database", alone)
	}
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

// parseURL returns text as a URL. Neither that nor pgx's error is in an error of ours: both can
// contain the password.
func (r *reader) parseURL(variable, text string) URL {
	config, err := pgconn.ParseConfig(text)
	if err != nil || !databaseurl.IsOne(config) {
		r.fail(variable, "", "is not a database URL", "postgres://user:password@host:5432/database?sslmode=verify-full")
		return URL{}
	}
	return newURL(text, config)
}

func checkPort(text string) error {
	port, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return errors.New("is not a number")
	case port < 1 || port > 65535:
		return errors.New("is no port")
	}
	return nil
}
