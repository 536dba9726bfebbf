package pgmq_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestServerSettings_DoNotChangeQueue(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"quote_all_identifiers=on", "search_path=", "array_nulls=off"} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			client := openAt(t, pgtest.Database(t)+"&"+setting, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Archive: true}})
			messages := subscribe(t, client)
			publish(t, client, "a", "b")
			requireReceives(t, messages, "a", "b")
		})
	}
}

func TestError_TellsReadOnlyServerFromStandby(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, openAt(t, database, pgmq.Config{}).SubscribeInitialize("t"))
	client := openAt(t, database+"&default_transaction_read_only=on", pgmq.Config{})
	_, err := client.Subscribe(t.Context(), "t")
	require.ErrorContains(t, err, "default_transaction_read_only is on")
	require.NotContains(t, err.Error(), "standby")
	err = client.Publish("t", message.NewMessage("1", nil))
	require.ErrorIs(t, err, pgmq.ErrRejected)
	require.ErrorContains(t, err, "pg_is_in_recovery()")
}

func TestWithTx_TellsReadOnlyTransactionFromReadOnlyServer(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
	require.NoError(t, client.SubscribeInitialize("t"))
	err := pgx.BeginTxFunc(t.Context(), pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		return client.WithTx(tx).Publish("t", message.NewMessage("1", nil))
	})
	require.ErrorIs(t, err, pgmq.ErrRejected)
	require.ErrorContains(t, err, "begin the transaction read-write")
}

func TestKeyStore_ReportsMissingSchema(t *testing.T) {
	t.Parallel()
	_, err := openAt(t, pgtest.Database(t)+"&search_path=", pgmq.Config{}).KeyStore(t.Context(), "ezq_seen")
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	require.ErrorContains(t, err, "search_path")
}

func TestOpen_ReportsWrongSessionAttrsWithoutBlamingPassword(t *testing.T) {
	t.Parallel()
	_, err := pgmq.Open(t.Context(), pgtest.Database(t)+"&target_session_attrs=standby", nil)
	require.ErrorIs(t, err, pgmq.ErrUnreachable)
	require.ErrorContains(t, err, "target_session_attrs")
}

// All handlers have a connection each, and wait for a second one.
func TestTxMiddleware_ReportsExhaustedPool(t *testing.T) {
	t.Parallel()
	client := openAt(t, pgtest.Database(t)+"&pool_max_conns=2", pgmq.Config{Publisher: pgmq.PublisherConfig{NoNotify: true}})
	store, err := client.KeyStore(t.Context(), "ezq_seen")
	require.NoError(t, err)
	messages := subscribe(t, client)
	uses := map[string]func(msg *message.Message) error{
		"a publisher": func(msg *message.Message) error {
			inside := message.NewMessageWithContext(msg.Context(), "1", nil)
			return errors.Join(client.Publish("other", inside), client.WithTx(pgmq.TxFromContext(msg.Context())).Publish("t2", inside))
		},
		"a store": func(msg *message.Message) error {
			_, err := store.Seen(msg.Context(), "key "+msg.UUID)
			return err
		},
	}
	for name, use := range uses {
		publish(t, client, "a", "b")
		var both, done sync.WaitGroup
		both.Add(2)
		results := make(chan error, 2)
		start := time.Now()
		for range 2 {
			msg := receive(t, messages)
			done.Go(func() {
				_, err := client.TxMiddleware()(func(msg *message.Message) ([]*message.Message, error) {
					both.Done()
					both.Wait()
					return nil, use(msg)
				})(msg)
				msg.Ack()
				results <- err
			})
		}
		done.Wait()
		// The first one that is told makes way, perhaps just in time for the other.
		err := errors.Join(<-results, <-results)
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig, name)
		require.ErrorContains(t, err, "pgmq.TxFromContext(ctx)", name)
		require.Less(t, time.Since(start), 25*time.Second, "%s: not the 30 seconds that a publish may take", name)
	}
}

func TestError_HidesInvalidURLOfPool(t *testing.T) {
	t.Parallel()
	config := pgtest.Pool(t, pgtest.Database(t)).Config()
	config.ConnConfig.RuntimeParams["postgress://app:hunter2@db.example:5432/shop?sslmode"] = "disable" // as pgx reads it
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(t.Context(), "select")
	require.ErrorContains(t, err, "hunter2", "the server quotes it")

	client, err := pgmq.New(pool, nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	_, listed := client.Queues(t.Context())
	_, subscribed := client.Subscribe(t.Context(), "t")
	for _, err := range []error{listed, subscribed, client.Publish("t", message.NewMessage("1", nil))} {
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
		require.ErrorContains(t, err, "SQLSTATE 42602")
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Error("failed", "error", err)
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v %+v", err, err, err, *pg)+log.String(), "hunter2")
	}
}
