package pgmq

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/bounded"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/lease"
	"github.com/ezq-go/ezq/internal/excerpt"
	"github.com/ezq-go/ezq/internal/sparse"
)

// refusedAcks is the queues whose acks in transactions PostgreSQL refuses, whatever the
// message: the archive is not there, say, or the role may not delete. No message has failed by
// that. Each goes back uncounted and comes again when that may have been mended.
type refusedAcks struct {
	logger *slog.Logger

	mu    sync.Mutex
	since map[string]time.Time // by queue
}

func newRefusedAcks(logger *slog.Logger) *refusedAcks {
	return &refusedAcks{logger: logger, since: map[string]time.Time{}}
}

// delay returns how long a message of queue waits, whose ack was refused now: as long as
// that has been so, within limits, and up to a fifth less.
func (r *refusedAcks) delay(queue string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.since[queue]; !known {
		bounded.Set(r.since, queue, time.Now())
	}
	wait := fault.RetryDelay(r.since[queue])
	return wait - rand.N(wait/5) //nolint:gosec // chance only spreads load, and may be guessed
}

// accepted notes that an ack in queue was stored.
func (r *refusedAcks) accepted(queue string) {
	r.mu.Lock()
	delete(r.since, queue)
	r.mu.Unlock()
}

// release releases msg to its queue, which has refused its ack with err.
func (r *refusedAcks) release(ctx context.Context, msg *message.Message, receipt *lease.Receipt, err error) {
	redelivery := backend.DeliveryFromContext(ctx).Unchanged()
	redelivery.Delay, redelivery.Uncounted, redelivery.UnknownSince = r.delay(receipt.Queue), true, time.Time{} // its handler has run
	backend.Nack(msg, redelivery)
	about := sparse.About{Text: "ezq: the ack in a handler's transaction is refused, which was rolled back; its message has not failed and comes again", Topic: receipt.Topic}
	sparse.Log(ctx, r.logger, slog.LevelError, about, "topic", receipt.Topic, "queue", receipt.Queue, "id", excerpt.Of(msg.UUID), "retry_in", redelivery.Delay.Round(time.Millisecond).String(), "error", err)
}
