package pgmq_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/cluster"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// eitherURL returns a URL of both servers, for the one that takes writes.
func eitherURL(primary, standby *cluster.Cluster) string {
	return primary.URLAt(primary.Address()+","+standby.Address()) + "&target_session_attrs=read-write"
}

func TestFailover_ToSynchronousStandbyLosesNothing(t *testing.T) {
	t.Parallel()
	primary := cluster.Start(t)
	standby := primary.Standby()
	primary.Synchronous()
	requireNothingLost(t, eitherURL(primary, standby), func() {
		primary.Kill9()
		standby.Promote()
		standby.Execute("alter system reset synchronous_standby_names", "select pg_reload_conf()")
	})
}

// What an asynchronous standby lacks is lost, and PostgreSQL's to lose. What it
// does not know is who holds which lease.
func TestFailover_InvalidatesLeaseUnknownToStandby(t *testing.T) {
	t.Parallel()
	primary := cluster.Start(t)
	standby := primary.Standby()
	client := openAt(t, eitherURL(primary, standby), pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 1}})
	publish(t, client, "a")
	primary.Execute("select pg_switch_wal()")
	standbyPool := pgtest.Pool(t, standby.URL())
	pgtest.Eventually(t, patience, "the standby has the message", func() bool {
		var rows int
		return standbyPool.QueryRow(t.Context(), "select count(*) from pgmq.q_t").Scan(&rows) == nil && rows == 1
	})
	standby.Detach()
	messages := subscribe(t, client)
	zombie := receive(t, messages)
	primary.Kill9()
	standby.Promote()
	promoted := time.Now()

	owner := openAt(t, standby.URL(), pgmq.Config{})
	msg := receive(t, subscribe(t, owner))
	require.Equal(t, delivery(zombie).Number, delivery(msg).Number, "the read count alone cannot tell them apart")
	zombie.Ack()
	require.NoError(t, client.Close(), "which stores what is settled")
	require.Equal(t, 1, get[int](t, standbyPool, "select count(*) from pgmq.q_t"))
	msg.Ack()
	requireCount(t, standbyPool, "pgmq.q_t", 0)
	t.Log("settled", time.Since(promoted), "after the promotion")
}

func TestFailover_ConsumerContinuesOnNewPrimary(t *testing.T) {
	t.Parallel()
	primary := cluster.Start(t)
	standby := primary.Standby()
	client := openAt(t, eitherURL(primary, standby), pgmq.Config{})
	messages := subscribe(t, client)
	publish(t, client, "before")
	receive(t, messages).Ack()
	primary.StopFast() // in order: the standby has everything
	standby.Promote()
	pgtest.Eventually(t, patience, "publishing goes on", func() bool { return client.Publish("t", message.NewMessage("after", nil)) == nil })
	msg := receive(t, messages)
	require.Equal(t, "after", msg.UUID)
	msg.Ack()
	requireCount(t, pgtest.Pool(t, standby.URL()), "pgmq.q_t", 0)
}
