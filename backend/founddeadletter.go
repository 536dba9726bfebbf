package backend

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
)

// FoundDeadLetter is a message that was dead-lettered, as it lies in the topic of its dead letters. Fields that the
// message does not name are zero.
type FoundDeadLetter struct {
	Row      int64  // its place in that topic: on PGMQ, the msg_id
	ID       string // that of the message, as its consumers got it
	Topic    string // where it came from: what its consumers had subscribed to
	Group    string // the consumer group that dead-lettered it, if it was one
	Handler  string // which handler dead-lettered it
	Reason   string // the error of the last failure
	Failures int    // how often it had failed
	Event    string // the name of the event, if it has one

	// PublishedTo is that of [Delivery]: the topic of the event, if Topic is a pattern.
	PublishedTo string

	// At is when it was dead-lettered, or, if it does not say, when it was stored here: 1970 if
	// that is no time.
	At time.Time

	Payload  []byte
	Metadata message.Metadata // the message's own, without what is said above, and with [EditedBy] and [EditedAt]

	// Err says why it cannot be read, or that it is no dead letter: it names no topic that it came from. The fields
	// above then have what is known.
	Err error

	version string // that of the Payload that was written as JSON; "" if d was not read from that
}

// Version returns a text that differs for each Payload that a backend has found, for [DeadLetterEdit]. One that was read from
// JSON keeps the version that was written there, also if its Payload is formatted in another way, or edited.
func (d FoundDeadLetter) Version() string {
	if d.version != "" {
		return d.version
	}
	digest := sha256.Sum256(d.Payload)
	return hex.EncodeToString(digest[:16])
}

// deadLetterJSON is a dead letter as JSON.
type deadLetterJSON struct {
	Row         int64             `json:"row"`
	ID          string            `json:"id"`
	Topic       string            `json:"topic"`
	PublishedTo string            `json:"published_to,omitempty"`
	Group       string            `json:"group,omitempty"`
	Handler     string            `json:"handler,omitempty"`
	Event       string            `json:"event,omitempty"`
	Reason      string            `json:"reason,omitempty"`
	Failures    int               `json:"failures"`
	At          time.Time         `json:"at"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Version     string            `json:"version"`
	Payload     json.RawMessage   `json:"payload,omitempty"`
	Base64      []byte            `json:"payload_base64,omitempty"`
	Err         string            `json:"error,omitempty"`
}

// MarshalJSON writes d with its [FoundDeadLetter.Version]. A payload that is JSON stands there as it is; any other one
// is base64.
func (d FoundDeadLetter) MarshalJSON() ([]byte, error) {
	doc := deadLetterJSON{
		Row: d.Row, ID: d.ID, Topic: d.Topic, PublishedTo: d.PublishedTo, Group: d.Group, Handler: d.Handler, Event: d.Event, Reason: d.Reason,
		Failures: d.Failures, At: d.At, Metadata: d.Metadata, Version: d.Version(),
	}
	if json.Valid(d.Payload) && utf8.Valid(d.Payload) {
		doc.Payload = d.Payload
	} else {
		doc.Base64 = d.Payload
	}
	if d.Err != nil {
		doc.Err = d.Err.Error()
	}
	return json.Marshal(doc)
}

// UnmarshalJSON reads what MarshalJSON has written, with its Version. The Payload may have been edited since. Of an Err
// it keeps the text alone.
func (d *FoundDeadLetter) UnmarshalJSON(text []byte) error {
	var doc deadLetterJSON
	if err := json.Unmarshal(text, &doc); err != nil {
		return err
	}
	*d = FoundDeadLetter{
		Row: doc.Row, ID: doc.ID, Topic: doc.Topic, PublishedTo: doc.PublishedTo, Group: doc.Group, Handler: doc.Handler, Event: doc.Event, Reason: doc.Reason,
		Failures: doc.Failures, At: doc.At, Metadata: doc.Metadata, Payload: doc.Base64, version: doc.Version,
	}
	if doc.Payload != nil {
		d.Payload = doc.Payload
	}
	if doc.Err != "" {
		d.Err = errors.New(doc.Err)
	}
	return nil
}

// MaxEditAuthor is how many bytes By of a [DeadLetterEdit] may have.
const MaxEditAuthor = 200

// DeadLetterEdit replaces the payload of a dead letter.
type DeadLetterEdit struct {
	// Row is where it is, and Version what [FoundDeadLetter.Version] has returned of what was found there.
	Row     int64
	Version string

	// Payload is the new one, as JSON.
	Payload []byte

	// By is the person or the program that edits it, in up to [MaxEditAuthor] bytes. It must not be empty.
	By string
}

// Check returns a *[RefusedError] if e cannot be done. Backends call it before they look.
func (e DeadLetterEdit) Check() error {
	by := selectedText{"DeadLetterEdit.By", e.By}
	switch {
	case e.Version == "":
		return &RefusedError{What: "DeadLetterEdit.Version", Reason: "it is empty", Remedy: "set it to the Version of the dead letter that was read: what has changed since is not overwritten"}
	case strings.TrimSpace(e.By) == "":
		return &RefusedError{What: by.name, Reason: "it is empty", Remedy: "say who edits it: the event keeps that"}
	case by.unmatchable() != "":
		return &RefusedError{What: by.name, Reason: by.unmatchable(), Remedy: "write it as text"}
	case len(e.By) > MaxEditAuthor:
		return &RefusedError{What: by.name, Reason: tooLong(len(e.By), MaxEditAuthor), Remedy: "say it in fewer words"}
	case !json.Valid(e.Payload):
		return &RefusedError{What: "DeadLetterEdit.Payload", Reason: notJSON(e.Payload), Remedy: "correct it, and edit again"}
	case !utf8.Valid(e.Payload):
		return &RefusedError{What: "DeadLetterEdit.Payload", Reason: "it is not UTF-8", Remedy: "correct it, and edit again"}
	}
	return nil
}

// notJSON says where payload stops being JSON, and does not quote it.
func notJSON(payload []byte) string {
	if syntax, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(payload, new(json.RawMessage))); ok && len(payload) > 0 {
		return fmt.Sprintf("it is no JSON, as byte %d of %d shows", syntax.Offset, len(payload))
	}
	return "it is no JSON"
}

// Apply makes the edit on d, at this time.
func (e DeadLetterEdit) Apply(d *FoundDeadLetter, now time.Time) {
	d.Payload, d.version = e.Payload, ""
	if d.Metadata == nil {
		d.Metadata = message.Metadata{}
	}
	d.Metadata[EditedBy], d.Metadata[EditedAt] = e.By, now.UTC().Format(time.RFC3339)
}

// EditConflictError says that a dead letter is not what was edited.
type EditConflictError struct {
	Row int64

	// Found is what is there now. It is nil if the dead letter is gone, as after a redrive, and if it is Busy.
	Found *FoundDeadLetter

	// Busy says that a consumer has leased it, that it is delayed, or that it is locked.
	Busy bool
}

func (e *EditConflictError) Error() string {
	what, remedy := "is not there any more", "look for it by its ID: it may have been redriven"
	switch {
	case e.Busy:
		what, remedy = "is leased, delayed or locked", "edit it again when it is not"
	case e.Found != nil:
		what, remedy = "has another payload than the one that was edited", "read it again, and edit that"
		if by := e.Found.Metadata[EditedBy]; by != "" {
			what = fmt.Sprintf("%s: %.100q has edited it at %.40q", what, by, e.Found.Metadata[EditedAt])
		}
	}
	return fmt.Sprintf("the dead letter %d %s; it is left as it is: %s", e.Row, what, remedy)
}

// MarshalText returns what Error does.
func (e *EditConflictError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }
