package pgmq_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// A dead letter is settled together with other messages, which must not suffer
// from what is wrong with its queue.

func TestDeadLetter_RecreatesDroppedQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "a", "b", "c")
	messages := subscribe(t, client)
	deadLetter := backend.DeadLetterTarget{Topic: "dead"}
	require.True(t, backend.DeadLetter(receive(t, messages), deadLetter))
	requireCount(t, pool, "pgmq.q_t", 2)
	execute(t, pool, "select pgmq.drop_queue('dead')")
	require.True(t, backend.DeadLetter(receive(t, messages), deadLetter))
	receive(t, messages).Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.q_dead"))
}

func TestDeadLetter_WithoutGrantStopsNoOtherMessage(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	admin, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
	require.NoError(t, admin.SubscribeInitialize("dead"))
	publish(t, admin, "a", "b")
	consumer := openAt(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}",
		"grant select, update, delete on pgmq.q_t to {role}"), pgmq.Config{Subscriber: pgmq.SubscriberConfig{NackDelay: time.Millisecond}})
	messages := subscribe(t, consumer)
	first := receive(t, messages)
	require.True(t, backend.DeadLetter(first, backend.DeadLetterTarget{Topic: "dead"}))
	failures := 0
	for range 2 { // the other one, and the first once more
		msg := receive(t, messages)
		if msg.UUID == first.UUID {
			failures = delivery(msg).Failures
		}
		msg.Ack()
	}
	require.Equal(t, 1, failures)
	requireCount(t, pool, "pgmq.q_t", 0)
}

// A try that fails costs its connection. PostgreSQL locks the tables of a statement as soon as it
// parses that, which on a new connection must not come before the limit to the wait.
func TestDeadLetters_WaitForNoLockedTable(t *testing.T) {
	t.Parallel()
	for _, lock := range []string{"pgmq.q_dead in share mode", "pgmq.q_dead in access exclusive mode", "pgmq.q_t in access exclusive mode"} {
		t.Run(lock, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			require.NoError(t, client.SubscribeInitialize("dead"))
			store, tokens := leaseAll(t, client, "a", "b")
			settle := lettersOf(tokens, "dead")
			tx, err := pool.Begin(t.Context())
			require.NoError(t, err)
			t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // if the test fails
			_, err = tx.Exec(t.Context(), "lock table "+lock)
			require.NoError(t, err)
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				missed, err := store.Settle(ctx, settle)
				cancel()
				require.NoError(t, err)
				require.Equal(t, subscription.Missed{Busy: tokens}, missed)
			}
			require.NoError(t, tx.Rollback(t.Context()))
			missed, err := store.Settle(t.Context(), settle)
			require.NoError(t, err)
			require.Empty(t, missed)
			requireCount(t, pool, "pgmq.q_dead", 2)
		})
	}
}

func lettersOf(tokens []subscription.Token, topic string) (settle []subscription.Settlement) {
	for _, token := range tokens {
		s := subscription.Settlement{Token: token, Action: subscription.DeadLetter}
		s.Disposition.Target = &backend.DeadLetterTarget{Topic: topic}
		settle = append(settle, s)
	}
	return settle
}
