package pgmq_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestLease_IsExtendedWhileHandlerRuns(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: time.Second}})
	publish(t, client, "a")
	messages := subscribe(t, client)
	msg := receive(t, messages)
	first := get[time.Time](t, pool, "select vt from pgmq.q_t")
	pgtest.Eventually(t, patience, "extended far beyond the first lease", func() bool {
		return get[time.Time](t, pool, "select vt from pgmq.q_t").After(first.Add(2 * time.Second))
	})
	require.NoError(t, msg.Context().Err())
	require.Equal(t, 1, get[int](t, pool, "select read_ct from pgmq.q_t"), "no other consumer had it")
	msg.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

// A consumer that was stopped, or cut off, comes back to find that another one
// has its message. Nothing that it does then may touch the message.
func TestLease_OfZombieChangesNothing(t *testing.T) {
	for name, settle := range map[string]func(ack, nack func() bool){
		"an ack of the zombie": func(ack, _ func() bool) { ack() },
		"a nack of the zombie": func(_, nack func() bool) { nack() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 1}})
			publish(t, client, "a")
			zombie := receive(t, subscribe(t, client))

			execute(t, pool, "update pgmq.q_t set vt = now()") // its lease runs out unnoticed,
			owner := openAt(t, pool.Config().ConnString(), pgmq.Config{})
			msg := receive(t, subscribe(t, owner)) // and another consumer gets the message
			vt := get[time.Time](t, pool, "select vt from pgmq.q_t")

			settle(zombie.Ack, zombie.Nack)
			require.NoError(t, client.Close(), "which stores what is settled")
			require.Equal(t, vt, get[time.Time](t, pool, "select vt from pgmq.q_t"), "the owner's lease")
			require.Equal(t, 2, delivery(msg).Number)
			msg.Ack()
			requireCount(t, pool, "pgmq.q_t", 0)
		})
	}
}

func TestLease_LossEndsContext(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]string{
		"another consumer takes the message":    "update pgmq.q_t set read_ct = read_ct + 1, last_read_at = now()",
		"the message is deleted":                "delete from pgmq.q_t",
		"the queue is dropped and created anew": "select pgmq.drop_queue('t'), pgmq.create('t')",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: time.Second}})
			publish(t, client, "a")
			msg := receive(t, subscribe(t, client))
			execute(t, pool, lose)
			select {
			case <-msg.Context().Done():
			case <-time.After(patience):
				require.Fail(t, "the handler was not told")
			}
			require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrLeaseLost)
		})
	}
}

// The queue has started to count from 1 again, and the message of the same
// number is another one.
func TestAck_WhenLateSparesRecreatedQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "old")
	old := receive(t, subscribe(t, client))
	execute(t, pool, "select pgmq.drop_queue('t')")
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, "select pgmq.send('t', '1'), pgmq.read('t', 30, 1)")
	execute(t, pool, "select pgmq.read('t', 30, 1)")
	require.Equal(t, 1, get[int](t, pool, "select read_ct from pgmq.q_t where msg_id = 1"))
	old.Ack()
	require.NoError(t, client.Close())
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.q_t"))
}

func TestRelease_FreesUndeliveredMessagesAtOnce(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: time.Hour}})
	publish(t, client, "a", "b", "c")
	ctx, stop := context.WithCancel(t.Context())
	messages, err := client.Subscribe(ctx, "t")
	require.NoError(t, err)
	first := receive(t, messages)
	pgtest.Eventually(t, patience, "all are claimed", func() bool {
		return get[int](t, pool, "select count(*) from pgmq.q_t where vt > now()") == 3
	})
	stop()
	requireCount(t, pool, "pgmq.q_t where vt <= clock_timestamp() and read_ct = 0", 2)
	first.Ack()
	requireCount(t, pool, "pgmq.q_t", 2)
}

func TestLease_IsFencedByReadCountBeforePGMQ110(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NackDelay: time.Millisecond}})
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, "alter table pgmq.q_t drop column last_read_at")
	publish(t, client, "a")
	messages := subscribe(t, client)
	receive(t, messages).Nack()
	msg := receive(t, messages)
	require.Equal(t, 2, delivery(msg).Number)
	execute(t, pool, "update pgmq.q_t set read_ct = read_ct + 1")
	msg.Ack()
	require.NoError(t, client.Close())
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.q_t"))
}
