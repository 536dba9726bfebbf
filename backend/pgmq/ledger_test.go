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
	"github.com/ezq-go/ezq/internal/pgtest"
)

// ledger notes what became of every publish, and every delivery before its ack.
type ledger struct {
	mu         sync.Mutex
	ok         map[string]bool
	rejected   map[string]bool
	unknown    map[string]bool
	deliveries map[string]int
	changed    time.Time // when something was last delivered
	failures   []error   // publishes that failed without an outcome
}

func newLedger() *ledger {
	return &ledger{
		ok: map[string]bool{}, rejected: map[string]bool{}, unknown: map[string]bool{},
		deliveries: map[string]int{},
	}
}

func (l *ledger) published(id string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.ok[id] = true
	case errors.Is(err, pgmq.ErrRejected):
		l.rejected[id] = true
	case errors.Is(err, pgmq.ErrUnknownOutcome):
		l.unknown[id] = true
	default:
		l.failures = append(l.failures, err)
	}
}

func (l *ledger) delivered(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deliveries[id]++
	l.changed = time.Now()
}

// deliveredSince reports whether something was delivered after moment.
func (l *ledger) deliveredSince(moment time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed.After(moment)
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.deliveries)
}

// publishing publishes to the topic t, from several goroutines, every few
// milliseconds, until stop is called, which waits for them.
func (l *ledger) publishing(name string, queue message.Publisher) (stop func()) {
	const publishers = 4
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for p := range publishers {
		running.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%s-%d-%d", name, p, n)
				l.published(id, queue.Publish("t", message.NewMessage(id, []byte(id))))
				<-tick.C
			}
		})
	}
	return func() { cancel(); running.Wait() }
}

// consuming handles messages of the topic t, each of which takes some time, until
// the queue is closed.
func (l *ledger) consuming(t *testing.T, queue message.Subscriber) {
	t.Helper()
	messages := subscribe(t, queue)
	go func() {
		for msg := range messages {
			l.delivered(msg.UUID)
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

// require fails the test unless everything that was stored was delivered, and
// nothing else, and at most so many messages more than once.
func (l *ledger) require(t *testing.T, maxDuplicates int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost, unexpected []string
	for id := range l.ok {
		if l.deliveries[id] == 0 {
			lost = append(lost, id)
		}
	}
	duplicates, recovered := 0, 0
	for id, n := range l.deliveries {
		duplicates += n - 1
		if l.unknown[id] {
			recovered++
		}
		if !l.ok[id] && !l.unknown[id] {
			unexpected = append(unexpected, id)
		}
	}
	t.Logf("published: %d ok, %d rejected, %d unknown, of which %d were stored; delivered: %d, %d more than once",
		len(l.ok), len(l.rejected), len(l.unknown), recovered, len(l.deliveries), duplicates)
	require.Empty(t, l.failures, "a publish that fails says what became of its messages")
	require.Empty(t, lost, "lost")
	require.Empty(t, unexpected, "delivered although they were rejected")
	require.NotEmpty(t, l.ok)
	require.LessOrEqual(t, duplicates, maxDuplicates, "delivered more than once")
}
