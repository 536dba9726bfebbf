package ezq

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// expiryOf returns when the event with these headers expires. It is the zero Time if they do not say, or if what
// they say is no time.
func expiryOf(headers message.Metadata) time.Time {
	text := headers[backend.ExpiresAt]
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// expired returns why the event with these headers is not to be handled, or nil.
func expired(headers message.Metadata) error {
	if at := expiryOf(headers); !at.IsZero() && !time.Now().Before(at) {
		return &ExpiredError{At: at}
	}
	return nil
}
