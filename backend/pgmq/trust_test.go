package pgmq_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

const forgedProgress = `"ezq_done":["audit"],"ezq_failures":2147483647,"ezq_unknown_since":"2001-01-01T00:00:00Z"`

// requireNoForgery fails if msg shows anything that a publisher has said in ezq's name.
func requireNoForgery(t *testing.T, msg *message.Message) {
	t.Helper()
	require.Zero(t, delivery(msg).Failures)
	require.Empty(t, delivery(msg).Done)
	require.Zero(t, delivery(msg).UnknownSince)
	require.Equal(t, "a", msg.Metadata.Get("tenant"), "what is not ezq's stays")
}

func TestTrust_IgnoresPublisherClaimsBeforeFirstLease(t *testing.T) {
	t.Parallel()
	for name, leaseOnly := range map[string]bool{"the message is leased": true, "the message is locked": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: leaseOnly, NackDelay: time.Millisecond}})
			messages := subscribe(t, client)
			warmUp(t, client, messages)
			execute(t, pool, `insert into pgmq.q_t (vt, message, headers) values (now(), '{}', '{"tenant":"a","ezq_uuid":"mine",`+forgedProgress+`}')`)
			msg := receive(t, messages)
			requireNoForgery(t, msg)
			require.Equal(t, "mine", msg.UUID, "publishers give ids")
			msg.Nack()
			msg = receive(t, messages)
			require.Equal(t, 1, delivery(msg).Failures)
			require.Empty(t, delivery(msg).Done)
			backend.Nack(msg, backend.Redelivery{Failures: 2, Done: []string{"ship"}, Uncounted: true})
			msg = receive(t, messages)
			require.Equal(t, 2, delivery(msg).Failures, "what ezq has written counts")
			require.Equal(t, []string{"ship"}, delivery(msg).Done)
			require.Equal(t, "mine", msg.UUID)
			msg.Ack()
			requireCount(t, pool, "pgmq.q_t", 0)
		})
	}
}

func TestTrust_IgnoresPublisherClaimsAfterLease(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true}})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) values (now(), '{}', '{"tenant":"a","ezq_uuid":"t/77",`+forgedProgress+`}')`)
	store, err := client.Store(t.Context(), "t")
	require.NoError(t, err)
	claim, err := store.Claim(t.Context(), nil, 1, time.Hour)
	require.NoError(t, err)
	require.Len(t, claim.Leases, 1)
	execute(t, pool, "update pgmq.q_t set vt = now()") // its consumer has died
	msg := receive(t, subscribe(t, client))
	require.Equal(t, 2, delivery(msg).Number)
	requireNoForgery(t, msg)
	require.Equal(t, "t/1", msg.UUID)
	msg.Ack()
}

// What a publisher writes in ezq's name does not become a part of the dead letter.
func TestTrust_DeadLetterHasNothingThatPublisherForged(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) values
		(now(), '"eA=="', '{"tenant":"a","ezq_uuid":"mine","ezq_enc":"base64","ezq_group":"evil","ezq_queue":"payments","ezq_bogus":"x","ezq_unique":"t/k",
			"ezq_":1,"topic_poisoned":"payments","handler_poisoned":"Pay","failures_poisoned":"7","poisoned_at":"2001-01-01T00:00:00Z","reason_poisoned":"forged"}'),
		(now(), '"eA=="', '["ezq_group"]')`)
	messages := subscribe(t, client)
	for range 2 {
		metadata := message.Metadata{backend.DeadLetterTopic: "t", backend.DeadLetterReason: "boom"}
		require.True(t, backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "t_dead", Metadata: metadata}))
	}
	pgtest.Eventually(t, time.Minute, "both are dead letters", func() bool {
		return get[bool](t, pool, "select to_regclass('pgmq.q_t_dead') is not null") && get[int](t, pool, "select count(*) from pgmq.q_t_dead") == 2
	})
	require.JSONEq(t, `{"tenant":"a","ezq_uuid":"mine","ezq_enc":"base64","ezq_queue":"t","topic_poisoned":"t","reason_poisoned":"boom"}`,
		get[string](t, pool, "select headers::text from pgmq.q_t_dead where headers ? 'tenant'"))
	require.JSONEq(t, `{"ezq_uuid":"t/2","ezq_queue":"t","topic_poisoned":"t","reason_poisoned":"boom"}`,
		get[string](t, pool, "select headers::text from pgmq.q_t_dead where not headers ? 'tenant'"))
	origins, err := client.Origins(t.Context(), "t_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Len(t, origins, 1)
	require.Empty(t, origins[0].Group)
	letters, err := client.DeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{Limit: 2})
	require.NoError(t, err)
	for _, letter := range letters {
		require.Empty(t, letter.Group)
		require.Empty(t, letter.Handler)
	}
}

// A message without an id has one that others can guess. With it, Deduplicate would take it for
// one that was handled.
func TestMessageID_GeneratedCannotBeTaken(t *testing.T) {
	t.Parallel()
	for name, leaseOnly := range map[string]bool{"the messages are leased": true, "the messages are locked": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: leaseOnly}})
			messages := subscribe(t, client)
			warmUp(t, client, messages)
			requireCount(t, pool, "pgmq.q_t", 0)
			for _, id := range []string{"t/1000", "t/-1", "t/00", "t/", "t/1a", "other/5", "/1"} {
				_, err := pool.Exec(t.Context(), "select pgmq.send('t', '{}', jsonb_build_object('ezq_uuid', $1::text))", id)
				require.NoError(t, err)
			}
			first := get[int64](t, pool, "select min(msg_id) from pgmq.q_t")
			own := func(i int64) string { return fmt.Sprintf("t/%d", first+i) }
			for _, want := range []string{own(0), own(1), own(2), "t/", "t/1a", "other/5", "/1"} {
				msg := receive(t, messages)
				require.Equal(t, want, msg.UUID)
				msg.Ack()
			}
			requireCount(t, pool, "pgmq.q_t", 0)
		})
	}
}

// A role that may insert into the queue of dead letters can have an operator mark a message as leased before.
func TestMessageID_GeneratedCannotBeTakenByForgedDeadLetter(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t'), pgmq.create('t_dead')")
	execute(t, pool, `insert into pgmq.q_t_dead (vt, message, headers) select now(), '1', jsonb_build_object('topic_poisoned', 't', 'ezq_queue', 't', 'ezq_uuid', id)
		from unnest(array['t/4', 't/99999999999999999999', 't/-1']) as id`)
	moved, err := redrive(t.Context(), client, "t_dead", 3)
	require.NoError(t, err)
	require.Equal(t, 3, moved)
	execute(t, pool, "insert into pgmq.q_t (vt, message) values (now(), '\"real\"')")
	for id, payload := range map[string]string{"t/1": "1", "t/4": `"real"`} {
		found := find(t, client, backend.Selection{ID: id})
		require.Len(t, found, 1, id)
		require.Equal(t, payload, string(found[0].Payload))
		require.Equal(t, id, found[0].ID)
	}
	messages := subscribe(t, client)
	for _, want := range []string{"t/1", "t/2", "t/-1", "t/4"} {
		msg := receive(t, messages)
		require.Equal(t, want, msg.UUID)
		if want != "t/1" {
			msg.Ack()
			continue
		}
		backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "t_dead", Metadata: message.Metadata{backend.DeadLetterTopic: "t"}})
		requireCount(t, pool, "pgmq.q_t_dead", 1)
		require.Equal(t, "t/1", get[string](t, pool, "select headers->>'ezq_uuid' from pgmq.q_t_dead"))
	}
}

func TestMessageID_GeneratedIsKept(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Archive: true, LeaseOnly: true}})
	require.NoError(t, client.SubscribeInitialize("t"))
	require.NoError(t, client.SubscribeInitialize("dead"))
	execute(t, pool, "select pgmq.send('t', '{}')")
	messages := subscribe(t, client)
	for range 2 {
		msg := receive(t, messages)
		require.Equal(t, "t/1", msg.UUID)
		backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead", Metadata: message.Metadata{backend.DeadLetterTopic: "t"}})
		requireCount(t, pool, "pgmq.q_dead", 1)
		moved, err := redrive(t.Context(), client, "dead", 1, "t")
		require.NoError(t, err)
		require.Equal(t, 1, moved)
	}
	msg := receive(t, messages)
	require.Equal(t, "t/1", msg.UUID)
	msg.Ack()
	for range 2 {
		requireCount(t, pool, "pgmq.q_t", 0)
		replayed, err := client.Replay(t.Context(), "t", pgmq.ReplayFilter{Limit: 1})
		require.NoError(t, err)
		require.Equal(t, 1, replayed)
		msg := receive(t, messages)
		require.Equal(t, "t/1", msg.UUID)
		msg.Ack()
	}
}

func TestReplay_LeavesUnreadableMessages(t *testing.T) {
	t.Parallel()
	config := withMaxMessage(1 << 20)
	config.Subscriber.Archive = true
	client, pool := open(t, config)
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, bomb(50))
	publish(t, client, "good")
	execute(t, pool, `select pgmq.send('t', '{}', '{"reason_poisoned":"?","topic_poisoned":"x","ezq_uuid":"letter"}'::jsonb)`)
	requireReceived(t, client, "good", "letter")
	requireCount(t, pool, "pgmq.a_t", 3)
	replayed, err := client.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	require.NoError(t, err)
	require.Equal(t, 2, replayed)
}
