package pgmq_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/ledger"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// outcomeOf says what a publisher knows that has got err.
func outcomeOf(t *testing.T, err error) ledger.Outcome {
	t.Helper()
	switch {
	case err == nil:
		return ledger.Stored
	case errors.Is(err, pgmq.ErrRejected):
		return ledger.Rejected
	default:
		if !errors.Is(err, pgmq.ErrUnknownOutcome) {
			t.Errorf("a publish fails and does not say what became of its messages: %v", err)
		}
		return ledger.Unknown
	}
}

// startPublishing publishes to the topic t, from several goroutines, every few
// milliseconds, until stop is called, which waits for them.
func startPublishing(t *testing.T, l *ledger.Ledger, pubsub message.Publisher) (stop func()) {
	t.Helper()
	const publishers = 4
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for p := range publishers {
		running.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("m-%d-%d", p, n)
				l.Published(id, outcomeOf(t, pubsub.Publish("t", message.NewMessage(id, []byte(id)))))
				<-tick.C
			}
		})
	}
	return func() { cancel(); running.Wait() }
}

// startConsuming handles messages of the topic t, each of which takes some time, until
// the queue is closed.
func startConsuming(t *testing.T, l *ledger.Ledger, pubsub message.Subscriber, consumer string) {
	t.Helper()
	messages := subscribe(t, pubsub)
	go func() {
		for msg := range messages {
			l.Delivered(msg.UUID, consumer)
			time.AfterFunc(3*time.Millisecond, func() { msg.Ack() })
		}
	}()
}

// requireDrained waits until the queue t is empty.
func requireDrained(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	pgtest.Eventually(t, patience, "the queue is empty", func() bool {
		var left int
		err := pool.QueryRow(t.Context(), "select count(*) from pgmq.q_t").Scan(&left)
		return err == nil && left == 0
	})
}

// requireInOrder fails the test unless everything that was stored was delivered,
// and nothing else, and at most so many messages more than once, each for a reason.
func requireInOrder(t *testing.T, l *ledger.Ledger, maxDuplicates int) {
	t.Helper()
	report := l.Report()
	t.Log(report)
	require.Empty(t, report.Wrong())
	require.LessOrEqual(t, report.Duplicates, maxDuplicates, "delivered more than once")
}
