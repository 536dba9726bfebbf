package pgmq_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// A group's queue gets nothing before it is bound, which the drop has undone, and a publisher that
// creates a queue creates the topic's own.
func TestTheDroppedQueueOfAGroupComesBackByItself(t *testing.T) {
	t.Parallel()
	name, err := pgmq.GroupQueueName("t", "mail")
	require.NoError(t, err)
	for how, sql := range map[string]string{
		"dropped":                        "select pgmq.drop_queue('%[1]s')",
		"dropped, and created by others": "select pgmq.drop_queue('%[1]s'); select pgmq.create('%[1]s')",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			database, log := pgtest.Database(t), &everything{}
			pool := pgtest.Pool(t, database)
			mail := openAt(t, database, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{Group: "mail"}})
			messages := subscribe(t, mail)
			publisher := openAt(t, database, pgmq.Config{})
			publish(t, publisher, "before")
			requireReceives(t, messages, "before")

			execute(t, pool, fmt.Sprintf(sql, name))
			requireBound(t, pool, name)
			publish(t, publisher, "after")
			requireReceives(t, messages, "after")
			require.NoError(t, mail.Stats()["t"].Failing)
			log.requireLogged(t, "the queue of the group was dropped, and gets messages again")
		})
	}
}

func TestTheDroppedQueueOfAGroupThatMayNotBeCreatedSaysWhoDoes(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool, owner := pgtest.Pool(t, database), group(t, database, "mail")
	require.NoError(t, owner.SubscribeInitialize("t"))
	mail := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "mail", NoCreate: true}})
	messages := subscribe(t, mail)
	existed, err := owner.DropQueue(t.Context(), "t")
	require.NoError(t, err)
	require.True(t, existed)

	pgtest.Eventually(t, patience, "the subscription says why it gets nothing", func() bool { return mail.Stats()["t"].Failing != nil })
	failing := mail.Stats()["t"].Failing
	require.ErrorIs(t, failing, pgmq.ErrQueueNotFound)
	require.ErrorContains(t, failing, "let the owner declare its queue, with SubscribeInitialize of a program that has that Group")
	require.Zero(t, get[int](t, pool, "select count(*) from pgmq.meta"))

	require.NoError(t, owner.SubscribeInitialize("t"))
	publish(t, openAt(t, database, pgmq.Config{}), "after")
	requireReceives(t, messages, "after")
}

func requireBound(t *testing.T, pool *pgxpool.Pool, queue string) {
	t.Helper()
	pgtest.Eventually(t, patience, "the queue is bound to its topic again", func() bool {
		return get[bool](t, pool, "select exists (select from pgmq.topic_bindings where queue_name = '"+queue+"')")
	})
}
