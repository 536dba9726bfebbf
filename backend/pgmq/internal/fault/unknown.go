package fault

import (
	"errors"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// LostError is the error of a change whose answer is lost: it was made, or it was not.
type LostError struct {
	Cause error
	Most  int // how many messages it is about at most; 0 if that is not known
}

// Error is that of the cause.
func (e *LostError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Cause }

// Changed returns the error of a transaction of [transact.Run] that has changed up to most messages: as a *LostError, unless it is
// certain that nothing was changed.
func Changed(err error, most int) error {
	commit, ok := errors.AsType[*transact.CommitError](err)
	if !ok || most == 0 || !isLost(commit.Cause) {
		return err
	}
	return &LostError{commit.Cause, most}
}

// Sent returns the error of a change of no messages that was sent on its own: a statement outside of a transaction, or a commit. It
// is a *LostError, unless it is certain that nothing was changed.
func Sent(err error) error {
	if err == nil || !isLost(err) {
		return err
	}
	return &LostError{Cause: err}
}

func isLost(err error) bool { return errors.Is(PublishOutcome(err), ErrUnknownOutcome) }

// IsLost reports whether it is unknown whether a change was made.
func IsLost(err error) bool { return errors.As(err, new(*LostError)) }

// outcome returns the Outcome of an [Error], or nil if it says nothing of one.
func outcome(err error) error {
	if lost, ok := errors.AsType[*LostError](err); ok {
		return unknownOutcome{&backend.UnknownOutcomeError{Most: lost.Most}}
	}
	return nil
}

// unknownOutcome matches ErrUnknownOutcome too.
type unknownOutcome struct{ *backend.UnknownOutcomeError }

// Unwrap returns what other backends return, too.
func (u unknownOutcome) Unwrap() error { return u.UnknownOutcomeError }

// Is reports whether target is ErrUnknownOutcome.
func (u unknownOutcome) Is(target error) bool { return target == ErrUnknownOutcome }
