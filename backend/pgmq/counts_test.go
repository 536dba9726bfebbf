package pgmq_test

import (
	"math"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// A publisher with INSERT on the whole table may write any count. One that PostgreSQL cannot
// count further would fail the claim of all that come with it.
func TestReadCount_WhenInvalidStopsNoOtherMessage(t *testing.T) {
	t.Parallel()
	for name, leaseOnly := range map[string]bool{"the messages are leased": true, "the messages are locked": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: leaseOnly, NackDelay: time.Millisecond}})
			messages := subscribe(t, client)
			warmUp(t, client, messages)
			execute(t, pool, `insert into pgmq.q_t (read_ct, vt, message, headers)
				select c, now(), '{}', jsonb_build_object('ezq_uuid', c::text)
				from unnest(array[2147483647, 2147483646, -1, -2147483648]) as c`)
			publish(t, client, "good")
			want := map[string]int{"2147483647": math.MaxInt32, "2147483646": math.MaxInt32, "-1": 1, "-2147483648": 1, "good": 1}
			for acked := 0; acked < 5; { // one that was nacked may come again before another has come
				msg := receive(t, messages)
				number, first := want[msg.UUID]
				if !first {
					require.Positive(t, delivery(msg).Number, msg.UUID)
				} else {
					require.Equal(t, number, delivery(msg).Number, msg.UUID)
				}
				delete(want, msg.UUID)
				if first && msg.UUID != "good" {
					msg.Nack()
				} else {
					msg.Ack()
					acked++
				}
			}
			require.Empty(t, want)
			requireCount(t, pool, "pgmq.q_t", 0)
			require.NoError(t, client.Stats()["t"].Failing)
		})
	}
}

func TestReadCount_WhenInvalidAllowsEveryOutcome(t *testing.T) {
	t.Parallel()
	for name, settle := range map[string]func(*message.Message){
		"an event that is released":            func(msg *message.Message) { backend.Release(msg) },
		"a nack that is not counted":           func(msg *message.Message) { backend.Nack(msg, backend.Redelivery{Uncounted: true}) },
		"a message that becomes a dead letter": func(msg *message.Message) { backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"}) },
		"a message that is acked":              func(msg *message.Message) { msg.Ack() },
		"a nack in place":                      func(msg *message.Message) { backend.Nack(msg, backend.Redelivery{InPlace: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			client, pool := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Archive: true}}), pgtest.Pool(t, database)
			require.NoError(t, client.SubscribeInitialize("t"))
			execute(t, pool, `insert into pgmq.q_t (read_ct, vt, message)
				select c, now(), '{}' from unnest(array[2147483647, -2147483648]) as c`)
			messages := subscribe(t, client)
			for range 2 {
				settle(receive(t, messages))
			}
			requireNothingUnstored(t, client)
			require.NoError(t, client.Close())
			require.NoError(t, client.Stats()["t"].Failing)
			requireCount(t, pool, "pgmq.q_t where read_ct < 0", 0)
		})
	}
}

func requireNothingUnstored(t *testing.T, client *pgmq.Client) {
	t.Helper()
	pgtest.Eventually(t, patience, "all outcomes are stored", func() bool { return client.Stats()["t"].Unstored == 0 })
}

// A message goes back to the time at which it was published. One that others have written may
// be far ahead, and the message would be invisible until then.
func TestRelease_MakesVisibleDespiteOddPublishTime(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true}})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `insert into pgmq.q_t (vt, enqueued_at, message) values
		(now(), 'infinity', '1'), (now(), '290000-01-01', '2'), (now(), '-infinity', '3'), (now(), now() + interval '1 day', '4')`)
	messages := subscribe(t, client)
	for range 4 {
		require.True(t, backend.Release(receive(t, messages)))
	}
	for range 4 {
		receive(t, messages).Ack()
	}
	requireCount(t, pool, "pgmq.q_t", 0)
}

// Ids that PGMQ gives are positive. Others can be written all the same.
func TestNegativeID_IsPurgedAndRedriven(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	require.NoError(t, client.SubscribeInitialize("t_dead"))
	execute(t, pool, `insert into pgmq.q_t_dead (msg_id, vt, message, headers) overriding system value
		values (-5, now(), '{}', '{"topic_poisoned":"t"}'), (9223372036854775807, now(), '{}', '{"topic_poisoned":"t"}')`)
	moved, err := redrive(t.Context(), client, "t_dead", 10)
	require.NoError(t, err)
	require.Equal(t, 2, moved)
	execute(t, pool, `insert into pgmq.q_t (msg_id, vt, message) overriding system value values (-7, now(), '{}')`)
	deleted, err := client.PurgeQueue(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, 3, deleted)
}

func TestMetrics_TolerateInvalidTimes(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `insert into pgmq.q_t (vt, message) values ('4000-01-01 BC', '{}'), ('290000-01-01', '{}'), ('-infinity', '{}')`)
	metrics, err := client.Metrics(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, 2, metrics.Visible)
	require.Greater(t, metrics.OldestVisible, 200*365*24*time.Hour)
}
