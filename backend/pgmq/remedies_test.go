package pgmq_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// Who follows a remedy that names the queue of the topic creates that, and then publishers
// fail that may not insert there.
func TestRemedy_NamesQueueOfGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	require.NoError(t, group(t, database, "g").SubscribeInitialize("t"))
	own := get[string](t, pool, "select queue_name from pgmq.meta where queue_name like 't\\_g\\_%'")
	config := pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "g", NoCreate: true, Archive: true}}
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select on pgmq.topic_bindings to {role}")
	client := openAt(t, role, config)
	remedyOf := func(err error) string {
		var failed *pgmq.Error
		require.ErrorAs(t, err, &failed)
		require.ErrorIs(t, err, pgmq.ErrPermission)
		return failed.Remedy
	}

	_, err := client.Metrics(t.Context(), "t")
	require.Equal(t, `let its owner run GRANT SELECT (vt) ON "pgmq"."q_`+own+`" TO the role`, remedyOf(err))
	_, err = client.PurgeQueue(t.Context(), "t")
	require.Equal(t, `let its owner run GRANT SELECT, UPDATE, DELETE ON "pgmq"."q_`+own+`" TO the role`, remedyOf(err))

	execute(t, pool, `grant all on pgmq."q_`+own+`", pgmq."a_`+own+`" to public`)
	log := &logRecorder{}
	config.Logger = slog.New(slog.NewTextHandler(log, nil))
	messages := subscribe(t, openAt(t, role, config))
	publish(t, openAt(t, database, pgmq.Config{}), "1")
	msg := receive(t, messages)
	execute(t, pool, `revoke all on pgmq."q_`+own+`" from public`)
	msg.Ack()
	log.requireLogged(t, `GRANT SELECT, UPDATE, DELETE ON \"pgmq\".\"q_`+own+`\" TO the role`)
	require.NotContains(t, log.String(), "pgmq.create")
	require.NotContains(t, log.String(), `q_t\"`)
}

// pgmq.create would make a queue that nothing is published to.
func TestRemedy_SuggestsCheckingMisspelledGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, group(t, database, "billing").SubscribeInitialize("t"))
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select on pgmq.topic_bindings to {role}")
	client := openAt(t, role, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "biling", NoCreate: true}})
	_, err := client.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	require.ErrorContains(t, err, "check the name of the Group")
	require.NotContains(t, err.Error(), "pgmq.create")

	client = openAt(t, role, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "biling"}})
	_, err = client.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, "SubscribeInitialize")
	require.NotContains(t, err.Error(), "pgmq.create")
}

func TestRemedy_AsksForGroupOfGroupedTopic(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, group(t, database, "g").SubscribeInitialize("t"))
	client := openAt(t, database, pgmq.Config{})
	_, measured := client.Metrics(t.Context(), "t")
	_, purged := client.PurgeQueue(t.Context(), "t")
	_, replayed := client.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	_, listed := client.DeadLetters(t.Context(), "t", backend.DeadLetterSelection{Limit: 1})
	_, read := client.ReadDeadLetter(t.Context(), "t", 1, 0)
	_, emptied := purgeDeadLetters(t.Context(), client, "t", "t")
	for remedy, failures := range map[string][]error{
		"set SubscriberConfig.Group to one of them": {measured, purged, replayed}, `ask for "t_dead"`: {listed, read, emptied},
	} {
		for _, err := range failures {
			require.ErrorIs(t, err, pgmq.ErrGroupRequired)
			require.ErrorContains(t, err, remedy)
			require.NotContains(t, err.Error(), "pgmq.create")
		}
	}
}

// A consumer needs no right to pgmq.meta: that it lacks one is not what is wrong.
func TestRemedy_SaysThatGroupIsNotBound(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, group(t, database, "g").SubscribeInitialize("t"))
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select, update, delete on all tables in schema pgmq to {role}",
		"revoke all on pgmq.meta from {role}")
	log := &logRecorder{}
	client := openAt(t, role, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{Group: "g", NoCreate: true}})
	client.LookAtBindingsEvery(10 * time.Millisecond)
	messages := subscribe(t, client)
	execute(t, pgtest.Pool(t, database), "delete from pgmq.topic_bindings")
	log.requireLogged(t, "is not bound to the topic, so what is published does not come to it, and the role may not bind it: permission denied for table meta")
	_, err := group(t, role, "g").Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, "is not bound to the topic")
	require.ErrorContains(t, err, "let its owner bind it, with SubscribeInitialize")

	require.NoError(t, group(t, database, "g").SubscribeInitialize("t"))
	publish(t, openAt(t, database, pgmq.Config{}), "1")
	receive(t, messages).Ack()
}

// To unbind the queue of a group costs it its events.
func TestRemedy_UnbindsNoGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, group(t, database, "g").SubscribeInitialize("t"))
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select on pgmq.topic_bindings to {role}")
	err := openAt(t, role, pgmq.Config{}).Publish("t", message.NewMessage("1", nil))
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, "select * from pgmq.test_routing('t') shows what is bound")
	require.NotContains(t, err.Error(), "unbind_topic")
	execute(t, pgtest.Pool(t, database), "select pgmq.create('audit'), pgmq.bind_topic('#', 'audit')")
	err = openAt(t, role, pgmq.Config{}).Publish("t", message.NewMessage("1", nil))
	require.ErrorContains(t, err, "pgmq.unbind_topic unbinds a queue that is no group's")
}

// These calls create no queue, and that of a typo is not wanted.
func TestRemedy_SuggestsCheckingMisspelledTopic(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	failures := failuresOf(t, client, "nosuch")
	for _, err := range failures {
		require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
		require.ErrorContains(t, err, "; check the topic: Queues, and ezq queues, list the queues that are there")
		require.NotContains(t, err.Error(), "reate")
	}
	for name, err := range failuresOf(t, group(t, database, "g"), "nosuch") {
		require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
		require.NotContains(t, err.Error(), "reate")
		if name == "measured" || name == "purged" || name == "tuned" {
			require.ErrorContains(t, err, "; check the topic and the Group: Queues, and ezq queues, list the queues that are there")
		}
	}
	config := pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}}
	err := openAt(t, database, config).Publish("nosuch", message.NewMessage("1", nil))
	require.ErrorContains(t, err, "create it with SELECT pgmq.create('nosuch'), or leave NoCreate unset")
}

func failuresOf(t *testing.T, client *pgmq.Client, topic string) map[string]error {
	t.Helper()
	_, measured := client.Metrics(t.Context(), topic)
	_, purged := client.PurgeQueue(t.Context(), topic)
	_, listed := client.DeadLetters(t.Context(), topic, backend.DeadLetterSelection{Limit: 1})
	_, read := client.ReadDeadLetter(t.Context(), topic, 1, 0)
	_, emptied := purgeDeadLetters(t.Context(), client, topic, "t")
	_, redriven := redrive(t.Context(), client, topic, 1, "t")
	_, shown := client.Origins(t.Context(), topic, backend.DeadLetterSelection{Topics: []string{"t"}})
	return map[string]error{
		"measured": measured, "purged": purged, "listed": listed, "read": read, "emptied": emptied, "redriven": redriven, "shown": shown,
		"tuned": client.Tune(t.Context(), topic, nil),
	}
}

func TestRemedy_NamesGrantForListingQueues(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, openAt(t, database, pgmq.Config{}).SubscribeInitialize("t"))
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}; grant select, update, delete on pgmq.q_t to {role}")
	client := openAt(t, role, pgmq.Config{})
	_, listed := client.Queues(t.Context())
	_, measured := client.AllMetrics(t.Context())
	for _, err := range []error{listed, measured} {
		require.ErrorIs(t, err, pgmq.ErrPermission)
		require.ErrorContains(t, err, "; let its owner run GRANT SELECT ON pgmq.meta TO the role")
		require.NotContains(t, err.Error(), "SubscribeInitialize")
	}
}

// What is not there, or may not be used, is the table that PostgreSQL names.
func TestDeadLetter_WhenRefusedNamesTable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ spoil, remedy string }{
		"nothing may be deleted from the source": {"revoke delete on pgmq.q_t from public", `GRANT DELETE ON \"pgmq\".\"q_t\" TO the role`},
		"nothing may be inserted": {
			"revoke insert on pgmq.q_t_dead from public", `GRANT INSERT (vt, message, headers) ON \"pgmq\".\"q_t_dead\" TO the role`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			pool := pgtest.Pool(t, database)
			execute(t, pool, "select pgmq.create('t'), pgmq.create('t_dead'); grant all on all tables in schema pgmq to public")
			log := &logRecorder{}
			client := openAt(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}"), pgmq.Config{
				Logger: slog.New(slog.NewTextHandler(log, nil)), Subscriber: pgmq.SubscriberConfig{NoCreate: true},
			})
			messages := subscribe(t, client)
			publish(t, client, "1", "2")
			first, second := receive(t, messages), receive(t, messages)
			target := backend.DeadLetterTarget{Topic: "t_dead", Metadata: message.Metadata{backend.DeadLetterReason: "no"}}
			backend.DeadLetter(first, target)
			requireCount(t, pool, "pgmq.q_t_dead", 1)
			execute(t, pool, test.spoil)
			backend.DeadLetter(second, target)
			log.requireLogged(t, test.remedy)
			require.NotContains(t, log.String(), "pgmq.create")
		})
	}
}

// The trigger of pgmq.enable_notify_insert writes with the rights of the publisher, who lacks those to another table than the queue.
func TestPublish_NamesGrantOfTheTriggerThatNotifies(t *testing.T) {
	t.Parallel()
	database := ordersDatabase(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.enable_notify_insert('orders')")
	url := pgtest.Role(t, database, grantsOf(t, "ezq_publisher")...)
	client := openAt(t, url, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	err := client.Publish("orders", message.NewMessage("1", []byte("{}")))
	var refused *pgmq.Error
	require.ErrorAs(t, err, &refused)
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.NotContains(t, refused.Remedy, "INSERT")
	grant := refused.Remedy[strings.Index(refused.Remedy, "GRANT "):]
	grant = grant[:strings.Index(grant, " the role")] + " " + roleOf(t, url)
	execute(t, pool, grant)
	require.NoError(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))), grant)
}
