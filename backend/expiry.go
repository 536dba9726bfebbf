package backend

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// ExpiresAt is the metadata that says, in RFC 3339, from which time on a message is not to be handled any more, as
// ezq.Expires sets it. If it is empty, the message does not expire. A redrive removes it.
const ExpiresAt = "x-ezq-expires-at"

// ExpiryOf returns when a message with this metadata expires, as [ExpiresAt] says. It is the zero Time if that is empty,
// or no time. Backends ask it for [PublishCondition.UniqueKey].
func ExpiryOf(metadata message.Metadata) time.Time {
	text := metadata[ExpiresAt]
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// ExpiredError is why a message was not handled: it came too late. See [ExpiresAt].
type ExpiredError struct {
	At time.Time // when it has expired
}

func (e *ExpiredError) Error() string {
	return "ezq: the event expired at " + e.At.UTC().Format(time.RFC3339)
}
