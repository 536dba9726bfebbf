package pgmq_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// partition makes the queue t one of two partitions, as pg_partman does. A place in one
// of them is a place in the other, too.
func partition(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	execute(t, pool, partitionSQL)
}

const partitionSQL = `
		select pgmq.create('t');
		alter table pgmq.q_t rename to template;
		create table pgmq.q_t (like pgmq.template including defaults including identity) partition by range (msg_id);
		create table pgmq.low partition of pgmq.q_t for values from (0) to (100);
		create table pgmq.high partition of pgmq.q_t for values from (100) to (1000);
		alter table pgmq.q_t add primary key (msg_id)`

func TestPartitionedQueue_DeliversVisibleMessagesOnly(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(s subscription.Store) (subscription.Claim, error){
		"visible messages are leased": func(s subscription.Store) (subscription.Claim, error) {
			return s.Claim(t.Context(), nil, 10, time.Minute)
		},
		"visible messages are locked": func(s subscription.Store) (subscription.Claim, error) {
			locked, claim, _, err := s.(subscription.Locker).Lock(t.Context(), 10, time.Minute)
			if locked != nil {
				t.Cleanup(func() { _, _ = locked.Finish(t.Context(), nil, nil, time.Minute) })
			}
			return claim, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			partition(t, pool)
			execute(t, pool, `insert into pgmq.q_t (msg_id, vt, message) overriding system value
				values (1, now(), '1'), (101, now() + interval '1 day', '101')`)
			store, err := client.Store(t.Context(), "t")
			require.NoError(t, err)
			claim, err := take(store)
			require.NoError(t, err)
			require.Len(t, claim.Leases, 1)
			require.EqualValues(t, 1, claim.Leases[0].ID)
		})
	}
}

func TestPartitionedQueue_PassesByARowWhoseUpdateIsRefused(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	partition(t, pool)
	execute(t, pool, `insert into pgmq.q_t (msg_id, vt, message) overriding system value
		select i, now(), '{}' from unnest(array[1, 2, 3, 101, 102]) as i`)
	execute(t, pool, onUpdate("if new.msg_id = 1 then raise 'not today'; elsif new.msg_id = 101 then return null; end if;"))
	store, err := client.Store(t.Context(), "t")
	require.NoError(t, err)
	requireClaimed(t, store, 10, 3)
	requireCount(t, pool, "pgmq.q_t where read_ct = 0 and msg_id in (1, 101)", 2)
}
