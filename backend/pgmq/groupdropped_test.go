package pgmq_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// A group's queue gets nothing before it is bound, which the drop has undone, and a publisher that
// creates a queue creates the topic's own.
func TestGroup_RecreatesDroppedQueue(t *testing.T) {
	t.Parallel()
	name, err := pgmq.GroupQueueName("t", "mail")
	require.NoError(t, err)
	for how, sql := range map[string]string{
		"the queue is dropped":                        "select pgmq.drop_queue('%[1]s')",
		"the queue is dropped, and created by others": "select pgmq.drop_queue('%[1]s'); select pgmq.create('%[1]s')",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			database, log := pgtest.Database(t), &logRecorder{}
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

func TestGroup_WithNoCreateNamesRemedyForDroppedQueue(t *testing.T) {
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
	require.ErrorContains(t, failing, "let the owner declare it, with SubscribeInitialize of a program that has that Group")
	require.Zero(t, get[int](t, pool, "select count(*) from pgmq.meta"))

	require.NoError(t, owner.SubscribeInitialize("t"))
	publish(t, openAt(t, database, pgmq.Config{}), "after")
	requireReceives(t, messages, "after")
}

// The own queue that a publisher has created meanwhile has what the group has missed, and gets the rest, too.
func TestGroup_SaysWhereMissedMessagesAre(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &bytes.Buffer{}
	pool, name := pgtest.Pool(t, database), groupQueueName(t)
	mail := openAt(t, database, pgmq.Config{Logger: slog.New(slog.NewJSONHandler(log, nil)), Subscriber: pgmq.SubscriberConfig{Group: "mail"}})
	require.NoError(t, mail.SubscribeInitialize("t"))
	store, err := mail.Store(t.Context(), "t")
	require.NoError(t, err)
	execute(t, pool, "select pgmq.drop_queue('"+name+"')")
	publisher := openAt(t, database, pgmq.Config{})
	publish(t, publisher, "meanwhile")
	_, err = store.Claim(t.Context(), nil, 10, time.Minute)
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	require.Empty(t, take(t, store))
	publish(t, publisher, "after")

	require.NotContains(t, log.String(), "was not bound to the topic until now")
	warning := logged(t, log.String(), "the topic has a queue of its own, which gets every message")
	require.Equal(t, "WARN", warning["level"])
	require.Equal(t, "t", warning["queue"])
	require.EqualValues(t, 1, warning["waiting"])
	require.Contains(t, warning["remedy"], `DropQueue(ctx, "t")`)
	move, ok := warning["move"].(string)
	require.True(t, ok)
	execute(t, pool, move)
	var found []string
	for _, lease := range take(t, store) {
		found = append(found, lease.Message.UUID)
	}
	require.ElementsMatch(t, []string{"meanwhile", "after"}, found)
	requireCount(t, pool, "pgmq.q_t", 1)
}

func TestGroup_BindsAgainWhenUnbound(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool, name := pgtest.Pool(t, database), groupQueueName(t)
	mail := openAt(t, database, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{Group: "mail"}})
	mail.LookAtBindingsEvery(time.Millisecond)
	messages := subscribe(t, mail)
	execute(t, pool, "select pgmq.unbind_topic('t', '"+name+"')")
	requireBound(t, pool, name)
	publish(t, openAt(t, database, pgmq.Config{}), "after")
	requireReceives(t, messages, "after")
	log.requireLogged(t, "the queue of the group was unbound from the topic")
}

// With the row of pgmq.meta goes the binding, and pgmq.bind_topic binds no queue that has none.
func TestGroup_BindsAgainWithoutItsRowInMeta(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool, name := pgtest.Pool(t, database), groupQueueName(t)
	mail := openAt(t, database, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{Group: "mail"}})
	mail.LookAtBindingsEvery(time.Millisecond)
	messages := subscribe(t, mail)
	execute(t, pool, "delete from pgmq.meta where queue_name = '"+name+"'")
	requireBound(t, pool, name)
	publish(t, openAt(t, database, pgmq.Config{}), "after")
	requireReceives(t, messages, "after")
	log.requireLogged(t, "the queue of the group was unbound from the topic")
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.meta where queue_name = '"+name+"'"))
}

func TestGroup_ReportsThatItHasNoRowInMeta(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool, name := pgtest.Pool(t, database), groupQueueName(t)
	require.NoError(t, group(t, database, "mail").SubscribeInitialize("t"))
	mail := openAt(t, database, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{Group: "mail", NoCreate: true}})
	mail.LookAtBindingsEvery(time.Millisecond)
	messages := subscribe(t, mail)
	execute(t, pool, "delete from pgmq.meta where queue_name = '"+name+"'")
	pgtest.Eventually(t, patience, "the subscription says why it gets nothing", func() bool { return mail.Stats()["t"].Failing != nil })
	require.ErrorContains(t, mail.Stats()["t"].Failing, "SELECT pgmq.create('"+name+"')")
	require.NotContains(t, log.String(), "gets messages again")

	execute(t, pool, "select pgmq.create('"+name+"')")
	requireBound(t, pool, name)
	publish(t, openAt(t, database, pgmq.Config{}), "after")
	requireReceives(t, messages, "after")
}

// Another table of the same queue has missed nothing.
func TestGroup_ThatWasNotUnboundDoesNotSaySo(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool, name := pgtest.Pool(t, database), groupQueueName(t)
	mail := openAt(t, database, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{Group: "mail"}})
	messages := subscribe(t, mail)
	execute(t, pool, "alter table pgmq.q_"+name+" drop column last_read_at")
	publish(t, openAt(t, database, pgmq.Config{}), "after")
	requireReceives(t, messages, "after")
	require.NotContains(t, log.String(), "did not come to it")
}

func TestGroup_ReportsThatItMayNotBind(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool, name := pgtest.Pool(t, database), groupQueueName(t)
	require.NoError(t, group(t, database, "mail").SubscribeInitialize("t"))
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select on pgmq.topic_bindings to {role}",
		"grant select, update, delete on pgmq.q_"+name+" to {role}")
	log := &logRecorder{}
	mail := openAt(t, role, pgmq.Config{Logger: slog.New(slog.NewJSONHandler(log, nil)), Subscriber: pgmq.SubscriberConfig{Group: "mail", NoCreate: true}})
	mail.LookAtBindingsEvery(time.Millisecond)
	messages := subscribe(t, mail)
	execute(t, pool, "select pgmq.unbind_topic('t', '"+name+"')")
	pgtest.Eventually(t, patience, "the subscription says why it gets nothing", func() bool { return mail.Stats()["t"].Failing != nil })
	require.ErrorContains(t, mail.Stats()["t"].Failing, "SubscribeInitialize of a program that has the same Group")
	publish(t, openAt(t, database, pgmq.Config{}), "meanwhile") // and creates the topic's own queue

	ownerLog := &bytes.Buffer{}
	owner := openAt(t, database, pgmq.Config{Logger: slog.New(slog.NewJSONHandler(ownerLog, nil)), Subscriber: pgmq.SubscriberConfig{Group: "mail"}})
	require.NoError(t, owner.SubscribeInitialize("t"))
	publish(t, openAt(t, database, pgmq.Config{}), "after")
	requireReceives(t, messages, "after")

	bound := logged(t, ownerLog.String(), "the group was not bound to the topic until now")
	require.EqualValues(t, 1, bound["waiting"])
	log.requireLogged(t, "the topic has a queue of its own, which gets every message")
	waits := logged(t, log.String(), "the topic has a queue of its own, which gets every message")
	for _, record := range []map[string]any{bound, waits} {
		require.Contains(t, record["remedy"], `DropQueue(ctx, "t")`)
	}
	require.Equal(t, bound["move"], waits["move"])
	move, ok := waits["move"].(string)
	require.True(t, ok)
	execute(t, pool, move)
	requireReceives(t, messages, "meanwhile")
}

func groupQueueName(t *testing.T) string {
	t.Helper()
	name, err := pgmq.GroupQueueName("t", "mail")
	require.NoError(t, err)
	return name
}

// logged returns the attributes of the record in a JSON log that has this message.
func logged(t *testing.T, log, message string) (attributes map[string]any) {
	t.Helper()
	for line := range strings.Lines(log) {
		if strings.Contains(line, message) {
			require.NoError(t, json.Unmarshal([]byte(line), &attributes))
			return attributes
		}
	}
	require.Contains(t, log, message)
	return nil
}

func requireBound(t *testing.T, pool *pgxpool.Pool, queue string) {
	t.Helper()
	pgtest.Eventually(t, patience, "the queue is bound to its topic again", func() bool {
		return get[bool](t, pool, "select exists (select from pgmq.topic_bindings where queue_name = '"+queue+"')")
	})
}
