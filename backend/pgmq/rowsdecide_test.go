package pgmq_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// received is the messages that a consumer has got.
type received struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (r *received) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ids[id]
}

// publishKeyed publishes an event with a key on a random condition, and returns whether it is there now.
func (g rowGenerator) publishKeyed(t *testing.T, client *pgmq.Client, id, key string) bool {
	t.Helper()
	condition := unique(key)
	switch g.IntN(4) {
	case 0:
		condition = once()
	case 1:
		condition = replacing(key, 0)
	case 2:
		condition = replacing(key, time.Minute)
	}
	return publishOn(t, client, id, condition, time.Duration(g.IntN(2))*time.Hour).Outcome != backend.PublishExisted
}

// requireFindable requires that a search with what rows say has no error, but for what it has left out.
func (g rowGenerator) requireFindable(t *testing.T, client *pgmq.Client, key string) {
	t.Helper()
	for _, s := range []backend.Selection{{UniqueKey: key}, {ID: g.oneOf("text", "t/7", "t/1")}, {Header: "topic_poisoned", Value: "text"}, {Event: "Order"}} {
		if _, err := client.Find(t.Context(), "t", s); err != nil && !errors.As(err, new(*backend.TruncatedError)) {
			require.NoError(t, err)
		}
	}
}

// Whatever is in rows of a queue: it decides nothing for the events of others, nor what an archive keeps, loses and replays.
func TestHostileRows_DecideNothingForOthers(t *testing.T) {
	t.Parallel()
	g, database := newRowGenerator(seedOfRows(t), 1), pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	client := openAt(t, database, pgmq.Config{
		Publisher: pgmq.PublisherConfig{MaxPayloadBytes: 10_000}, Subscriber: pgmq.SubscriberConfig{Archive: true, MaxMessageBytes: 1 << 20},
	})
	got := &received{ids: map[string]bool{}}
	messages := subscribe(t, client)
	var handler sync.WaitGroup
	handler.Go(func() {
		for msg := range messages {
			got.mu.Lock()
			got.ids[msg.UUID] = true
			got.mu.Unlock()
			msg.Ack()
		}
	})
	last := map[string]string{} // the event that was stored last, by key
	for start, n := time.Now(), 0; time.Since(start) < *rowsFor; n++ {
		for range g.IntN(5) {
			g.write(t.Context(), pool)
		}
		key, id := fmt.Sprint("k", g.IntN(3)), fmt.Sprint(goodPrefix, n)
		if g.publishKeyed(t, client, id, key) {
			last[key] = id
		}
		if n%10 == 0 {
			g.requireFindable(t, client, key)
		}
	}
	for key, id := range last {
		waiting := get[int](t, pool, "select count(*) from pgmq.q_t where headers->>'ezq_uuid' = '"+id+"' and vt <= now() + interval '366 days'")
		require.True(t, waiting == 1 || got.has(id), "%s, the last event of %s, is lost: %s", id, key, rowOf(t, pool, id))
	}
	pgtest.Eventually(t, patience, "what is due was handled, or hidden", func() bool {
		return get[int](t, pool, "select count(*) from pgmq.q_t where vt <= now()") == 0
	})
	require.NoError(t, client.Close())
	handler.Wait()
	requireArchiveKeepsQuarantined(t, pool, database, client.Stats()["t"])
}

// requireArchiveKeepsQuarantined requires that the archive replays, and loses after a time, what was acked and nothing else.
func requireArchiveKeepsQuarantined(t *testing.T, pool *pgxpool.Pool, database string, stats pgmq.SubscriptionStats) {
	t.Helper()
	quarantined := get[int](t, pool, "select count(*) from pgmq.a_t") - int(stats.Acked+stats.Gone)
	execute(t, pool, "truncate pgmq.q_t; update pgmq.a_t set archived_at = now() - interval '4 days'")
	client := openAt(t, database, pgmq.Config{})
	replayed, err := client.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	require.NoError(t, err)
	require.InDelta(t, stats.Acked, replayed, float64(stats.Gone))
	execute(t, pool, "truncate pgmq.q_t")
	subscribe(t, pruning(t, database, pgmq.SubscriberConfig{}, &logRecorder{}))
	pgtest.Eventually(t, patience, "what was acked is gone from the archive", func() bool {
		return get[int](t, pool, "select count(*) from pgmq.a_t") <= quarantined+int(stats.Gone)
	})
	left := get[int](t, pool, "select count(*) from pgmq.a_t")
	require.InDelta(t, stats.Quarantined, left, float64(stats.Gone)+0.5)
	t.Logf("%d acked, %d quarantined, %d replayed", stats.Acked, left, replayed)
}
