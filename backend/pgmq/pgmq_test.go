package pgmq_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// patience is how long tests wait for what must happen.
const patience = 5 * time.Minute

// open returns a queue on a database of its own, and a pool on that database to
// look and interfere from outside.
func open(t *testing.T, config pgmq.Config) (*pgmq.Client, *pgxpool.Pool) {
	t.Helper()
	database := pgtest.Database(t)
	return openAt(t, database, config), pgtest.Pool(t, database)
}

func openAt(t *testing.T, database string, config pgmq.Config) *pgmq.Client {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Subscriber.DrainTimeout == 0 {
		config.Subscriber.DrainTimeout = 100 * time.Millisecond
	}
	client, err := pgmq.Open(t.Context(), database, &config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	return client
}

func publish(t *testing.T, publisher message.Publisher, payloads ...string) {
	t.Helper()
	var msgs []*message.Message
	for _, p := range payloads {
		msgs = append(msgs, message.NewMessage(p, []byte(p)))
	}
	require.NoError(t, publisher.Publish("t", msgs...))
}

func subscribe(t *testing.T, subscriber message.Subscriber) <-chan *message.Message {
	t.Helper()
	messages, err := subscriber.Subscribe(t.Context(), "t")
	require.NoError(t, err)
	return messages
}

func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, ok := <-messages:
		require.True(t, ok, "the subscription has ended")
		return msg
	case <-time.After(patience):
		require.Fail(t, "no message came")
		return nil
	}
}

func delivery(msg *message.Message) *backend.Delivery {
	return backend.DeliveryFromContext(msg.Context())
}

// get returns one value from the database.
func get[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (value T) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), sql, args...).Scan(&value), sql)
	return value
}

func execute(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql)
	require.NoError(t, err, sql)
}

func requireCount(t *testing.T, pool *pgxpool.Pool, table string, want int) {
	t.Helper()
	pgtest.Eventually(t, patience, fmt.Sprintf("%d rows in %s", want, table), func() bool {
		return get[int](t, pool, "select count(*) from "+table) == want
	})
}

func TestPublish_StoresOrdinaryPGMQMessages(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	msg := message.NewMessage("id-1", []byte(`{"_type":"UserCreated","Email":"ada@example.com"}`))
	msg.Metadata.Set("content-type", "application/json")
	msg.Metadata.Set("tenant", "a")
	require.NoError(t, client.Publish("t", msg, message.NewMessage("", []byte{0, 255})))

	require.Equal(t, "ada@example.com", get[string](t, pool, `select message->>'Email' from pgmq.q_t where msg_id = 1`), "JSON reads as JSON")
	require.Equal(t, "a", get[string](t, pool, `select headers->>'tenant' from pgmq.q_t where msg_id = 1`))
	require.EqualValues(t, 2, get[int](t, pool, `select count(*) from pgmq.read('t', 30, 10)`), "PGMQ's own functions can read them")
}

func TestPublish_PreservesPayloadAndMetadata(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	before := time.Now()
	sent := map[string]*message.Message{}
	for _, payload := range []string{"", "text", `{"a": 1}`, "\x00", "\xff\xfe", "ünï", `"quoted"`, "null"} {
		msg := message.NewMessage(fmt.Sprintf("%q", payload), []byte(payload))
		msg.Metadata.Set("payload", fmt.Sprintf("%q", payload))
		sent[msg.UUID] = msg
		require.NoError(t, client.Publish("t", msg))
	}
	messages := subscribe(t, client)
	for range len(sent) {
		msg := receive(t, messages)
		want := sent[msg.UUID]
		require.Equal(t, string(want.Payload), string(msg.Payload))
		require.Equal(t, want.Metadata, msg.Metadata)
		require.Equal(t, 1, delivery(msg).Number)
		require.Zero(t, delivery(msg).Failures)
		require.WithinRange(t, delivery(msg).PublishedAt, before.Add(-time.Second), time.Now().Add(time.Second))
		msg.Ack()
		delete(sent, msg.UUID)
	}
	require.Empty(t, sent)
}

func TestSQL_IsProducer(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `select pgmq.send('t', '{"_type":"UserCreated","Email":"x@example.com"}')`)
	execute(t, pool, `select pgmq.send('t', '"just text"', '{"tenant":"a","n":1}'::jsonb)`)

	messages := subscribe(t, client)
	msg := receive(t, messages)
	require.JSONEq(t, `{"_type":"UserCreated","Email":"x@example.com"}`, string(msg.Payload))
	require.Equal(t, "t/1", msg.UUID, "a message without an id gets one that stays the same")
	msg.Ack()
	msg = receive(t, messages)
	require.Equal(t, `"just text"`, string(msg.Payload))
	require.Equal(t, message.Metadata{"tenant": "a", "n": "1"}, msg.Metadata)
	msg.Ack()
}

func TestQueue_IsNotBlockedByMalformedRows(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) values
		(now(), null, null), (now(), '1', '[]'), (now(), 'null', 'null'),
		(now(), '"%%%"', '{"ezq_enc":"base64"}'), (now(), '[1]', '{"ezq_failures":"many","ezq_uuid":7}')`)
	publish(t, client, "good")
	messages := subscribe(t, client)
	for range 5 {
		msg := receive(t, messages)
		require.Equal(t, fmt.Sprintf("t/%d", get[int](t, pool, "select min(msg_id) from pgmq.q_t")), msg.UUID)
		msg.Nack()
		execute(t, pool, `delete from pgmq.q_t where msg_id = (select min(msg_id) from pgmq.q_t)`)
	}
	msg := receive(t, messages)
	require.Equal(t, "good", msg.UUID)
	msg.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestNack_RedeliversAfterDelay(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NackDelay: time.Millisecond}})
	publish(t, client, "a")
	messages := subscribe(t, client)

	receive(t, messages).Nack()
	second := receive(t, messages)
	require.Equal(t, 2, delivery(second).Number)
	require.Equal(t, 1, delivery(second).Failures, "a plain nack is a failure")

	backend.Nack(second, backend.Redelivery{Delay: 300 * time.Millisecond, Failures: 9, Done: []string{"one"}})
	start := time.Now()
	third := receive(t, messages)
	require.Greater(t, time.Since(start), 290*time.Millisecond)
	require.Equal(t, 9, delivery(third).Failures)
	require.Equal(t, []string{"one"}, delivery(third).Done)
	require.Equal(t, 9, get[int](t, pool, "select (headers->>'ezq_failures')::int from pgmq.q_t"))
	require.Empty(t, third.Metadata, "what ezq notes is not metadata")
	third.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestDeadLetter_MovesInOneStep(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NackDelay: time.Millisecond}})
	execute(t, pool, `select pgmq.create('t')`)
	execute(t, pool, `select pgmq.send('t', '{"n":1}', '{"tenant":"a"}'::jsonb)`)
	messages := subscribe(t, client)
	receive(t, messages).Nack()
	msg := receive(t, messages)
	target := backend.DeadLetterTarget{Topic: "t.dead", Metadata: message.Metadata{backend.DeadLetterReason: "boom \x00\xff"}}
	require.True(t, backend.DeadLetter(msg, target))
	requireCount(t, pool, "pgmq.q_t", 0)

	dead, err := client.Subscribe(t.Context(), "t.dead")
	require.NoError(t, err)
	moved := receive(t, dead)
	require.Equal(t, "t/1", moved.UUID, "it keeps its id")
	require.JSONEq(t, `{"n":1}`, string(moved.Payload))
	require.Equal(t, message.Metadata{"tenant": "a", backend.DeadLetterReason: "boom \uFFFD\uFFFD"}, moved.Metadata)
	require.Zero(t, delivery(moved).Failures)
	moved.Ack()
}

func TestDeadLetter_OfZombieIsNotMoved(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "a")
	zombie := receive(t, subscribe(t, client))
	execute(t, pool, "update pgmq.q_t set read_ct = 2, last_read_at = now()")
	backend.DeadLetter(zombie, backend.DeadLetterTarget{Topic: "dead"})
	require.NoError(t, client.Close())
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.q_t"))
	require.Equal(t, 0, get[int](t, pool, "select count(*) from pgmq.q_dead"))
}

func TestDeadLetter_WhenUnmovableIsRedelivered(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NackDelay: time.Millisecond}})
	publish(t, client, "a")
	messages := subscribe(t, client)
	backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: ""})
	msg := receive(t, messages)
	require.Equal(t, 1, delivery(msg).Failures)
	msg.Ack()
}

func TestDelay_PostponesDelivery(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	after, at := message.NewMessage("after", nil), message.NewMessage("at", nil)
	backend.SetDelay(after, 400*time.Millisecond)
	backend.SetDeliverAt(at, time.Now().Add(200*time.Millisecond))
	start := time.Now()
	require.NoError(t, client.Publish("t", after, at, message.NewMessage("now", nil)))
	messages := subscribe(t, client)
	sooner := map[string]time.Duration{"now": 0, "at": 200 * time.Millisecond, "after": 400 * time.Millisecond}
	for range 3 { // in any order: a slow machine claims them together
		msg := receive(t, messages)
		require.Contains(t, sooner, msg.UUID)
		require.GreaterOrEqual(t, time.Since(start), sooner[msg.UUID]-time.Millisecond)
		delete(sooner, msg.UUID)
		require.Empty(t, msg.Metadata, "the delay is not passed on")
		msg.Ack()
	}
}

func TestPublish_StoresAllMessagesOrNone(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Publisher: pgmq.PublisherConfig{MaxPayloadBytes: 3}})
	require.NoError(t, client.SubscribeInitialize("t"))
	good := func() *message.Message { return message.NewMessage("good", []byte("abc")) }
	for _, test := range []struct {
		name string
		bad  func(*message.Message)
		kind error
	}{
		{"too large", func(m *message.Message) { m.Payload = []byte("abcd") }, pgmq.ErrTooLarge},
		{"a reserved name", func(m *message.Message) { m.Metadata.Set("ezq_uuid", "x") }, pgmq.ErrInvalidMessage},
		{"NUL in metadata", func(m *message.Message) { m.Metadata.Set("k", "\x00") }, pgmq.ErrInvalidMessage},
		{"no UTF-8 in metadata", func(m *message.Message) { m.Metadata.Set("\xff", "v") }, pgmq.ErrInvalidMessage},
		{"a delay that is none", func(m *message.Message) { m.Metadata.Set("_watermill_delayed_for", "soon") }, pgmq.ErrInvalidMessage},
	} {
		bad := good()
		test.bad(bad)
		err := client.Publish("t", good(), bad)
		require.ErrorIs(t, err, test.kind, test.name)
		require.ErrorIs(t, err, pgmq.ErrRejected, test.name)
		require.ErrorContains(t, err, `"t"`, test.name)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	late := good()
	late.SetContext(ended)
	err := client.Publish("t", late)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, pgmq.ErrRejected)
	requireCount(t, pool, "pgmq.q_t", 0)
	require.NoError(t, client.Publish("t"), "nothing to publish")
}

func TestWithTx_PublishesOnCommitOnly(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	for _, commit := range []bool{false, true} {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		publish(t, client.WithTx(tx), fmt.Sprint("committed: ", commit))
		require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_t"), "no other session sees it yet")
		if commit {
			require.NoError(t, tx.Commit(t.Context()))
		} else {
			require.NoError(t, tx.Rollback(t.Context()))
		}
	}
	msg := receive(t, subscribe(t, client))
	require.Equal(t, "committed: true", msg.UUID)
	msg.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestTopic_HasQueueOfItsOwn(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	topics := []string{"orders", "Orders", "orders.new", `"; drop table x; --`, "ünï", "a very long topic name, with more characters than PGMQ takes for a queue"}
	for _, topic := range topics {
		require.NoError(t, client.Publish(topic, message.NewMessage(topic, nil)), topic)
	}
	for _, topic := range topics {
		messages, err := client.Subscribe(t.Context(), topic)
		require.NoError(t, err)
		msg := receive(t, messages)
		require.Equal(t, topic, msg.UUID)
		msg.Ack()
	}
}

func TestPublish_ToleratesConcurrentQueueCreation(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	errs := make(chan error)
	for range 8 {
		client := openAt(t, database, pgmq.Config{})
		go func() { errs <- client.Publish("new", message.NewMessage("1", nil)) }()
	}
	for range 8 {
		require.NoError(t, <-errs)
	}
}

func TestClose_IsReportedByLaterCalls(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	require.NoError(t, client.Close())
	require.NoError(t, client.Close(), "twice")
	require.ErrorIs(t, client.Publish("t", message.NewMessage("1", nil)), backend.ErrClosed)
	_, err := client.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, backend.ErrClosed)
}
