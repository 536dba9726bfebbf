package pgmq_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func cancelled(t *testing.T, client *pgmq.Client, s backend.Selection) backend.Cancelled {
	t.Helper()
	found, err := client.Cancel(t.Context(), "t", s)
	require.NoError(t, err)
	return found
}

func TestCancel_DeletesWhatWaitsAndFreesItsKey(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.Equal(t, backend.Cancelled{}, cancelled(t, client, backend.Selection{ID: "a"}), "of a topic without a queue")
	publishOn(t, client, "a", unique("k"), time.Hour)
	require.Equal(t, backend.Cancelled{}, cancelled(t, client, backend.Selection{ID: "b", UniqueKey: "k"}))
	require.Equal(t, backend.Cancelled{Removed: 1}, cancelled(t, client, backend.Selection{UniqueKey: "k"}), "while it is delayed")
	require.Equal(t, backend.PublishStored, publishOn(t, client, "b", unique("k"), 0).Outcome)
	require.Equal(t, backend.Cancelled{Removed: 1}, cancelled(t, client, backend.Selection{ID: "b"}), "while it is due")
	require.Equal(t, backend.Cancelled{}, cancelled(t, client, backend.Selection{ID: "b"}))

	publishOn(t, client, "c", once(), 0)
	require.Equal(t, backend.Cancelled{Removed: 1}, cancelled(t, client, backend.Selection{ID: "c"}))
	require.Equal(t, existed("c"), publishOn(t, client, "c", once(), 0), "an ID stays known")
	execute(t, pool, `insert into pgmq.q_t (msg_id, vt, message) overriding system value values (100, now(), '1'), (101, now(), '2')`)
	require.Equal(t, backend.Cancelled{Removed: 1}, cancelled(t, client, backend.Selection{ID: "t/100"}), "a message without an ID")
	requireCount(t, pool, "pgmq.q_t", 1)
	execute(t, pool, `update pgmq.q_t set headers = '{"ezq_uuid":"t/7"}'`)
	require.Equal(t, backend.Cancelled{}, cancelled(t, client, backend.Selection{ID: "t/7"}), "an ID that consumers do not believe")
}

func TestCancel_LeavesWhatMayBeHandled(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true, Archive: true}})
	publishOn(t, client, "a", unique("k"), 0)
	messages := subscribe(t, client)
	msg := receive(t, messages)
	require.Equal(t, backend.Cancelled{Busy: 1}, cancelled(t, client, backend.Selection{UniqueKey: "k"}), "while it is handled")
	backend.Nack(msg, backend.Redelivery{Delay: time.Hour, Failures: 1})
	pgtest.Eventually(t, patience, "the nack is stored", func() bool {
		return get[bool](t, pool, "select exists (select from pgmq.q_t where headers ? 'ezq_failures')")
	})
	require.Equal(t, backend.Cancelled{Busy: 1}, cancelled(t, client, backend.Selection{ID: "a"}), "in the pause after a failure")
	execute(t, pool, "update pgmq.q_t set vt = now()")
	require.True(t, receive(t, messages).Ack())
	requireCount(t, pool, "pgmq.a_t", 1)
	require.Equal(t, backend.Cancelled{}, cancelled(t, client, backend.Selection{ID: "a"}), "in the archive")
	requireCount(t, pool, "pgmq.a_t", 1)
}

func TestCancel_DeletesWhatIsSnoozed(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true}})
	publish(t, client, "a")
	backend.Nack(receive(t, subscribe(t, client)), backend.Redelivery{Delay: time.Hour, Uncounted: true})
	pgtest.Eventually(t, patience, "the message is snoozed", func() bool {
		return find(t, client, backend.Selection{ID: "a"})[0].State == backend.StateDelayed
	})
	require.Equal(t, backend.Cancelled{Removed: 1}, cancelled(t, client, backend.Selection{ID: "a"}))
}

func TestCancel_PassesByWhatIsLocked(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "a", unique("k"), 0)
	publish(t, client, "b", "b")
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "select from pgmq.q_t where msg_id in (1, 2) for update")
		require.NoError(t, err)
		ctx, stop := context.WithTimeout(t.Context(), patience)
		defer stop()
		found, err := client.Cancel(ctx, "t", backend.Selection{UniqueKey: "k"})
		require.NoError(t, err)
		require.Equal(t, backend.Cancelled{Busy: 1}, found, "it does not wait")
		found, err = client.Cancel(ctx, "t", backend.Selection{ID: "b"})
		require.NoError(t, err)
		require.Equal(t, backend.Cancelled{Removed: 1, Busy: 1}, found)
		return nil
	}))
	require.Equal(t, backend.Cancelled{Removed: 1}, cancelled(t, client, backend.Selection{UniqueKey: "k"}))
	require.Equal(t, "b", get[string](t, pool, "select headers->>'ezq_uuid' from pgmq.q_t"))
}

func TestCancel_EndsInEachGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	mail, bills := group(t, database, "mail"), group(t, database, "bills")
	require.NoError(t, mail.SubscribeInitialize("t"))
	require.NoError(t, bills.SubscribeInitialize("t"))
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('audit'), pgmq.bind_topic('#', 'audit')")
	client := openAt(t, database, pgmq.Config{})
	publishOn(t, client, "a", unique("k"), 0)
	msg := receive(t, subscribe(t, mail))
	require.Equal(t, backend.Cancelled{Removed: 1, Busy: 1}, cancelled(t, client, backend.Selection{UniqueKey: "k"}))
	msg.Ack()
	requireCount(t, pool, "pgmq.q_audit", 1) // which is a topic of its own
}

// Each message is handled, or was cancelled, whatever its consumers do at the same time.
func TestCancel_OfWhatConsumersClaimIsHandledOrCancelled(t *testing.T) {
	t.Parallel()
	for name, leaseOnly := range map[string]bool{"locked": false, "leased": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: leaseOnly}})
			const all = 300
			var handled, removed atomic.Int64
			messages := subscribe(t, client)
			var consuming, cancelling sync.WaitGroup
			ctx, stop := context.WithCancel(t.Context())
			consuming.Go(func() {
				for {
					select {
					case msg := <-messages:
						handled.Add(1)
						msg.Ack()
					case <-ctx.Done():
						return
					}
				}
			})
			for n := range all {
				id := fmt.Sprint(n)
				require.NoError(t, client.Publish("t", message.NewMessage(id, nil)))
				cancelling.Go(func() {
					found, err := client.Cancel(t.Context(), "t", backend.Selection{ID: id})
					if err != nil {
						t.Error(err)
					}
					removed.Add(int64(found.Removed))
				})
			}
			cancelling.Wait()
			pgtest.Eventually(t, patience, "the queue is empty", func() bool { return get[int](t, pool, "select count(*) from pgmq.q_t") == 0 })
			stop()
			consuming.Wait()
			require.EqualValues(t, all, handled.Load()+removed.Load())
		})
	}
}

func TestCancel_IsBoundedAndNamesWhatItNeeds(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{})
	pool := pgtest.Pool(t, database)
	publishOn(t, client, "a", unique("k"), 0)
	for range 10 {
		publish(t, client, "b")
	}
	client.SearchAtMost(5, time.Minute)
	found, err := client.Cancel(t.Context(), "t", backend.Selection{ID: "b"})
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	require.Equal(t, backend.Cancelled{Removed: 6}, found)
	require.Equal(t, backend.Cancelled{Removed: 1}, cancelled(t, client, backend.Selection{UniqueKey: "k"}), "the index of keys")

	const reading = "grant usage on schema pgmq to {role}; grant select on all tables in schema pgmq to {role};"
	_, err = openAt(t, pgtest.Role(t, database, reading), pgmq.Config{}).Cancel(t.Context(), "t", backend.Selection{ID: "b"})
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, `GRANT SELECT, UPDATE (vt), DELETE ON "pgmq"."q_t" TO the role`)
	may := openAt(t, pgtest.Role(t, database, reading, "grant update (vt), delete on pgmq.q_t to {role}"), pgmq.Config{})
	require.Equal(t, backend.Cancelled{Removed: 4}, cancelled(t, may, backend.Selection{ID: "b"}))

	_, err = client.Cancel(t.Context(), "t", backend.Selection{Event: "E"})
	require.ErrorAs(t, err, new(*backend.RefusedError))
	publish(t, client, "c")
	execute(t, pool, `create function keep() returns trigger language plpgsql as 'begin return null; end';
		create trigger keep before delete on pgmq.q_t for each row execute function keep()`)
	require.Equal(t, backend.Cancelled{Busy: 1}, cancelled(t, client, backend.Selection{ID: "c"}), "a trigger keeps it")
}

func TestCancel_WorksOnEveryKindOfQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	partition(t, pool)
	execute(t, pool, "alter table pgmq.q_t drop column last_read_at")
	publishOn(t, client, "a", unique("k"), 0)
	execute(t, pool, "insert into pgmq.q_t (msg_id, vt, message, headers) overriding system value select 101, vt, message, headers from pgmq.q_t")
	require.Equal(t, backend.Cancelled{Removed: 2}, cancelled(t, client, backend.Selection{UniqueKey: "k"}))
}
