package pgmq_test

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// ownerOf returns the URL of the role that owns the queues, in a database without topics.
func ownerOf(t *testing.T, database string) string {
	t.Helper()
	pool := pgtest.Pool(t, database)
	execute(t, pool, "create table pgmq.ezq_ids (key bytea primary key, until timestamptz not null)")
	execute(t, pool, sqlBlock(t, "create table if not exists pgmq.ezq_pauses"))
	execute(t, pool, "select pgmq.create('ezq_schedules')")
	return pgtest.Role(t, database, grantsOf(t, "ezq_owner")...)
}

// addTopic follows what docs/postgres.md says of a new topic.
func addTopic(t *testing.T, owner string, urls map[string]string) {
	t.Helper()
	client := openAt(t, owner, pgmq.Config{})
	for _, topic := range []string{"orders", "orders" + backend.DeadLetterSuffix} {
		require.NoError(t, client.SubscribeInitialize(topic))
	}
	execute(t, pgtest.Pool(t, owner), forRoles(t, sqlBlock(t, "do $$ declare topic text"), urls))
}

func TestGrants_OfTopicAsDocumented(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	owner, pool := ownerOf(t, database), pgtest.Pool(t, database)
	urls := rolesWithout(t, database, regexp.MustCompile(`[qa]_orders(_dead)? `))
	addTopic(t, owner, urls)
	beginSchedule(t, database)
	for role, use := range documented() {
		if urls[role] == "" { // the owner
			continue
		}
		execute(t, pool, `delete from pgmq.q_orders; delete from pgmq.q_orders_dead; delete from pgmq.ezq_ids; insert into pgmq.q_orders (vt, message) values (now(), '{}')`)
		execute(t, pool, `insert into pgmq.q_orders_dead (vt, message, headers) values (now(), '{}', '{"ezq_queue":"orders","topic_poisoned":"orders"}')`)
		require.NoError(t, use(t, urls[role]), role)
	}
}

// publishers publishes as each role that may, until stop is called, which returns how many it has published.
func publishers(t *testing.T, urls map[string]string) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var published atomic.Int64
	var running sync.WaitGroup
	run := func(role string, send func() error) {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := send(); err != nil {
					t.Errorf("%s: %v", role, err)
					return
				}
				published.Add(1)
			}
		})
	}
	config := pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}}
	plain, deduplicator := openAt(t, urls["ezq_publisher"], config), openAt(t, urls["ezq_deduplicator"], config)
	sender, err := pgx.Connect(t.Context(), urls["ezq_sender"])
	require.NoError(t, err)
	run("publisher", func() error { return plain.Publish("orders", message.NewMessage("1", nil)) })
	n := 0
	run("deduplicator", func() error {
		n++
		condition := []*backend.PublishCondition{once(), unique("k"), replacing("k", 0)}[n%3]
		return deduplicator.Publish("orders", conditional(t.Context(), fmt.Sprint(n), condition, 0))
	})
	run("sender", func() error {
		_, err := sender.Exec(t.Context(), "select pgmq.send_topic('orders', '{}')")
		return err
	})
	return func() int {
		cancel()
		running.Wait()
		require.NoError(t, sender.Close(context.WithoutCancel(t.Context())))
		return int(published.Load())
	}
}

func TestGroup_AddedAsDocumentedFailsNoPublish(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	owner, pool := ownerOf(t, database), pgtest.Pool(t, database)
	urls := rolesWithout(t, database, regexp.MustCompile(`[qa]_orders(_dead)? `))
	addTopic(t, owner, urls)
	stop := publishers(t, urls)

	mailer, sql := group(t, owner, "mailer"), pgtest.Pool(t, owner)
	require.NoError(t, mailer.CreateQueue(t.Context(), "orders", nil))
	execute(t, sql, forRoles(t, sqlBlock(t, "do $$ declare queue text"), urls))
	require.NoError(t, mailer.SubscribeInitialize("orders"))
	queue, err := pgmq.GroupQueueName("orders", "mailer")
	require.NoError(t, err)
	pgtest.Eventually(t, patience, "events in the group", func() bool { return get[int](t, pool, "select count(*) from pgmq.q_"+queue) > 20 })

	audit := forRoles(t, sqlBlock(t, "select pgmq.create('audit')"), urls)
	for _, statement := range regexp.MustCompile(`(?m);$`).Split(audit, -1) {
		execute(t, sql, statement)
	}
	pgtest.Eventually(t, patience, "copies in the audit", func() bool { return get[int](t, pool, "select count(*) from pgmq.q_audit") > 20 })
	require.Positive(t, stop())
}
