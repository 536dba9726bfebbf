package pgmq_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func group(t *testing.T, database, name string) *pgmq.Client {
	t.Helper()
	return openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: name}})
}

func requireReceives(t *testing.T, messages <-chan *message.Message, uuids ...string) {
	t.Helper()
	for _, uuid := range uuids {
		msg := receive(t, messages)
		require.Equal(t, uuid, msg.UUID)
		msg.Ack()
	}
}

func TestGroup_GetsEveryMessageOnce(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	mail, bills := group(t, database, "mail"), group(t, database, "Bills & more")
	require.NoError(t, mail.SubscribeInitialize("t"))
	require.NoError(t, bills.SubscribeInitialize("t"))
	publisher := openAt(t, database, pgmq.Config{})
	publish(t, publisher, "a", "b")

	pool := pgtest.Pool(t, database)
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		return publisher.WithTx(tx).Publish("t", message.NewMessage("in a transaction", nil))
	}))
	execute(t, pool, `select pgmq.send_topic('t', '"by PGMQ"', '{"ezq_uuid":"by PGMQ"}', 0)`)
	for _, client := range []*pgmq.Client{mail, bills} {
		requireReceives(t, subscribe(t, client), "a", "b", "in a transaction", "by PGMQ")
	}
	require.False(t, get[bool](t, pool, "select to_regclass('pgmq.q_t') is not null"), "no queue is filled that no consumer reads")
}

func TestGroup_SeparatesTopicNamedLikeOthersQueue(t *testing.T) {
	t.Parallel()
	const topic = "müller & söhne"
	name, err := pgmq.QueueName(topic)
	require.NoError(t, err)
	database := pgtest.Database(t)
	billing, other := group(t, database, "billing"), group(t, database, "other")
	require.NoError(t, billing.SubscribeInitialize(topic))
	require.NoError(t, other.SubscribeInitialize(name))

	publisher := openAt(t, database, pgmq.Config{})
	for _, to := range []string{topic, name} {
		require.NoError(t, publisher.Publish(to, message.NewMessage("to "+to, nil)))
	}
	for subscriber, from := range map[*pgmq.Client]string{billing: topic, other: name} {
		messages, err := subscriber.Subscribe(t.Context(), from)
		require.NoError(t, err)
		requireReceives(t, messages, "to "+from)
	}
	require.Equal(t, 2, get[int](t, pgtest.Pool(t, database), "select count(distinct pattern)::int from pgmq.topic_bindings"))
}

func TestGroup_JoiningLaterIsNoticedAtOnce(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	publisher := openAt(t, database, pgmq.Config{})
	one := group(t, database, "one")
	messages := subscribe(t, one)
	publish(t, publisher, "for one")
	two := group(t, database, "two")
	require.NoError(t, two.SubscribeInitialize("t"))
	publish(t, publisher, "for both") // although it knew of one only
	requireReceives(t, messages, "for one", "for both")
	requireReceives(t, subscribe(t, two), "for both")
}

func TestGroup_CountsPlainConsumersAsOne(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"plain consumers come before the group": true, "plain consumers come after the group": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			plain, grouped := openAt(t, database, pgmq.Config{}), group(t, database, "g")
			queues := []*pgmq.Client{grouped, plain}
			if first {
				queues = []*pgmq.Client{plain, grouped}
			}
			for _, client := range queues {
				require.NoError(t, client.SubscribeInitialize("t"))
				if client == plain {
					messages := subscribe(t, client)
					defer requireReceives(t, messages, "a")
				}
			}
			publish(t, openAt(t, database, pgmq.Config{}), "a")
			requireReceives(t, subscribe(t, grouped), "a")
		})
	}
}

func TestGroup_SharesMessagesAmongConsumers(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	ctx, stop := context.WithCancel(t.Context())
	received := make(chan string, 100)
	for range 3 {
		messages, err := group(t, database, "g").Subscribe(ctx, "t")
		require.NoError(t, err)
		go func() {
			for msg := range messages {
				received <- msg.UUID
				msg.Ack()
			}
		}()
	}
	publisher := openAt(t, database, pgmq.Config{})
	for i := range 50 {
		publish(t, publisher, fmt.Sprint(i))
	}
	seen := map[string]bool{}
	for range 50 {
		uuid := <-received
		require.False(t, seen[uuid])
		seen[uuid] = true
	}
	stop()
}

func TestGroup_RequiresPGMQ111(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	execute(t, pgtest.Pool(t, database), "drop table pgmq.topic_bindings cascade")
	_, err := group(t, database, "g").Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, pgmq.ErrTooOld)
	require.ErrorContains(t, err, "1.11")
	client := openAt(t, database, pgmq.Config{})
	publish(t, client, "a")
	requireReceives(t, subscribe(t, client), "a")
}

func TestGroup_IsNamedInAdministration(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	const odd = `it's "odd" \ größer`
	for _, group := range []string{"billing", odd} {
		client := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: group}})
		messages := subscribeTo(t, client, "orders")
		require.NoError(t, client.Publish("orders", message.NewMessage(group, nil)))
		for msg := receive(t, messages); ; msg = receive(t, messages) {
			if msg.UUID == group {
				require.True(t, backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead", Metadata: message.Metadata{backend.DeadLetterTopic: "orders"}}))
				break
			}
			msg.Ack()
		}
		require.Equal(t, group, client.Stats()["orders"].Group)
		found, err := client.Metrics(t.Context(), "orders")
		require.NoError(t, err)
		require.Equal(t, "orders/"+group, found.Topic+"/"+found.Group)
	}
	client := openAt(t, database, pgmq.Config{})
	pgtest.Eventually(t, patience, "there are two dead letters", func() bool {
		return get[int](t, pool, "select count(*) from pgmq.q_dead") == 2
	})
	deadLetters, err := client.DeadLetters(t.Context(), "dead", backend.DeadLetterSelection{Limit: 10})
	require.NoError(t, err)
	for _, deadLetter := range deadLetters {
		require.Equal(t, deadLetter.ID, deadLetter.Group)
	}
	queues, err := client.Queues(t.Context())
	require.NoError(t, err)
	groups := map[string]bool{}
	for _, q := range queues {
		if q.Group != "" {
			require.Equal(t, "orders", q.Topic)
			groups[q.Group] = true
		}
	}
	require.Equal(t, map[string]bool{"billing": true, odd: true}, groups)

	moved, err := redrive(t.Context(), client, "dead", 10, "orders")
	require.NoError(t, err)
	require.Equal(t, 2, moved)
	for _, q := range queues {
		if q.Group != "" {
			require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_"+q.Name+" where headers ? 'ezq_group'"), "it is no dead letter any more")
		}
	}
}

func TestQueueComment_OfOthersIsKept(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("Orders"))
	name, err := pgmq.QueueName("Orders")
	require.NoError(t, err)
	require.Equal(t, `ezq: topic "Orders"`, get[string](t, pool, "select obj_description('pgmq.q_"+name+"'::regclass)"))
	execute(t, pool, "comment on table pgmq.q_"+name+" is 'mine'")
	require.NoError(t, client.SubscribeInitialize("Orders"))
	require.Equal(t, "mine", get[string](t, pool, "select obj_description('pgmq.q_"+name+"'::regclass)"))
}

// An operator looks for the topic of a queue when events wait in it that no consumer has asked for yet, and of dead
// letters, which none subscribes to.
func TestQueues_NameTheTopicBeforeItIsSubscribedTo(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	topics := []string{"Orders", "Orders" + backend.DeadLetterSuffix, "Payments"}
	require.NoError(t, client.Publish(topics[0], message.NewMessage("1", []byte("{}"))))
	messages, err := client.Subscribe(t.Context(), topics[0])
	require.NoError(t, err)
	backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: topics[1]})
	pgtest.Eventually(t, patience, "a dead letter", func() bool {
		letters, err := client.DeadLetters(t.Context(), topics[1], backend.DeadLetterSelection{})
		return err == nil && len(letters) == 1
	})
	pool := pgtest.Pool(t, pgtest.Database(t))
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		inside, err := pgmq.NewPublisher(tx, nil)
		require.NoError(t, err)
		return inside.Publish("Payments", message.NewMessage("1", []byte("{}")))
	}))
	all, err := client.Queues(t.Context())
	require.NoError(t, err)
	other, err := pgmq.New(pool, nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, other.Close()) })
	others, err := other.Queues(t.Context())
	require.NoError(t, err)
	var named []string
	for _, queue := range append(all, others...) {
		named = append(named, queue.Topic)
	}
	require.ElementsMatch(t, topics, named)
}
