// Package fault says what went wrong and what to do about it. Its [Error] is the one of package pgmq.
// What an error of pgx or PostgreSQL means is decided here alone, by its type or its SQLSTATE, and here
// passwords and quoted rows are left out.
package fault

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/ezq-go/ezq/backend"
)

// What went wrong, and what became of the messages of a publish that failed: package pgmq says what
// each means.
var (
	ErrUnreachable    = errors.New("pgmq: no connection to PostgreSQL")
	ErrAuthentication = errors.New("pgmq: PostgreSQL refuses the login")
	ErrNotInstalled   = errors.New("pgmq: PGMQ is not installed in this database")
	ErrTooOld         = errors.New("pgmq: PGMQ is too old")
	ErrPermission     = errors.New("pgmq: permission denied")
	ErrQueueNotFound  = errors.New("pgmq: queue does not exist")
	ErrGroupRequired  = backend.ErrGroupRequired
	ErrNotAQueue      = errors.New("pgmq: table is not a queue of PGMQ")
	ErrInvalidTopic   = errors.New("pgmq: invalid topic")
	ErrInvalidMessage = errors.New("pgmq: invalid message")
	ErrStrays         = errors.New("pgmq: there are strays")
	ErrTooLarge       = errors.New("pgmq: message too large")
	ErrNotPrepared    = errors.New("pgmq: the database is not prepared")
	ErrInvalidConfig  = errors.New("pgmq: invalid configuration")
	ErrRejected       = errors.New("pgmq: nothing was stored")
	ErrUnknownOutcome = errors.New("pgmq: it is unknown whether anything was stored")
)

// Error is what functions of package pgmq return when something outside of the
// program, or its configuration, is wrong. It matches Kind, Outcome and Cause
// with [errors.Is]. It never contains a password, and however it is printed it does
// not show what PostgreSQL quotes of a message.
type Error struct {
	// Op is what was to be done, as a verb: "open", "publish", "subscribe", "fetch",
	// "redrive" and so on.
	Op string

	// Topic is empty if the error does not concern a single one.
	Topic string

	// Kind is one of the errors of this package, or nil if none says it.
	Kind error

	// Remedy tells an operator what to do. It is empty if Cause says it all.
	Remedy string

	// Outcome is [ErrRejected] or [ErrUnknownOutcome] if a publish failed. If the answer to another change is lost, it matches
	// [ErrUnknownOutcome] and is a [*backend.UnknownOutcomeError] for [errors.As].
	Outcome error

	// Cause is the error as it came. What PostgreSQL says is a [*pgconn.PgError]
	// for [errors.As], all of whose texts may quote a message.
	// Errors of pgx that contain the password are not kept.
	Cause error
}

// Error returns one line: what failed, why, what became of the messages, and
// what to do. There are no control characters in it.
func (e *Error) Error() string {
	var line strings.Builder
	line.WriteString("pgmq")
	for _, part := range []string{e.subject(), e.reason()} {
		if part != "" {
			line.WriteString(": " + part)
		}
	}
	if e.Outcome != nil {
		line.WriteString("; " + withoutPrefix(e.Outcome))
	}
	if e.Remedy != "" {
		line.WriteString("; " + e.Remedy)
	}
	return Visible(line.String())
}

// Visible returns text with a space for each character that can change a terminal, begin a new line, or show
// text in another order.
func Visible(text string) string { return strings.Map(visible, text) }

// visible returns r, or a space for what can change a terminal, begin a new line, or show
// text in another order: servers and names may be untrusted.
func visible(r rune) rune {
	if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
		return ' '
	}
	return r
}

// MarshalText returns what Error does. It is for encoders that would look into the
// error otherwise, such as that of JSON.
func (e *Error) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

func (e *Error) subject() string {
	const longest = 100
	topic := fmt.Sprintf("%q", e.Topic)
	if len(e.Topic) > longest {
		topic = fmt.Sprintf("%q…", e.Topic[:longest])
	}
	switch {
	case e.Topic == "":
		return e.Op
	case e.Op == "":
		return "topic " + topic
	case e.Op == "publish", e.Op == "subscribe":
		return e.Op + " to " + topic
	default:
		return e.Op + " for " + topic
	}
}

func (e *Error) reason() string {
	switch {
	case e.Kind == nil && e.Cause == nil:
		return ""
	case e.Kind == nil:
		return causeText(e.Cause)
	case e.Cause == nil:
		return withoutPrefix(e.Kind)
	}
	kind, cause := withoutPrefix(e.Kind), causeText(e.Cause)
	if strings.HasPrefix(cause, kind) { // PostgreSQL says "permission denied" itself
		return cause
	}
	return kind + ": " + cause
}

// Unwrap returns Kind, Outcome and Cause, as far as they are set.
func (e *Error) Unwrap() []error {
	all := make([]error, 0, 3)
	for _, err := range []error{e.Kind, e.Outcome, e.Cause} {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// withoutPrefix returns the text of an error of this package, or of package backend, without its first word,
// which the line it goes into has already.
func withoutPrefix(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "pgmq: "), "ezq: ")
}

// causeText leaves out what is said elsewhere in the line, or to machines.
func causeText(cause error) string {
	return strings.TrimPrefix(textOf(cause, serverText), "pgmq: ")
}
