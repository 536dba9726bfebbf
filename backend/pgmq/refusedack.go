package pgmq

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
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

const (
	refusedAckMin = time.Second
	refusedAckMax = time.Minute
)

// wait returns how long a message of queue waits, whose ack was refused now: as long as
// that has been so, within limits, and up to a fifth less.
func (r *refusedAcks) wait(queue string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if _, known := r.since[queue]; !known {
		remember(r.since, queue, now)
	}
	wait := min(max(now.Sub(r.since[queue]), refusedAckMin), refusedAckMax)
	return wait - rand.N(wait/5) //nolint:gosec // chance only spreads load, and may be guessed
}

// accepted notes that an ack in queue was stored.
func (r *refusedAcks) accepted(queue string) {
	r.mu.Lock()
	delete(r.since, queue)
	r.mu.Unlock()
}

// giveBack gives msg back to its queue, which has refused its ack with err.
func (r *refusedAcks) giveBack(ctx context.Context, msg *message.Message, proof *receipt, err error) {
	back := backend.Redelivery{Delay: r.wait(proof.queue), Uncounted: true}
	if d := backend.DeliveryFromContext(ctx); d != nil {
		back.Failures, back.Done = d.Failures, d.Done
	}
	backend.Nack(msg, back)
	about := sparse.About{Text: "ezq: the ack in a handler's transaction is refused, which was rolled back; its message has not failed and comes again", Topic: proof.topic}
	sparse.Log(ctx, r.logger, slog.LevelError, about, "topic", proof.topic, "queue", proof.queue, "id", excerpt.Of(msg.UUID), "retry_in", back.Delay.Round(time.Millisecond).String(), "error", err)
}
