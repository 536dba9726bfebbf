package ezq

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/deliverycopy"
)

// outcome is what became of an event, or of one handler's part in it. Of the outcomes
// of several handlers the highest decides: no event is dead-lettered while a handler
// has tries left.
type outcome uint8

const (
	dropped outcome = iota // it has expired: it was acked
	succeeded
	deadLettered // by the router or a middleware
	released     // it was interrupted, or no handler has begun with it
	failed
	unknown   // without a handler: it was released
	ignored   // without a handler: it was acked
	cancelled // its event was cancelled while it was handled: it is gone
)

// result is what came of an event with one of its handlers.
type result struct {
	route       *route
	outcome     outcome
	err         error               // if it failed
	disposition backend.Disposition // if it was dead-lettered or released
}

// notStarted is the disposition of an event that no handler has begun with.
func notStarted() backend.Disposition {
	return backend.Disposition{Fallback: backend.Redelivery{InPlace: true, Uncounted: true}}
}

// release releases msg, which a handler has begun with. It has not failed.
func release(msg *message.Message) {
	redelivery := backend.DeliveryFromContext(msg.Context()).Unchanged()
	redelivery.InPlace = true
	backend.Nack(msg, redelivery)
}

// sharedDelivery returns a delivery for one of several handlers, with a disposition of
// its own. It has no receipt: no single handler may settle the message with the backend.
func sharedDelivery(info *backend.Delivery) *backend.Delivery {
	part := deliverycopy.Of(info)
	part.Parker, part.Receipt = nil, nil
	return part
}

// interrupted reports whether the context of an event ended because its consumer
// no longer counts: it has stopped, or lost the event, or the event was cancelled.
func interrupted(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, ErrInterrupted) || errors.Is(cause, ErrLeaseLost) // which ErrCancelled matches
}

const (
	minBackoff = time.Second
	maxBackoff = 5 * time.Minute
)

// backoff is how long an event waits that has failed that many times, the last time
// with err: as long as the handler asked, or else a second, doubling up to five
// minutes, and up to a fifth less, so that events that failed together do not
// come back together.
func backoff(failures int, err error) time.Duration {
	if wait, ok := RetryDelay(err); ok {
		return wait
	}
	wait := min(minBackoff<<min(failures-1, 20), maxBackoff)
	return wait - rand.N(wait/5) //nolint:gosec // chance only spreads load, and may be guessed
}
