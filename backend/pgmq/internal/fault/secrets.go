package fault

import (
	"context"
	"errors"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ezq-go/ezq/internal/databaseurl"
)

// WithoutSecrets returns err, or what may be shown of it. The errors of pgx for
// a connection string and for a failed connection carry the password in exported
// fields, where a logger that prints structures finds it, and sometimes in
// their text. That for what PostgreSQL says has what it quotes of a row there.
func WithoutSecrets(err error) error {
	if _, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		return errors.New("the database URL cannot be parsed")
	}
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return newConnectError(connect)
	}
	return withoutQuotes(err)
}

// connectError is a pgconn.ConnectError without the configuration.
type connectError struct {
	text    string
	visible []error
}

func (e *connectError) Error() string   { return e.text }
func (e *connectError) Unwrap() []error { return e.visible }

// newConnectError keeps what [errors.Is] and [errors.As] are used for: the end of
// a context, the number of a system error, and the SQLSTATE.
func newConnectError(err *pgconn.ConnectError) *connectError {
	e := &connectError{}
	for _, target := range [...]error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, target) {
			e.visible = append(e.visible, target)
		}
	}
	if number := syscall.Errno(0); errors.As(err, &number) {
		e.visible = append(e.visible, number)
	}
	rest, misread := restOfPassword(err.Config)
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		if misread {
			pg = withMessage(pg, "the login failed")
		}
		e.visible = append(e.visible, withoutParameters(pg, err.Config))
	}

	if misread {
		e.text = "…" + rest + ": the database URL has an @, a / or a comma in its password that is not percent-encoded"
		return e
	}
	_, address := pgconn.NetworkAddress(err.Config.Host, err.Config.Port)
	reasons := make([]string, 0, 2)
	for _, attempt := range attempts(err.Unwrap()) {
		if text := attemptText(attempt, err.Config); !slices.Contains(reasons, text) {
			reasons = append(reasons, text)
		}
	}
	e.text = strings.Join(reasons, "; ")
	if !strings.HasPrefix(e.text, address) {
		e.text = address + " (" + e.text + ")"
	}
	return e
}

// attempts returns the errors of the single attempts that pgx has made: one for
// each address, with TLS and without.
func attempts(err error) []error {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []error{err}
	}
	var all []error
	for _, attempt := range joined.Unwrap() {
		all = append(all, attempts(attempt)...)
	}
	return all
}

func attemptText(err error, config *pgconn.Config) string {
	var operation *net.OpError
	if errors.As(err, &operation) && operation.Addr != nil {
		return operation.Addr.String() + ": " + operation.Err.Error()
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return serverText(withoutParameters(pg, config))
	}
	return err.Error()
}

// withoutParameters returns pg, or what may be shown of it if it quotes a parameter of the
// database URL, or the value of one: where that was no database URL, both are any part of it.
func withoutParameters(pg *pgconn.PgError, config *pgconn.Config) *pgconn.PgError {
	if !databaseurl.IsOne(config) || isParameterError(pg) || quotesParameter(pg, config) {
		return withMessage(pg, "the database URL has a parameter that the server does not take, or not with this value")
	}
	return withoutPassword(pg, config.Password)
}

// withoutPassword returns pg, or what may be shown of it if it quotes the password: a server that asks for it in clear
// text knows it.
func withoutPassword(pg *pgconn.PgError, password string) *pgconn.PgError {
	const shortest = 4 // a shorter one is a part of many words, and what is left of those would show it
	switch quoted := password != "" && strings.Contains(allText(pg)+pg.Code+pg.Severity+pg.SeverityUnlocalized, password); {
	case !quoted:
		return pg
	case len(password) < shortest:
		return withMessage(pg, "the login failed")
	}
	hidden := strings.NewReplacer(password, "…").Replace
	return &pgconn.PgError{
		Severity: hidden(pg.Severity), SeverityUnlocalized: hidden(pg.SeverityUnlocalized), Code: hidden(pg.Code), Message: hidden(pg.Message),
	}
}

// allText is what a server says in words, or may.
func allText(pg *pgconn.PgError) string {
	return strings.Join([]string{
		pg.Message, pg.Detail, pg.Hint, pg.Where, pg.InternalQuery, pg.Routine, pg.File,
		pg.SchemaName, pg.TableName, pg.ColumnName, pg.DataTypeName, pg.ConstraintName,
	}, "\n")
}

// withMessage returns pg with another text.
func withMessage(pg *pgconn.PgError, text string) *pgconn.PgError {
	return &pgconn.PgError{Severity: pg.Severity, SeverityUnlocalized: pg.SeverityUnlocalized, Code: pg.Code, Message: text}
}

// isParameterError reports whether pg, which is the answer to a login, is about a parameter:
// invalid_name, undefined_object, invalid_parameter_value, cant_change_runtime_param.
func isParameterError(pg *pgconn.PgError) bool {
	return slices.Contains([]string{"42602", "42704", "22023", "55P02"}, pg.Code)
}

// quotesParameter reports whether pg names a parameter, as what a pooler says of it does,
// which has no code of its own. Those that ezq sets itself may be named.
func quotesParameter(pg *pgconn.PgError, config *pgconn.Config) bool {
	text := allText(pg)
	for name := range config.RuntimeParams {
		own := name == "client_encoding" || name == "application_name"
		if !own && regexp.MustCompile(`\b`+regexp.QuoteMeta(name)+`\b`).MatchString(text) {
			return true
		}
	}
	return false
}

// restOfPassword reports whether the end of a password was taken for hosts or a database. That
// is so if one of them has an @: a URL's password ends at the first one, or else is over where a
// slash begins the database. It returns what is behind the last @, which is no password.
func restOfPassword(config *pgconn.Config) (rest string, found bool) {
	places := []string{config.Host}
	for _, fallback := range config.Fallbacks {
		places = append(places, fallback.Host)
	}
	for _, place := range append(places, config.Database) {
		if i := strings.LastIndexByte(place, '@'); i >= 0 {
			rest, found = place[i:], true
		}
	}
	return rest, found
}
