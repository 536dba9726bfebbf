package pgmq_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func rescheduled(t *testing.T, client *pgmq.Client, s backend.Selection, at time.Time) backend.Rescheduled {
	t.Helper()
	found, err := client.Reschedule(t.Context(), "t", s, at)
	require.NoError(t, err)
	return found
}

func TestReschedule_MovesWhatWaits(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "a", unique("k"), time.Hour)
	before := get[time.Time](t, pool, "select enqueued_at from pgmq.q_t")
	at := time.Now().Add(2 * time.Hour).Truncate(time.Microsecond)
	require.Equal(t, backend.Rescheduled{Moved: 1}, rescheduled(t, client, backend.Selection{UniqueKey: "k"}, at))
	require.True(t, at.Equal(get[time.Time](t, pool, "select vt from pgmq.q_t")))
	require.True(t, before.Equal(get[time.Time](t, pool, "select enqueued_at from pgmq.q_t")))
	require.Equal(t, existed("a"), publishOn(t, client, "b", unique("k"), 0), "it keeps its key")
	for name, over := range map[string]time.Time{"the zero time": {}, "an hour ago": time.Now().Add(-time.Hour), "long ago": time.Date(-9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		execute(t, pool, "update pgmq.q_t set vt = now() + interval '1 hour'")
		require.Equal(t, backend.Rescheduled{Moved: 1}, rescheduled(t, client, backend.Selection{ID: "a"}, over), name)
		require.True(t, get[bool](t, pool, "select vt between now() - interval '1 minute' and now() from pgmq.q_t"), name)
	}
	execute(t, pool, "update pgmq.q_t set vt = '2020-01-01'")
	require.Equal(t, backend.Rescheduled{Moved: 1}, rescheduled(t, client, backend.Selection{ID: "a"}, time.Time{}))
	require.True(t, get[bool](t, pool, "select vt = '2020-01-01' from pgmq.q_t"), "what is due keeps its place")

	msg := receive(t, subscribe(t, client))
	require.Equal(t, 1, delivery(msg).Number)
	require.True(t, msg.Ack())
	requireCount(t, pool, "pgmq.q_t", 0)
	require.Equal(t, backend.Rescheduled{}, rescheduled(t, client, backend.Selection{ID: "a"}, at))
	_, err := client.Reschedule(t.Context(), "t", backend.Selection{ID: "a"}, time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC))
	require.ErrorAs(t, err, new(*backend.RefusedError))
}

func TestReschedule_WakesConsumers(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	consumer, client := openAt(t, database, pgmq.Config{}), openAt(t, database, pgmq.Config{})
	consumer.PollOnce()
	publishOn(t, client, "a", unique("a"), time.Hour)
	publishOn(t, client, "b", unique("b"), time.Hour)
	messages := subscribe(t, consumer)
	require.Equal(t, backend.Rescheduled{Moved: 1}, rescheduled(t, client, backend.Selection{UniqueKey: "a"}, time.Time{}))
	requireReceives(t, messages, "a")
	soon := time.Now().Add(time.Second)
	require.Equal(t, backend.Rescheduled{Moved: 1}, rescheduled(t, client, backend.Selection{UniqueKey: "b"}, soon))
	requireReceives(t, messages, "b")
}

func TestReschedule_LeavesWhatMayBeHandled(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true}})
	publishOn(t, client, "a", unique("k"), 0)
	messages := subscribe(t, client)
	msg := receive(t, messages)
	require.Equal(t, backend.Rescheduled{Busy: 1}, rescheduled(t, client, backend.Selection{UniqueKey: "k"}, time.Time{}), "while it is handled")
	backend.Nack(msg, backend.Redelivery{Delay: time.Hour, Failures: 1})
	pgtest.Eventually(t, patience, "the nack is stored", func() bool {
		return get[bool](t, pool, "select exists (select from pgmq.q_t where headers ? 'ezq_failures')")
	})
	require.Equal(t, backend.Rescheduled{Busy: 1}, rescheduled(t, client, backend.Selection{ID: "a"}, time.Time{}), "in the pause after a failure")

	require.NoError(t, client.Publish("t", message.NewMessage("b", nil)))
	receive(t, messages).Ack()
	publishOn(t, client, "c", unique("l"), time.Hour)
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "select from pgmq.q_t for update")
		require.NoError(t, err)
		require.Equal(t, backend.Rescheduled{Busy: 1}, rescheduled(t, client, backend.Selection{UniqueKey: "l"}, time.Time{}), "while it is locked")
		return nil
	}))
	require.Equal(t, backend.Rescheduled{Moved: 1}, rescheduled(t, client, backend.Selection{UniqueKey: "l"}, time.Time{}))
	requireReceives(t, messages, "c")
}

func TestReschedule_MovesInEachGroupAndNeedsFewRights(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	mail, bills := group(t, database, "mail"), group(t, database, "bills")
	require.NoError(t, mail.SubscribeInitialize("t"))
	require.NoError(t, bills.SubscribeInitialize("t"))
	client := openAt(t, database, pgmq.Config{})
	publishOn(t, client, "a", unique("k"), time.Hour)
	const reading = "grant usage on schema pgmq to {role}; grant select on all tables in schema pgmq to {role};"
	_, err := openAt(t, pgtest.Role(t, database, reading), pgmq.Config{}).Reschedule(t.Context(), "t", backend.Selection{ID: "a"}, time.Time{})
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, "GRANT SELECT, UPDATE (vt) ON")
	may := openAt(t, pgtest.Role(t, database, reading, "grant update (vt) on pgmq.q_t_bills_h48645e63f8ccc9beb64d, pgmq.q_t_mail_h7f0e351f6e3c1c0cc1b0 to {role}"), pgmq.Config{})
	require.Equal(t, backend.Rescheduled{Moved: 2}, rescheduled(t, may, backend.Selection{UniqueKey: "k"}, time.Time{}))
	requireReceives(t, subscribe(t, mail), "a")
	requireReceives(t, subscribe(t, bills), "a")
}
