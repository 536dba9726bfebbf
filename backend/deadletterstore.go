package backend

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// DeadLetterStore lists and counts the dead letters of a topic, moves them back, deletes and edits them. from is the
// topic that they are in, which is that of their messages with [DeadLetterSuffix] behind it, unless a Poison names
// another one.
//
// All of it may be done while consumers, and other calls, are at work. What another transaction has locked is passed
// by. If a method that takes a selection does not look at everything, it returns what it has found or done and a
// *[TruncatedError]. After any error it can be called again.
type DeadLetterStore interface {
	// DeadLetters returns the dead letters that the selection chooses, the oldest first, without changing one. With the
	// Row of the last one as After, the next call returns the next ones. One that cannot be read
	// has an Err, and hides no other.
	DeadLetters(ctx context.Context, from string, s DeadLetterSelection) ([]FoundDeadLetter, error)

	// CountDeadLetters counts the dead letters that the selection chooses by what they say of themselves, those of which there are
	// most first. Beyond the Limit, the last one is the sum of all others: see [DeadLetterCount].
	CountDeadLetters(ctx context.Context, from string, s DeadLetterSelection) ([]DeadLetterCount, error)

	// Redrive moves the dead letters that the selection chooses back to where they came from, the oldest first. One that a
	// group has dead-lettered goes to that group alone. They keep their IDs and their metadata, lose what the dead-letter topic
	// has added, and begin anew: with no deliveries, no failures and no handlers that are done. No [PublishCondition] holds one
	// back: neither its ID, if it was stored once, nor its key, which it has no more. Nor do they expire: they lose [ExpiresAt],
	// since who redrives them wants them handled.
	//
	// Each moves in one step: it is in one of the two topics at any time, and concurrent calls do not move it
	// twice. One that a consumer has leased, that is delayed, or that is locked stays, and counts as Busy. What is
	// no dead letter of the Topics stays too, and an error counts it.
	Redrive(ctx context.Context, from string, s DeadLetterSelection) (Redriven, error)

	// PurgeDeadLetters deletes the dead letters that the selection chooses, also those that a consumer has leased, whose ack
	// is then void. One that is locked stays, and counts as Busy. What is no dead letter of the Topics stays too, and an
	// error counts it.
	PurgeDeadLetters(ctx context.Context, from string, s DeadLetterSelection) (Purged, error)

	// EditDeadLetter replaces the payload of a dead letter, which stays where it is, as it is otherwise. It adds [EditedBy] and
	// [EditedAt] to its metadata, which it keeps when it is redriven. A payload that is no JSON, and an edit that does not say who
	// has made it, are a *[RefusedError]. If there is something else than what was edited, nothing is changed, and
	// the error is an *[EditConflictError].
	EditDeadLetter(ctx context.Context, from string, e DeadLetterEdit) error
}

// The metadata of a dead letter that was edited, which it keeps when it is redriven.
const (
	EditedBy = "dead_letter_edited_by" // who has edited it last
	EditedAt = "dead_letter_edited_at" // when, in RFC 3339
)

// MaxSelectedRows is how many Rows a [DeadLetterSelection] may have.
const MaxSelectedRows = 1000

// DeadLetterSelection chooses dead letters: those for which all that is set matches. The zero value chooses all.
type DeadLetterSelection struct {
	// Topics are the topics that the dead letters came from. Without any, those of the topic that the dead-letter topic is named
	// after are moved and deleted, and all are listed and counted.
	Topics []string

	// Rows are the places of dead letters in their topic: the Row of each [FoundDeadLetter]. At most [MaxSelectedRows]. Nil
	// chooses all; a list without any Row is refused, since it may be what is left of one that was to choose.
	Rows []int64

	// ID is the UUID of the message, as its consumers got it.
	ID string

	// Group is the consumer group that has dead-lettered it.
	Group string

	// Handler is the handler that has dead-lettered it.
	Handler string

	// Event is the name of the event: see [Selection].
	Event string

	// Reason is a part of the reason: of the error of the last failure. A # in it stands for a number or a UUID too, as in
	// the Reason of a [DeadLetterCount].
	Reason string

	// Header and Value are the name of a header, and its value, which may be empty: see [Selection]. The key of an event, ezq.Key, is
	// the header x-pgmq-group.
	Header, Value string

	// Field and Equals are the path to a field of the payload, and its value: see [Selection].
	Field  string
	Equals any

	// From and To choose those that were dead-lettered at From or later, and before To, by the clock of the
	// backend. The zero Time does not limit.
	From, To time.Time

	// After chooses those with a higher Row. 0 chooses from the first one on.
	After int64

	// Limit is how many to list, move or delete at most, or into how many sums to count. 0 means [DefaultFindLimit]
	// for lists and counts, and else no limit.
	Limit int
}

// Check returns a *[RefusedError] if s cannot choose any dead letter. Backends call it before they look.
func (s DeadLetterSelection) Check() error {
	refuse := func(reason, remedy string) error {
		return &RefusedError{What: "the selection of dead letters", Reason: reason, Remedy: remedy}
	}
	switch {
	case s.Header == "" && s.Value != "":
		return refuse("it has a Value without a Header", "set the Header, which is the name")
	case strings.HasPrefix(s.Header, reservedPrefix):
		return refuse(fmt.Sprintf("the header %.100q is reserved for ezq", s.Header), "use the ID or the Group")
	case s.Limit < 0:
		return refuse(fmt.Sprintf("the limit is %d", s.Limit), "set it to 1 or more, or to 0 for the default")
	case s.After < 0:
		return refuse(fmt.Sprintf("After is %d", s.After), "set it to the Row of a dead letter, or to 0 to begin with the first one")
	case s.Rows != nil && len(s.Rows) == 0:
		return refuse("its Rows are an empty list, which chooses none", "leave the call out if there are no Rows; nil chooses all")
	case len(s.Rows) > MaxSelectedRows:
		return refuse(fmt.Sprintf("it has %d Rows, and the limit is %d", len(s.Rows), MaxSelectedRows), "select fewer at a time")
	case !s.To.IsZero() && !s.From.Before(s.To):
		return refuse(fmt.Sprintf("From is %v, and To is %v", s.From, s.To), "set From to a time before To")
	case len(s.Reason) > maxReason:
		return refuse("the Reason is too long: "+tooLong(len(s.Reason), maxReason), "use a part of it")
	}
	for _, topic := range s.Topics {
		if err := CheckTopic(topic); err != nil {
			return err
		}
	}
	if _, err := newBodyField(s.Field, s.Equals, refuse); err != nil {
		return err
	}
	return checkSelected(refuse,
		selectedText{"ID", s.ID}, selectedText{"Group", s.Group}, selectedText{"Handler", s.Handler}, selectedText{"Event", s.Event},
		selectedText{"Reason", s.Reason}, selectedText{"Header", s.Header}, selectedText{"Value", s.Value})
}

// DeadLetterCount is how many dead letters say the same of themselves.
type DeadLetterCount struct {
	Topic, Group, Handler, Event string // as in a [FoundDeadLetter]; "" if they do not say it

	// Reason is the beginning of their reason, up to about 200 bytes, with a # in the place of each number and
	// UUID, so that errors that differ in these alone are counted together. It selects them.
	Reason string

	// Rest says that this is the sum of all beyond the Limit, and of those for which there is no room: the sums take 32 MiB at
	// most, which is some 100,000 of usual ones. The texts are then empty.
	Rest bool

	Letters        int
	Oldest, Newest time.Time // when they were dead-lettered
}

// Redriven is what [DeadLetterStore] has moved back.
type Redriven struct {
	Moved int // dead letters; one that names no queue goes to all groups, and counts once
	Busy  int // dead letters that are chosen, and stay, because they are leased, delayed or locked
}

// Purged is what [DeadLetterStore] has deleted.
type Purged struct {
	Removed int // dead letters
	Busy    int // dead letters that are chosen, and stay, because they are locked
}
