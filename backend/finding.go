package backend

import (
	"context"
	"fmt"
)

// Checker looks for what endangers the queues of a backend: what slows them down, stops them, or loses events.
type Checker interface {
	// Check returns what it has found, the most severe first, and changes nothing. If it cannot look at all, what it has found
	// by then comes with the error.
	Check(ctx context.Context) ([]Finding, error)
}

// Severity is how urgent a [Finding] is. A larger one is more urgent.
type Severity int

const (
	// SeverityNote is something that may be intended, and that explains what may surprise.
	SeverityNote Severity = iota + 1

	// SeverityWarning is something that costs time or space, or will.
	SeverityWarning

	// SeverityFailure is something by which events are stopped or lost, or will be.
	SeverityFailure
)

// String returns "note", "warning" or "failure".
func (s Severity) String() string {
	switch s {
	case SeverityNote:
		return "note"
	case SeverityWarning:
		return "warning"
	case SeverityFailure:
		return "failure"
	}
	return fmt.Sprintf("severity %d", int(s))
}

// MarshalText implements [encoding.TextMarshaler].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Severity) UnmarshalText(text []byte) error {
	for _, known := range []Severity{SeverityNote, SeverityWarning, SeverityFailure} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("ezq: there is no severity %q: write note, warning or failure", text)
}

// Finding is something that endangers queues: see [Checker].
type Finding struct {
	// ID is the kind of the hazard, as in "missing-index". It stays the same in later versions.
	// docs/doctor.md has a section for each.
	ID string `json:"id"`

	Severity Severity `json:"severity"`

	// Object is what has the hazard: the name of a queue, or a kind and a name, as in "session 4711". It is
	// empty where Seen counts further findings of this ID.
	Object string `json:"object"`

	// Seen is what was found, with figures. It can have names in it that other programs chose, without control
	// characters.
	Seen string `json:"seen"`

	// Remedy is what to do, and SQL, if it is not empty, a statement for that. Read it before
	// you run it: it may end a session, or need rights that this role lacks.
	Remedy string `json:"remedy"`
	SQL    string `json:"sql,omitempty"`
}
