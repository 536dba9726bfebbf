package ezqenv

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// URL is where a database is, with the password. A conversion, string(u), tells it;
// everything that prints a value leaves out the password, and all parameters.
type URL string

// String returns user, host and database.
func (u URL) String() string {
	if u == "" {
		return ""
	}
	config, err := pgconn.ParseConfig(string(u))
	if err != nil {
		return "(not a database URL)"
	}
	shown := url.URL{
		Scheme: "postgres", User: url.User(config.User), Path: "/" + config.Database,
		Host: net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))),
	}
	return shown.String()
}

// GoString implements [fmt.GoStringer], for the verb %#v.
func (u URL) GoString() string { return fmt.Sprintf("ezqenv.URL(%q)", u.String()) }

// MarshalText implements [encoding.TextMarshaler], which JSON uses too.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// LogValue implements [slog.LogValuer].
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// readURL reads EZQ_DATABASE_URL, or else what the Python library reads.
func (r *reader) readURL() URL {
	const variable = "EZQ_DATABASE_URL"
	if text, ok := r.find(variable); ok {
		if _, err := pgconn.ParseConfig(text); err != nil {
			// pgx's error can contain the password, as can the value.
			r.fail(variable, "", "is not a database URL", "postgres://user:password@host:5432/database?sslmode=require")
		}
		return URL(text)
	}
	host, a := r.find("EZQ_QUEUE_HOST")
	port, b := r.find("EZQ_QUEUE_PORT")
	user, c := r.find("EZQ_QUEUE_USERNAME")
	password, d := r.find("EZQ_QUEUE_PASSWORD")
	database, e := r.find("EZQ_QUEUE_DATABASE")
	if !a && !b && !c && !d && !e {
		return ""
	}
	const byDefault = "postgres"
	port = cmp.Or(port, "5432")
	if err := checkPort(port); err != nil {
		r.fail("EZQ_QUEUE_PORT", port, err.Error(), "a number from 1 to 65535")
	}
	made := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(cmp.Or(user, byDefault), cmp.Or(password, byDefault)),
		Host:   net.JoinHostPort(cmp.Or(host, "localhost"), port),
		Path:   "/" + cmp.Or(database, byDefault),
	}
	return URL(made.String())
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
