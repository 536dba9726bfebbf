package pgmq_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// Any role that may log in can fill PostgreSQL's queue of notifications, of 8 GB. A transaction that has notified
// then fails to commit, so none notifies that publishes while the queue is half full.
func TestNotify_IsLeftOutWhileServersQueueIsHalfFull(t *testing.T) {
	t.Parallel()
	inTx := func(publish func(publisher *pgmq.Publisher, topic string) error) func(*testing.T, *pgmq.Client, *pgxpool.Pool, string) {
		return func(t *testing.T, client *pgmq.Client, pool *pgxpool.Pool, topic string) {
			t.Helper()
			require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return publish(client.WithTx(tx), topic) }))
		}
	}
	for name, publish := range map[string]func(t *testing.T, client *pgmq.Client, pool *pgxpool.Pool, topic string){
		"in a transaction": inTx(func(publisher *pgmq.Publisher, topic string) error {
			return publisher.Publish(topic, message.NewMessage("a", nil))
		}),
		"in a transaction, with a condition": inTx(func(publisher *pgmq.Publisher, topic string) error {
			msg := message.NewMessage("a", nil)
			msg.SetContext(backend.WithPublishCondition(t.Context(), &backend.PublishCondition{UniqueKey: "k"}))
			return publisher.Publish(topic, msg)
		}),
		"by itself": func(t *testing.T, client *pgmq.Client, _ *pgxpool.Pool, topic string) {
			t.Helper()
			require.NoError(t, client.Publish(topic, message.NewMessage("a", nil)))
			require.NoError(t, client.Close()) // it notifies beside the publish, and before it is closed
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			pool := pgtest.Pool(t, database)
			listener, err := pgx.Connect(t.Context(), database)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, listener.Close(t.Context())) })
			_, err = listener.Exec(t.Context(), "listen ezq")
			require.NoError(t, err)
			execute(t, pool, "alter function pg_catalog.pg_notification_queue_usage() rename to pg_notification_queue_usage_in_truth")
			for i, usage := range []string{"0.6", "0.4"} {
				topic := fmt.Sprint("t", i)
				execute(t, pool, `create or replace function pg_catalog.pg_notification_queue_usage() returns float8 language sql as 'select `+usage+`::float8'`)
				client := openAt(t, database, pgmq.Config{})
				require.NoError(t, client.SubscribeInitialize(topic))
				publish(t, client, pool, topic)
				requireCount(t, pool, "pgmq.q_"+topic, 1)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for payload := ""; payload != "t1"; { // without one, clients check their own listeners
				notification, err := listener.WaitForNotification(ctx)
				require.NoError(t, err)
				payload = notification.Payload
				require.NotEqual(t, "t0", payload)
			}
		})
	}
}
