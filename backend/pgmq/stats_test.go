package pgmq_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestStats_CountOutcomes(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.Empty(t, client.Stats())
	publish(t, client, "acked", "nacked", "dead", "stolen", "deleted", "held")
	messages := subscribe(t, client)
	for range 6 {
		switch msg := receive(t, messages); msg.UUID {
		case "acked":
			msg.Ack()
		case "nacked":
			backend.Nack(msg, backend.Redelivery{Delay: time.Hour, Failures: 1})
		case "dead":
			backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"})
		case "stolen":
			execute(t, pool, "update pgmq.q_t set read_ct = read_ct + 1, last_read_at = clock_timestamp() where headers->>'ezq_uuid' = 'stolen'")
			msg.Ack()
		case "deleted":
			execute(t, pool, "delete from pgmq.q_t where headers->>'ezq_uuid' = 'deleted'")
			msg.Ack()
		}
	}
	want := pgmq.SubscriptionStats{Claimed: 6, Acked: 1, Nacked: 1, DeadLettered: 1, TooLate: 1, Gone: 1, InFlight: 1}
	pgtest.Eventually(t, patience, "all outcomes are stored", func() bool { return client.Stats()["t"] == want })
	require.NoError(t, client.Close())
	want.InFlight = 0 // it has been abandoned
	require.Equal(t, want, client.Stats()["t"])
}

func TestTxMiddleware_AckIsStoredOnce(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	handle := client.TxMiddleware()(func(*message.Message) ([]*message.Message, error) { return nil, nil })
	publish(t, client, "a")
	msg := receive(t, subscribe(t, client))
	_, err := handle(msg)
	require.NoError(t, err)
	msg.Ack()
	require.NoError(t, client.Close())
	require.Equal(t, pgmq.SubscriptionStats{Claimed: 1, Acked: 1}, client.Stats()["t"])
}

// One message at a time is then the promise of watermill-sql: a crash repeats one.
func TestSyncAck_DeliversNextAfterAckIsStored(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{SyncAck: true, MaxInFlight: 1}})
	publish(t, client, "1", "2", "3", "4", "5")
	messages := subscribe(t, client)
	for left := 5; left > 0; left-- {
		msg := receive(t, messages)
		require.Equal(t, left, get[int](t, pool, "select count(*) from pgmq.q_t"))
		msg.Ack()
	}
}
