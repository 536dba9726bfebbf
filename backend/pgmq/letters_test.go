package pgmq_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// A dead letter is settled together with other messages, which must not suffer
// from what is wrong with its queue.

func TestADeadLetterQueueThatWasDroppedIsCreatedAnew(t *testing.T) {
	t.Parallel()
	queue, pool := open(t, pgmq.Config{})
	publish(t, queue, "a", "b", "c")
	messages := subscribe(t, queue)
	letter := backend.Letter{Topic: "dead"}
	require.True(t, backend.DeadLetter(receive(t, messages), letter))
	requireCount(t, pool, "pgmq.q_t", 2)
	execute(t, pool, "select pgmq.drop_queue('dead')")
	require.True(t, backend.DeadLetter(receive(t, messages), letter))
	receive(t, messages).Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.q_dead"))
}

func TestADeadLetterQueueThatMayNotBeFilledStopsNobody(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	admin, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
	require.NoError(t, admin.SubscribeInitialize("dead"))
	publish(t, admin, "a", "b")
	consumer := openAt(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}",
		"grant select, update, delete on pgmq.q_t to {role}"), pgmq.Config{Subscriber: pgmq.SubscriberConfig{NackDelay: time.Millisecond}})
	messages := subscribe(t, consumer)
	first := receive(t, messages)
	require.True(t, backend.DeadLetter(first, backend.Letter{Topic: "dead"}))
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
