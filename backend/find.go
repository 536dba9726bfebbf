package backend

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Finder finds messages that a topic has stored.
type Finder interface {
	// Find returns messages of topic that the selection chooses, without claiming or changing
	// one. It looks at the topic's own queue, the queues of its groups, its dead-letter topic,
	// which is named after it with _dead behind it, and the archives of all these, in this
	// order, and stops at the Limit. Of one queue or archive, the newest messages come first.
	// A topic that has none of them has no messages, which is no error.
	//
	// If it does not look at everything, it returns what it has found and a *[TruncatedError]. So it does if it has not
	// read the texts of all of them, as where those would take too much memory: the Err of such a one is set, and the
	// fields beside the Payload and the Metadata say where it is.
	Find(ctx context.Context, topic string, s Selection) ([]Found, error)
}

// DefaultFindLimit is the Limit of a [Selection] that has none.
const DefaultFindLimit = 100

// MaxFoundPayload is how many bytes the payload of a message may have that is found. Of a
// larger one, the [Found] has the Size alone.
const MaxFoundPayload = 64 << 10

// Selection chooses messages of a topic. A message is chosen if all that is set matches, and
// something must be set beside the Limit.
type Selection struct {
	// ID is the UUID of the message, as its consumers get it.
	ID string

	// UniqueKey is that of the [PublishCondition] with which the message was published. It is not
	// the key of ezq.Key, which is the header x-pgmq-group. A dead letter has none.
	UniqueKey string

	// Event is the name of the event: the string _type of a payload that is a JSON object, or
	// if that has no _type, the header name.
	Event string

	// Header and Value are the name of a header, and its value, which may be empty. Names that
	// are reserved for ezq are refused.
	Header, Value string

	// Field is the path to a field of a payload that is a JSON object: names of members with points between them, as in
	// "order.id", at most 16. A member whose name has a point cannot be chosen, nor one of an array.
	//
	// Equals is the value that the field must have, as encoding/json encodes it: a string, a number or a bool. They are
	// compared as JSON, so 1 equals 1.0 and not "1". A payload that the backend does not hold as JSON has no fields.
	Field  string
	Equals any

	// Limit is how many messages to find at most. 0 means [DefaultFindLimit].
	Limit int
}

// Check returns a *[RefusedError] if s chooses nothing, or cannot match any message. Backends call
// it before they look.
func (s Selection) Check() error {
	refuse := func(reason, remedy string) error {
		return &RefusedError{What: "the selection", Reason: reason, Remedy: remedy}
	}
	switch {
	case s.choosesNothing():
		return refuse("it chooses nothing", "set the ID, the UniqueKey, the Event, the Header or the Field")
	case s.Header == "" && s.Value != "":
		return refuse("it has a Value without a Header", "set the Header, which is the name")
	case strings.HasPrefix(s.Header, reservedPrefix):
		return refuse(fmt.Sprintf("the header %.100q is reserved for ezq", s.Header), "use the ID or the UniqueKey")
	case s.Limit < 0:
		return refuse(fmt.Sprintf("the limit is %d", s.Limit), "set it to 1 or more, or to 0 for the default")
	}
	if _, err := newBodyField(s.Field, s.Equals, refuse); err != nil {
		return err
	}
	return checkSelected(refuse,
		selectedText{"ID", s.ID}, selectedText{"UniqueKey", s.UniqueKey}, selectedText{"Event", s.Event},
		selectedText{"Header", s.Header}, selectedText{"Value", s.Value})
}

// choosesNothing reports whether nothing is set, the Limit aside.
func (s Selection) choosesNothing() bool {
	return s.ID+s.UniqueKey+s.Event+s.Header+s.Value+s.Field == "" && s.Equals == nil
}

// CheckWaiting is [Selection.Check] for backends that change what waits: it also returns a
// *[RefusedError] if s has more than an ID and a UniqueKey.
func (s Selection) CheckWaiting() error {
	if s.choosesNothing() && s.Limit == 0 {
		return &RefusedError{What: "the selection", Reason: "it chooses nothing", Remedy: "set the ID, the UniqueKey or both"}
	}
	if err := s.Check(); err != nil {
		return err
	}
	if s.Event != "" || s.Header != "" || s.Field != "" || s.Limit != 0 {
		return &RefusedError{What: "the selection", Reason: "it has more than an ID and a UniqueKey", Remedy: "find the messages first, and then choose each by its ID"}
	}
	return nil
}

// selectedText is a text of a selection.
type selectedText struct{ name, value string }

// unmatchable returns why no message can have the text, or "".
func (t selectedText) unmatchable() string {
	switch {
	case !isText(t.value):
		return "the " + t.name + " is not UTF-8 without NUL"
	case len(t.value) > MaxHeaders:
		return "the " + t.name + " is too long: " + tooLong(len(t.value), MaxHeaders)
	}
	return ""
}

// checkSelected refuses the first of the texts that no message can have.
func checkSelected(refuse func(reason, remedy string) error, texts ...selectedText) error {
	for _, text := range texts {
		if reason := text.unmatchable(); reason != "" {
			return refuse(reason, "check it: no message has one like that")
		}
	}
	return nil
}

// Found is a message that [Finder] has found, as it was at that moment.
type Found struct {
	ID        string // as its consumers get it
	UniqueKey string // of its [PublishCondition]; empty if it has none

	Place Place
	Queue string // the queue, or the one whose archive it is; in memory, that of memory.GroupQueue
	State State

	PublishedTo string    // that of [Delivery]: the topic, if this is a copy for a group that takes a pattern
	PublishedAt time.Time // when it was stored there
	VisibleAt   time.Time // when it is due, or was; or when its lease ends

	// Deliveries counts as [Delivery] does, and Failures those that ended with an error of
	// the handler. A message that is dead or archived keeps no failures.
	Deliveries, Failures int

	// Payload is nil if it has more bytes than [MaxFoundPayload]. Size is how many it has,
	// or, if it was left out, about how many.
	Payload []byte
	Size    int

	Metadata message.Metadata

	// Err says why the message cannot be read. The Payload and the Metadata are then nil,
	// and the other fields say what is known.
	Err error
}

// Place is where a message lies.
type Place uint8

const (
	// InTopic means that the message lies in the topic's own queue.
	InTopic Place = iota

	// InGroup means that it lies in the queue of one of the topic's groups.
	InGroup

	// InDeadLetters means that it lies in the topic's dead-letter topic.
	InDeadLetters

	// InArchive means that it lies in the archive of a queue: it was acked, or quarantined.
	InArchive
)

// String returns the name of the place in lower case.
func (p Place) String() string {
	return valueName("place", p, []string{InTopic: "topic", InGroup: "group", InDeadLetters: "dead letters", InArchive: "archive"})
}

// State is what happens to a message, as far as it can be told without claiming it.
type State uint8

const (
	// StateWaiting means that the message is due and has not been delivered. A consumer may just
	// have begun with it: on PGMQ, one that has locked it in a transaction cannot be seen.
	StateWaiting State = iota

	// StateDelayed means that it becomes due at VisibleAt, and has not been delivered, deliveries
	// that do not count aside.
	StateDelayed

	// StateDelivered means that it has been delivered at least once. Until VisibleAt it is leased, or
	// delayed after a failure: backends cannot tell these apart. After that it waits to be
	// delivered again.
	StateDelivered

	// StateDead means that it was dead-lettered.
	StateDead

	// StateArchived means that it was acked.
	StateArchived

	// StateQuarantined means that its consumers could not read it, or that it was too large for
	// them. The Metadata has the [DeadLetterReason], if it can be read.
	StateQuarantined
)

// String returns the name of the state in lower case.
func (s State) String() string {
	return valueName("state", s, []string{
		StateWaiting: "waiting", StateDelayed: "delayed", StateDelivered: "delivered", StateDead: "dead", StateArchived: "archived",
		StateQuarantined: "quarantined",
	})
}

// valueName returns the name of a value of its kind, or the kind and its number if it has none.
func valueName[T ~uint8](kind string, value T, names []string) string {
	if int(value) < len(names) {
		return names[value]
	}
	return fmt.Sprintf("%s %d", kind, uint8(value))
}

// TruncatedError says that messages may be missing from what was found or done, because not
// everything was looked at.
type TruncatedError struct {
	Tables []string // what was not looked at as a whole
	Reason string
	Remedy string // as the SQL of an index that would help
}

func (e *TruncatedError) Error() string {
	return strings.Join(e.Tables, ", ") + ": " + e.Reason + ": " + e.Remedy
}

// MarshalText returns what Error does.
func (e *TruncatedError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }
