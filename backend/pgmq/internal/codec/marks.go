package codec

import (
	"encoding/json"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// Progress returns the headers that record how far handling a message has come. A name that
// cannot be stored as it is names no handler any more, and that one runs again.
func Progress(r backend.Redelivery, text Encoding) string {
	names := make([]string, len(r.Done))
	for i, name := range r.Done {
		names[i] = text.Storable(name)
	}
	headers, _ := json.Marshal(struct { // it cannot fail: the year of a storableTime is an ordinary one
		Failures int        `json:"ezq_failures"`
		Done     []string   `json:"ezq_done"`
		Unknown  *time.Time `json:"ezq_unknown_since,omitempty"`
	}{r.Failures, names, storableTime(r.UnknownSince)})
	return string(headers)
}

func storableTime(t time.Time) *time.Time {
	if year := t.UTC().Year(); t.IsZero() || year < 0 || year > 9999 {
		return nil
	}
	return new(t.UTC())
}

// ResetKeys returns the headers that a message loses when an operator brings it back: what is counted begins anew, and what
// has expired is to be handled after all.
func ResetKeys() []string {
	return []string{FailuresKey, DoneKey, UnknownKey, UniqueKey, backend.ExpiresAt}
}

// DeadLetterHeaders returns the headers that a message gets as a dead letter. It
// keeps its id, also if that was made from a row number which is another one in
// the new table, and the name of the queue it comes from: of the queues that a
// topic with groups has, a redrive is to fill only that one. What PostgreSQL
// cannot hold of an error's text is replaced.
func DeadLetterHeaders(uuid, from, group string, metadata map[string]string, text Encoding) string {
	headers := make(map[string]string, len(metadata)+3)
	for key, value := range metadata {
		headers[text.Storable(key)] = text.Storable(value)
	}
	headers[UUIDKey] = text.Storable(uuid)
	headers[OriginKey] = from
	if group != "" {
		headers[GroupKey] = group
	}
	encoded, _ := json.Marshal(headers) // strings: it cannot fail
	return string(encoded)
}
