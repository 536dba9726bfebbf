package ezq

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// expired returns why the event with these headers is not to be handled, or nil.
func expired(headers message.Metadata) error {
	if at := backend.ExpiryOf(headers); !at.IsZero() && !time.Now().Before(at) {
		return &ExpiredError{At: at}
	}
	return nil
}
