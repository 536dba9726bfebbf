package pgmq_test

import (
	"context"
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// publishTo publishes a message to each topic, with the topic as its UUID.
func publishTo(t *testing.T, publisher message.Publisher, topics ...string) {
	t.Helper()
	for _, topic := range topics {
		msg := message.NewMessage(topic, nil)
		msg.Metadata.Set("by", "publishTo")
		require.NoError(t, publisher.Publish(topic, msg))
	}
}

// requireFrom receives the messages that publishTo has published, and acks them.
func requireFrom(t *testing.T, messages <-chan *message.Message, topics ...string) {
	t.Helper()
	for _, topic := range topics {
		msg := receive(t, messages)
		require.Equal(t, topic, msg.UUID)
		require.Equal(t, topic, backend.DeliveryFromContext(msg.Context()).PublishedTo)
		msg.Ack()
	}
}

func TestPattern_GroupGetsTopicsAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	star, hash := group(t, database, "star"), group(t, database, "hash")
	stars, hashes := subscribeTo(t, star, "orders.*"), subscribeTo(t, hash, "orders.#")
	publisher := openAt(t, database, pgmq.Config{})
	require.NoError(t, publisher.SubscribeInitialize("orders")) // as for any topic that no group takes
	publishTo(t, publisher, "orders", "orders.eu", "orders.größe 日本'\\", "orders.eu.paid", "ordersx", "orders.C#", "Orders.eu")
	requireFrom(t, stars, "orders.eu", "orders.größe 日本'\\", "orders.C#")
	requireFrom(t, hashes, "orders.eu", "orders.größe 日本'\\", "orders.eu.paid", "orders.C#")

	pool := pgtest.Pool(t, database)
	require.Equal(t, 5, get[int](t, pool, "select count(*)::int from pgmq.meta"), "those of the groups, and of orders, ordersx and Orders.eu; no queue is filled that no consumer reads")
}

func TestPattern_CoversWhatComesLaterAndTakesNothingAway(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	publisher := openAt(t, database, pgmq.Config{})
	plain, exact := openAt(t, database, pgmq.Config{}), group(t, database, "exact")
	plains, exacts := subscribeTo(t, plain, "t.plain"), subscribeTo(t, exact, "t.exact")
	publishTo(t, publisher, "t.plain", "t.exact")
	all := subscribeTo(t, group(t, database, "all"), "t.*")
	publishTo(t, publisher, "t.plain", "t.exact", "t.new") // although it knew of the others only
	requireReceives(t, plains, "t.plain", "t.plain")
	requireReceives(t, exacts, "t.exact", "t.exact")
	requireFrom(t, all, "t.plain", "t.exact", "t.new")
}

func TestPattern_ReachesEachWayOfPublishing(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	client := group(t, database, "g")
	messages := subscribeTo(t, client, "t.*")
	publisher := openAt(t, database, pgmq.Config{})
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		return publisher.WithTx(tx).Publish("t.a", message.NewMessage("t.a", nil))
	}))
	requireFrom(t, messages, "t.a")

	on := func(topic string, condition *backend.PublishCondition) backend.PublishResult {
		msg := message.NewMessage(topic, nil)
		msg.SetContext(backend.WithPublishCondition(t.Context(), condition))
		require.NoError(t, publisher.Publish(topic, msg))
		result, ok := condition.Result()
		require.True(t, ok)
		return result
	}
	on("t.once", &backend.PublishCondition{Once: true})
	require.Equal(t, backend.PublishExisted, on("t.once", &backend.PublishCondition{Once: true}).Outcome)
	requireFrom(t, messages, "t.once")

	require.NoError(t, client.Close())
	on("t.b", &backend.PublishCondition{UniqueKey: "k"})
	on("t.c", &backend.PublishCondition{UniqueKey: "k"}) // keys are of their topics
	require.Equal(t, backend.PublishReplaced, on("t.b", &backend.PublishCondition{UniqueKey: "k", Replace: true}).Outcome)
	messages = subscribeTo(t, group(t, database, "g"), "t.*")
	requireFrom(t, messages, "t.b", "t.c")

	execute(t, pool, `select pgmq.send_topic('t.d', '"by PGMQ"', '{"ezq_uuid":"by PGMQ"}', 0)`)
	msg := receive(t, messages)
	require.Equal(t, "by PGMQ", msg.UUID)
	require.Empty(t, backend.DeliveryFromContext(msg.Context()).PublishedTo, "PGMQ's own functions do not say it")
	msg.Ack()
}

func TestPattern_WorksInAnyDatabase(t *testing.T) {
	t.Parallel()
	for name, with := range map[string]string{"the encoding is LATIN1": latin1, "the encoding is SQL_ASCII": sqlASCII} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t, with)
			pool := pgtest.Pool(t, database)
			execute(t, pool, "select pgmq.create('x'); insert into pgmq.topic_bindings (pattern, queue_name) values ('é.*', 'x'), ('(.*', 'x')") // past PGMQ's own check
			client := group(t, database, "g")
			messages := subscribeTo(t, client, "t.*")
			require.NoError(t, client.Publish("t.漢", message.NewMessage("1", nil)))
			require.NoError(t, client.Publish("漢.t", message.NewMessage("2", nil)))
			msg := receive(t, messages)
			require.Equal(t, "t.漢", backend.DeliveryFromContext(msg.Context()).PublishedTo)
			msg.Ack()
		})
	}
}

func TestPattern_IsRefusedWhereItWouldGetNothing(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	plain, grouped := openAt(t, database, pgmq.Config{}), group(t, database, "g")
	for _, pattern := range []string{"orders.*", "#", "**", "a.#.b"} {
		_, err := plain.Subscribe(t.Context(), pattern)
		require.ErrorIs(t, err, pgmq.ErrGroupRequired)
		require.ErrorContains(t, err, "SubscriberConfig.Group")
		require.ErrorIs(t, plain.SubscribeInitialize(pattern), pgmq.ErrGroupRequired)
		err = plain.Publish(pattern, message.NewMessage("1", nil))
		require.ErrorIs(t, err, pgmq.ErrRejected)
		require.ErrorIs(t, err, pgmq.ErrInvalidTopic)
		require.ErrorContains(t, err, "publish to a topic that the pattern matches")
	}
	for _, pattern := range []string{"**", "a.#b", "orders*", "größe.*", "*."} {
		_, err := grouped.Subscribe(t.Context(), pattern)
		require.ErrorIs(t, err, pgmq.ErrInvalidTopic, pattern)
		refused := (*backend.RefusedError)(nil)
		require.ErrorAs(t, err, &refused)
		require.ErrorContains(t, err, `"orders.*"`)
	}
	_, err := grouped.Subscribe(t.Context(), "")
	require.ErrorIs(t, err, pgmq.ErrInvalidTopic)
	require.Equal(t, 0, get[int](t, pgtest.Pool(t, database), "select count(*)::int from pgmq.meta"))

	execute(t, pgtest.Pool(t, database), "alter table pgmq.topic_bindings rename to not_yet")
	_, err = group(t, database, "g").Subscribe(t.Context(), "orders.*")
	require.ErrorIs(t, err, pgmq.ErrTooOld)
	require.ErrorContains(t, err, "1.11")
}

func TestPattern_MakesTopicsGrouped(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	all := subscribeTo(t, group(t, database, "all"), "#")
	strict := openAt(t, database, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	publishTo(t, strict, "t") // although it has no queue, and may not create one
	requireFrom(t, all, "t")
	plain := openAt(t, database, pgmq.Config{})
	_, err := plain.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, pgmq.ErrGroupRequired)
	require.NoError(t, plain.SubscribeInitialize("t"))
	publishTo(t, strict, "t")
	requireReceives(t, subscribeTo(t, plain, "t"), "t")
	requireFrom(t, all, "t")
	require.NoError(t, func() error { _, err := plain.Subscribe(t.Context(), "t_dead"); return err }(), "dead letters come to no group")
}

func TestPattern_DeadLettersGoBackToItsGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, other := group(t, database, "g"), group(t, database, "other")
	messages, others := subscribeTo(t, client, "t.*"), subscribeTo(t, other, "t.a")
	publishTo(t, client, "t.a")
	requireReceives(t, others, "t.a")
	msg := receive(t, messages)
	require.True(t, backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "t.*_dead", Metadata: message.Metadata{
		backend.DeadLetterTopic: "t.*", backend.DeadLetterReason: "no",
	}}))
	var letters []backend.FoundDeadLetter
	pgtest.Eventually(t, patience, "a dead letter", func() bool {
		found, err := client.DeadLetters(t.Context(), "t.*_dead", backend.DeadLetterSelection{})
		letters = found
		return err == nil && len(found) == 1
	})
	require.Equal(t, "g", letters[0].Group)
	require.Equal(t, "t.*", letters[0].Topic)
	require.Equal(t, "t.a", letters[0].PublishedTo)
	text, err := json.Marshal(letters[0])
	require.NoError(t, err)
	var again backend.FoundDeadLetter
	require.NoError(t, json.Unmarshal(text, &again))
	require.Equal(t, "t.a", again.PublishedTo)
	done, err := openAt(t, database, pgmq.Config{}).Redrive(t.Context(), "t.*_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Equal(t, 1, done.Moved)
	requireFrom(t, messages, "t.a")
}

func TestPattern_MessagesAreFoundByTopicAndByPattern(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, audit := group(t, database, "g"), group(t, database, "t a")
	require.NoError(t, client.SubscribeInitialize("t.*"))
	require.NoError(t, audit.SubscribeInitialize("#")) // its queue is named like that of a group of t
	require.NoError(t, client.SubscribeInitialize("t.a"))
	publishTo(t, client, "t.a", "t.b")
	exact, err := pgmq.GroupQueueName("t.a", "g")
	require.NoError(t, err)
	count := func(topic string) int {
		found, err := client.Find(t.Context(), topic, backend.Selection{Header: "by", Value: "publishTo"})
		require.NoError(t, err)
		for _, one := range found {
			if own := topic == "t.a" && one.Queue == exact; !own {
				require.Equal(t, one.ID, one.PublishedTo)
			}
		}
		return len(found)
	}
	require.Equal(t, 3, count("t.a"), "the copies of its own group, and of those that take it by a pattern")
	require.Equal(t, 2, count("t.b"))
	require.Equal(t, 2, count("t.*"))
	require.Equal(t, 2, count("#"))
	require.Equal(t, 0, count("t"))
	cancelled, err := client.Cancel(t.Context(), "t.*", backend.Selection{ID: "t.b"})
	require.NoError(t, err)
	require.Equal(t, backend.Cancelled{Removed: 1}, cancelled)
	require.Equal(t, 1, count("t.*"))
	require.Equal(t, 1, count("t.b"))
	cancelled, err = client.Cancel(t.Context(), "t.b", backend.Selection{ID: "t.b"})
	require.NoError(t, err)
	require.Equal(t, backend.Cancelled{Removed: 1}, cancelled)
	require.Equal(t, 1, count("#"))
	moved, err := client.Reschedule(t.Context(), "t.a", backend.Selection{ID: "t.a"}, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, 3, moved.Moved)
	_, err = client.PurgeQueue(t.Context(), "t.*")
	require.NoError(t, err)
	require.Equal(t, 0, count("t.*"))
	_, err = client.Find(t.Context(), "t.*", backend.Selection{UniqueKey: "k"})
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	require.ErrorContains(t, err, "ask for the topic that the message was published to")
}

func TestPattern_PauseIsThatOfItsGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := group(t, database, "g")
	messages := subscribeTo(t, client, "t.*")
	_, err := client.Pause(t.Context(), "t.*", backend.Pause{By: "a test", Reason: "a test"})
	require.NoError(t, err)
	pgtest.Eventually(t, patience, "the pause", func() bool { return client.Stats()["t.*"].TopicPause != nil })
	publishTo(t, client, "t.a")
	resumed, err := client.Resume(t.Context(), "t.*")
	require.NoError(t, err)
	require.True(t, resumed)
	requireFrom(t, messages, "t.a")
	require.Equal(t, "g", client.Stats()["t.*"].Group)
	queues, err := client.Queues(t.Context())
	require.NoError(t, err)
	require.Len(t, queues, 1)
	require.Equal(t, [2]string{"t.*", "g"}, [2]string{queues[0].Topic, queues[0].Group})
	_, err = client.Metrics(t.Context(), "t.*")
	require.NoError(t, err)
}

func TestPattern_IsBoundAgainWhenUnbound(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	client := group(t, database, "g")
	require.NoError(t, client.SubscribeInitialize("t.*"))
	bindings := func() int { return get[int](t, pool, "select count(*)::int from pgmq.topic_bindings") }
	require.Equal(t, 2, bindings())
	for _, one := range []string{"pattern = 't.*'", "pattern <> 't.*'", "true"} {
		execute(t, pool, "delete from pgmq.topic_bindings where "+one)
		require.NoError(t, client.SubscribeInitialize("t.*"))
		require.Equal(t, 2, bindings(), one)
	}
	publishTo(t, client, "t.a")
	client.LookAtBindingsEvery(time.Millisecond)
	messages := subscribeTo(t, client, "t.*")
	requireFrom(t, messages, "t.a")
	execute(t, pool, "delete from pgmq.topic_bindings where pattern = 't.*'")
	pgtest.Eventually(t, patience, "its consumer binds it again", func() bool { return bindings() == 2 })
	publishTo(t, client, "t.a")
	requireFrom(t, messages, "t.a")
}

func TestPattern_IgnoresForeignOnes(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('audit'); select pgmq.bind_topic('orders.#', 'audit')")
	client := openAt(t, database, pgmq.Config{})
	publishTo(t, client, "orders.eu", "orders.größe")
	requireReceives(t, subscribeTo(t, client, "orders.eu"), "orders.eu")
	requireReceives(t, subscribeTo(t, client, "orders.größe"), "orders.größe")
	require.Equal(t, 1, get[int](t, pool, "select count(*)::int from pgmq.q_audit where not headers ? 'ezq_topic'"), "as pgmq.send_topic would find it")
}

func TestPattern_NamesMissingGrants(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, openAt(t, database, pgmq.Config{}).SubscribeInitialize("t.a"))
	_, err := group(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant create on schema pgmq to {role}",
		"grant select, insert on pgmq.meta to {role}", "grant select on pgmq.topic_bindings to {role}"), "g").Subscribe(t.Context(), "t.*")
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, "GRANT SELECT, INSERT ON pgmq.topic_bindings TO the role")

	require.NoError(t, group(t, database, "g").SubscribeInitialize("t.*"))
	name, err := pgmq.GroupQueueName("t.*", "g")
	require.NoError(t, err)
	own, err := pgmq.QueueName("t.a")
	require.NoError(t, err)
	publisher := openAt(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select on pgmq.topic_bindings to {role}",
		"grant insert on pgmq.q_"+own+" to {role}"), pgmq.Config{})
	err = publisher.Publish("t.a", message.NewMessage("1", nil))
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorIs(t, err, pgmq.ErrRejected)
	require.ErrorContains(t, err, `GRANT INSERT (vt, message, headers) ON "pgmq"."q_`+name+`" TO`)
	require.NotContains(t, err.Error(), "unbind", "it is a group's")
	execute(t, pgtest.Pool(t, database), "grant insert (vt, message, headers) on pgmq.q_"+name+" to public")
	publishTo(t, publisher, "t.a")
	requireFrom(t, subscribeTo(t, group(t, database, "g"), "t.*"), "t.a")
}

func TestPattern_TopicIsNotBelievedUnlessItMatches(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := group(t, database, "g")
	require.NoError(t, client.SubscribeInitialize("t.*"))
	name, err := pgmq.GroupQueueName("t.*", "g")
	require.NoError(t, err)
	pool := pgtest.Pool(t, database)
	for _, topic := range []string{`"billing"`, `"t.%zz"`, `"t.%00"`, `1`, `"t.a"`} {
		_, err := pool.Exec(context.WithoutCancel(t.Context()), "insert into pgmq.q_"+name+" (vt, message, headers) values (clock_timestamp(), '1', jsonb_build_object('ezq_topic', $1::jsonb))", topic)
		require.NoError(t, err)
	}
	messages := subscribeTo(t, client, "t.*")
	for _, want := range []string{"", "", "", "", "t.a"} {
		msg := receive(t, messages)
		require.Equal(t, want, backend.DeliveryFromContext(msg.Context()).PublishedTo)
		require.Empty(t, msg.Metadata)
		msg.Ack()
	}
}

// The block that docs/postgres.md has for patterns grants what a publisher and a consumer need.
func TestPattern_AddedAsDocumentedFailsNoPublish(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	owner := ownerOf(t, database)
	urls := rolesWithout(t, database, regexp.MustCompile(`[qa]_orders(_dead)? `))
	block := forRoles(t, sqlBlock(t, "convert_to('orders.*', 'UTF8')"), urls)
	others := []string{"Mailer", "mailer 2"}
	for _, name := range others {
		require.NoError(t, group(t, owner, name).CreateQueue(t.Context(), "orders.*", nil))
	}
	mailer := group(t, owner, "mailer")
	require.NoError(t, mailer.CreateQueue(t.Context(), "orders.*", nil))
	publisher := openAt(t, urls["ezq_publisher"], pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	require.ErrorIs(t, publisher.Publish("orders.eu", message.NewMessage("1", nil)), pgmq.ErrQueueNotFound, "nothing takes it yet")
	execute(t, pgtest.Pool(t, owner), block)
	require.NoError(t, mailer.SubscribeInitialize("orders.*"))
	publishTo(t, publisher, "orders.eu")
	consumer := openAt(t, urls["ezq_consumer"], pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "mailer", NoCreate: true}})
	requireFrom(t, subscribeTo(t, consumer, "orders.*"), "orders.eu")
	for _, name := range others {
		require.NoError(t, group(t, owner, name).SubscribeInitialize("orders.*"))
		require.ErrorIs(t, publisher.Publish("orders.eu", message.NewMessage("2", nil)), pgmq.ErrPermission, "the block is for one group")
		_, err := group(t, owner, name).DropQueue(t.Context(), "orders.*")
		require.NoError(t, err)
	}
}
