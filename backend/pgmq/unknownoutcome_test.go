package pgmq_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/cluster"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// storeDeadLetters stores n dead letters of the topic orders.
func storeDeadLetters(t *testing.T, client *pgmq.Client, n int) {
	t.Helper()
	for range n {
		letter := message.NewMessage(watermill.NewUUID(), []byte("{}"))
		for name, value := range backend.DeadLetterMetadata("orders", "charge", 3, errors.New("no")) {
			letter.Metadata.Set(name, value)
		}
		require.NoError(t, client.Publish("orders_dead", letter))
	}
}

// The commits wait for a standby that is not there: they are made, and nothing says so.
func TestChange_WhoseAnswerIsLostIsOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	server := cluster.Start(t)
	pool := pgtest.Pool(t, server.URL())
	client := openAt(t, server.URL(), pgmq.Config{})
	storeDeadLetters(t, client, 6)
	require.NoError(t, client.Publish("orders", message.NewMessage("waits", []byte("{}"))))
	require.NoError(t, client.CreateQueue(t.Context(), "purged", nil))
	require.NoError(t, client.Publish("purged", message.NewMessage("a", nil), message.NewMessage("b", nil)))
	paused := backend.Pause{By: "ada", Reason: "a test"}
	_, err := client.Pause(t.Context(), "purged", paused)
	require.NoError(t, err)
	letters, err := client.DeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Len(t, letters, 6)
	rows := func(ids ...int64) backend.DeadLetterSelection { return backend.DeadLetterSelection{Rows: ids} }

	server.Execute("alter system set synchronous_standby_names = 'absent'", "select pg_reload_conf()")
	pgtest.Eventually(t, patience, "commits wait", func() bool { return get[string](t, pool, "show synchronous_standby_names") == "absent" })
	for name, c := range map[string]struct {
		most int
		do   func(ctx context.Context) error
	}{
		"purge of dead letters": {2, func(ctx context.Context) error {
			done, err := client.PurgeDeadLetters(ctx, "orders_dead", rows(1, 2))
			assert.Zero(t, done.Removed)
			return err
		}},
		"redrive": {2, func(ctx context.Context) error {
			done, err := client.Redrive(ctx, "orders_dead", rows(3, 4))
			assert.Zero(t, done.Moved)
			return err
		}},
		"edit": {1, func(ctx context.Context) error {
			return client.EditDeadLetter(ctx, "orders_dead", backend.DeadLetterEdit{Row: 5, Version: letters[4].Version(), Payload: []byte(`{"a":1}`), By: "ada"})
		}},
		"cancel": {1, func(ctx context.Context) error {
			_, err := client.Cancel(ctx, "orders", backend.Selection{ID: "waits"})
			return err
		}},
		"purge": {2, func(ctx context.Context) error {
			_, err := client.PurgeQueue(ctx, "purged")
			return err
		}},
		"pause": {0, func(ctx context.Context) error {
			_, err := client.Pause(ctx, "orders", paused)
			return err
		}},
		"resume": {0, func(ctx context.Context) error {
			_, err := client.Resume(ctx, "purged")
			return err
		}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.do(ctx) }()
		pgtest.Eventually(t, patience, name+" waits for its commit", func() bool {
			return get[int](t, pool, "select count(*) from pg_stat_activity where wait_event = 'SyncRep'") > 0
		})
		cancel()
		err := <-done
		pgtest.Eventually(t, patience, name+" waits no more", func() bool {
			return get[int](t, pool, "select count(pg_terminate_backend(pid)) from pg_stat_activity where wait_event = 'SyncRep'") == 0
		})
		require.ErrorIs(t, err, pgmq.ErrUnknownOutcome, name)
		require.ErrorIs(t, err, context.Canceled, name)
		unknown, ok := errors.AsType[*backend.UnknownOutcomeError](err)
		require.True(t, ok, name)
		require.Equal(t, c.most, unknown.Most, name)
		require.ErrorContains(t, err, "; it is unknown whether it was done", name)
	}
	_, err = client.PurgeDeadLetters(t.Context(), "orders_dead", rows(99))
	require.NoError(t, err, "nothing is committed")
	broken := make(chan error, 1)
	go func() {
		_, err := client.PurgeDeadLetters(t.Context(), "orders_dead", rows(6))
		broken <- err
	}()
	pgtest.Eventually(t, patience, "the commit waits, and its connection is ended", func() bool {
		return get[int](t, pool, "select count(pg_terminate_backend(pid)) from pg_stat_activity where wait_event = 'SyncRep'") > 0
	})
	require.ErrorIs(t, <-broken, pgmq.ErrUnknownOutcome)
	pgtest.Eventually(t, patience, "all of it was done", func() bool {
		return get[int](t, pool, "select count(*) from pgmq.q_orders_dead") == 1 && get[int](t, pool, "select count(*) from pgmq.q_orders") == 2 &&
			get[int](t, pool, "select count(*) from pgmq.q_purged") == 0
	})
}

// What did not come to its commit has certainly changed nothing.
func TestChange_ThatTookTooLongBeforeItsCommitIsCertain(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	client := openAt(t, database, pgmq.Config{})
	storeDeadLetters(t, client, 1)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "lock table pgmq.q_orders_dead in exclusive mode")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = client.PurgeDeadLetters(ctx, "orders_dead", backend.DeadLetterSelection{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, pgmq.ErrUnknownOutcome)
}
