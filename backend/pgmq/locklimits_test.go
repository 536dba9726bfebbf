package pgmq_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq"
)

func TestLockedBatch_LeavesConnectionsToOthers(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxConns: 4}})
	locked := 0
	for i := range 4 {
		topic := fmt.Sprint("t", i)
		execute(t, pool, fmt.Sprintf("select pgmq.create('%s')", topic))
		execute(t, pool, fmt.Sprintf("select pgmq.send('%s', '1')", topic))
		store, err := client.Store(t.Context(), topic)
		require.NoError(t, err)
		batch, claim, ok, err := store.(subscription.Locker).Lock(t.Context(), 10, time.Hour)
		require.NoError(t, err)
		if ok {
			locked++
			defer func() { _, _ = batch.Finish(context.Background(), nil, nil, time.Hour) }()
			continue
		}
		claim, err = store.Claim(ctx, nil, 10, time.Hour)
		require.NoError(t, err)
		require.Len(t, claim.Leases, 1)
	}
	require.Equal(t, 2, locked)
}

// The messages of a queue have the ids that those of the one before it had.
func TestAck_AfterLockedBatchSparesRecreatedQueue(t *testing.T) {
	client, pool, messages := openLocking(t, time.Hour, pgmq.SubscriberConfig{})
	old := requireLocked(t, client, pool, messages)
	require.Equal(t, 1, get[int](t, pool, endLocks))
	execute(t, pool, "select pgmq.drop_queue('t')")
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, "insert into pgmq.q_t (vt, message) select now() + interval '1 hour', '1' from generate_series(1, 20)")
	old.Ack()
	require.NoError(t, client.Close())
	require.Equal(t, 20, get[int](t, pool, "select count(*) from pgmq.q_t"))
}

func TestLease_MayExceedPostgreSQLTimeouts(t *testing.T) {
	client, pool, messages := openLocking(t, time.Hour, pgmq.SubscriberConfig{Lease: 1000 * time.Hour})
	requireLocked(t, client, pool, messages).Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}
