package pgmq_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// lockRow keeps all other sessions from a message until the transaction ends.
func lockRow(t *testing.T, pool *pgxpool.Pool, id int64) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	assertRowLocked(t, tx, id)
	return tx
}

// assertRowLocked locks a message in a transaction. Any goroutine may call it.
func assertRowLocked(t *testing.T, tx pgx.Tx, id int64) {
	t.Helper()
	tag, err := tx.Exec(t.Context(), "select 1 from pgmq.q_t where msg_id = $1 for update", id)
	assert.NoError(t, err)
	assert.EqualValues(t, 1, tag.RowsAffected())
}

// What a subscription does with the messages that it has leased waits for no row: neither
// does one locked row stop the others, nor can there be a deadlock.
func TestStore_LockedRowDelaysOnlyItself(t *testing.T) {
	t.Parallel()
	settling := func(action subscription.Action) func(context.Context, subscription.Store, []subscription.Token) (subscription.Missed, error) {
		return func(ctx context.Context, store subscription.Store, tokens []subscription.Token) (subscription.Missed, error) {
			var settle []subscription.Settlement
			for _, token := range tokens {
				s := subscription.Settlement{Token: token, Action: action}
				s.Disposition.Fallback.Delay = time.Hour
				if action == subscription.DeadLetter {
					s.Disposition.Target = &backend.DeadLetterTarget{Topic: "dead"}
				}
				settle = append(settle, s)
			}
			return store.Settle(ctx, settle)
		}
	}
	for name, test := range map[string]struct {
		config pgmq.SubscriberConfig
		do     func(context.Context, subscription.Store, []subscription.Token) (subscription.Missed, error)
	}{
		"the row of an ack is locked":          {pgmq.SubscriberConfig{}, settling(subscription.Ack)},
		"the row of an archived ack is locked": {pgmq.SubscriberConfig{Archive: true}, settling(subscription.Ack)},
		"the row of a nack is locked":          {pgmq.SubscriberConfig{}, settling(subscription.Nack)},
		"the row of a release is locked":       {pgmq.SubscriberConfig{}, settling(subscription.Release)},
		"the row of a dead letter is locked":   {pgmq.SubscriberConfig{}, settling(subscription.DeadLetter)},
		"the row of an extension is locked": {pgmq.SubscriberConfig{}, func(ctx context.Context, store subscription.Store, tokens []subscription.Token) (subscription.Missed, error) {
			missed, err := store.Extend(ctx, tokens, time.Hour)
			if since := time.Since(missed.Now).Abs(); since > time.Minute {
				t.Errorf("the clock of the store is said to be off by %v", since)
			}
			missed.Now = time.Time{}
			return missed, err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: test.config})
			store, tokens := leaseAll(t, client, "a", "b", "c", "d", "e")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()

			rolledBack, deleted, leased := lockRow(t, pool, tokens[0].ID), lockRow(t, pool, tokens[1].ID), lockRow(t, pool, tokens[2].ID)
			missed, err := test.do(ctx, store, tokens)
			require.NoError(t, err)
			require.Equal(t, subscription.Missed{Busy: tokens[:3]}, missed)

			require.NoError(t, rolledBack.Rollback(ctx))
			_, err = deleted.Exec(ctx, "select pgmq.delete('t', $1::bigint)", tokens[1].ID)
			require.NoError(t, err)
			require.NoError(t, deleted.Commit(ctx))
			_, err = leased.Exec(ctx, "update pgmq.q_t set read_ct = read_ct + 1, last_read_at = clock_timestamp() where msg_id = $1", tokens[2].ID)
			require.NoError(t, err)
			require.NoError(t, leased.Commit(ctx))
			missed, err = test.do(ctx, store, tokens[:3])
			require.NoError(t, err)
			require.Equal(t, subscription.Missed{Gone: tokens[1:2], Lost: tokens[2:3]}, missed)
		})
	}
}

// leaseAll publishes messages and leases them.
func leaseAll(t *testing.T, client *pgmq.Client, uuids ...string) (subscription.Store, []subscription.Token) {
	t.Helper()
	publish(t, client, uuids...)
	return leaseVisible(t, client, len(uuids))
}

// leaseVisible leases n messages.
func leaseVisible(t *testing.T, client *pgmq.Client, n int) (subscription.Store, []subscription.Token) {
	t.Helper()
	store, err := client.Store(t.Context(), "t")
	require.NoError(t, err)
	claim, err := store.Claim(t.Context(), nil, n, time.Hour)
	require.NoError(t, err)
	var tokens []subscription.Token
	for _, lease := range claim.Leases {
		tokens = append(tokens, lease.Token)
	}
	require.Len(t, tokens, n)
	return store, tokens
}

func TestLockedBatch_OfStoppedProcessDelaysNoSubscription(t *testing.T) {
	client, pool, messages := openLocking(t, time.Hour, pgmq.SubscriberConfig{})
	msg := requireLocked(t, client, pool, messages)
	id := get[int64](t, pool, "select msg_id from pgmq.q_t")
	tx, err := pool.Begin(t.Context()) // of another process, which holds the message next and does not go on
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		assertRowLocked(t, tx, id)
	}()
	pgtest.Eventually(t, patience, "the other process waits for the message", func() bool {
		return get[int](t, pool, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'") == 1
	})
	require.Equal(t, 1, get[int](t, pool, endLocks), "its connection is lost")
	<-stopped
	msg.Ack()
	publish(t, client, "next")
	next := receive(t, messages)
	next.Ack()
	if next.UUID == "locked" { // the first process was faster than the other: it waits for nothing
		next = receive(t, messages)
		next.Ack()
	}
	require.Equal(t, "next", next.UUID)
	requireCount(t, pool, "pgmq.q_t", 1)
	require.NoError(t, tx.Rollback(t.Context()))
	go func() { // the first process may get it again in this moment
		for msg := range messages {
			msg.Ack()
		}
	}()
	requireCount(t, pool, "pgmq.q_t", 0)
}
