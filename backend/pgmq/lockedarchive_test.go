package pgmq_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is certainly too large waits for the archive, and for nothing else.
func TestQuarantine_LockedArchiveDelaysNoReadableMessage(t *testing.T) {
	t.Parallel()
	config := withMaxMessage(1 << 20)
	config.Subscriber.Lease = 2 * time.Minute
	client, pool := open(t, config)
	require.NoError(t, client.SubscribeInitialize("t"))
	require.NoError(t, client.SubscribeInitialize("other"))
	const good = `select now(), '[1e500]' from generate_series(1, 3)` // suspicious, and harmless
	insertBombs(t, pool, 30, numbers(100, "1e131071"), "null")
	execute(t, pool, "insert into pgmq.q_t (vt, message) "+good)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // if the test fails
	_, err = tx.Exec(t.Context(), "lock table pgmq.a_t in access exclusive mode")
	require.NoError(t, err)

	messages := subscribe(t, client)
	for range 3 {
		receive(t, messages).Ack()
	}
	execute(t, pool, "insert into pgmq.q_other (vt, message) select now(), ("+numbers(100, "1e131071")+")")
	execute(t, pool, "insert into pgmq.q_other (vt, message) "+good)
	others, err := client.Subscribe(t.Context(), "other")
	require.NoError(t, err)
	for range 3 {
		receive(t, others).Ack()
	}
	requireCount(t, pool, "pgmq.a_other", 1)
	execute(t, pool, "insert into pgmq.q_t (vt, message) "+good)
	for range 3 {
		receive(t, messages).Ack()
	}
	requireCount(t, pool, "pgmq.q_t where vt > now()", 30)

	require.NoError(t, tx.Rollback(t.Context()))
	requireCount(t, pool, "pgmq.a_t where headers ? 'reason_poisoned'", 30)
	require.Equal(t, 1, get[int](t, pool, "select max(read_ct) from pgmq.a_t"), "no delivery was counted meanwhile")
}
