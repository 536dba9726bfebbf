package pgmq_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// withMaxMessage is a configuration with messages of at most so many bytes.
func withMaxMessage(most int) pgmq.Config {
	return pgmq.Config{Publisher: pgmq.PublisherConfig{MaxPayloadBytes: 10_000}, Subscriber: pgmq.SubscriberConfig{MaxMessageBytes: most}}
}

func TestMaxPayloadBytes_MustFitMaxMessageBytes(t *testing.T) {
	t.Parallel()
	pool := unreachablePool(t)
	create := func(payload, message int) error {
		_, err := pgmq.New(pool, &pgmq.Config{Publisher: pgmq.PublisherConfig{MaxPayloadBytes: payload}, Subscriber: pgmq.SubscriberConfig{MaxMessageBytes: message}})
		return err
	}
	err := create(2<<20, 8<<20)
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	require.EqualError(t, err, "pgmq: configure: invalid configuration: a payload of 2097152 bytes (MaxPayloadBytes) can be a message of 12718080, "+
		"and MaxMessageBytes is 8388608; set MaxMessageBytes to at least 12718080 bytes, or MaxPayloadBytes to at most 1375573")
	require.NoError(t, create(2<<20, 12718080))
	require.NoError(t, create(1375573, 8<<20))
	for _, refused := range [][2]int{{2<<20 + 1, 12718080}, {1375574, 8 << 20}, {0, 1 << 20}, {100 << 20, 0}, {math.MaxInt, 0}} {
		require.ErrorContains(t, create(refused[0], refused[1]), "MaxMessageBytes", refused)
	}
	for _, allowed := range [][2]int{{0, 0}, {10 << 20, 0}, {21162, 1 << 18}, {math.MaxInt, math.MaxInt}} {
		require.NoError(t, create(allowed[0], allowed[1]), allowed)
	}
}

// Of each form what takes the most, as PostgreSQL writes it: text that is escaped, base64, spaces,
// and digits in the place of exponents.
func TestMaxPayloadBytes_FitsInAnyStoredForm(t *testing.T) {
	t.Parallel()
	const size = 100_000
	client, pool := open(t, pgmq.Config{Publisher: pgmq.PublisherConfig{MaxPayloadBytes: size}, Subscriber: pgmq.SubscriberConfig{MaxMessageBytes: 735168}})
	list := func(unit string) []byte { return []byte("[" + strings.Repeat(unit+",", (size-3)/len(unit+",")) + "1]") }
	for id, payload := range map[string][]byte{
		"text": bytes.Repeat([]byte{1}, size), "base64": make([]byte, size), "spaces": list("1"), "digits": list("1,1,1,1,1,1e9"),
	} {
		msg := message.NewMessage(id, payload)
		msg.Metadata.Set("large", strings.Repeat(`"`, 32_600))
		if payload[0] == '[' {
			msg.Metadata.Set("content-type", "application/json")
		}
		require.NoError(t, client.Publish("t", msg))
	}
	require.Greater(t, get[int](t, pool, "select max(octet_length(message::text) + octet_length(headers::text)) from pgmq.q_t"), 660_000)
	require.Equal(t, 2, get[int](t, pool, "select count(*)::int from pgmq.q_t where jsonb_typeof(message) = 'array'"))
	requireReceived(t, client, "text", "base64", "spaces", "digits")
}

func TestQuarantine_IsCountedInStats(t *testing.T) {
	t.Parallel()
	for name, archived := range map[string]bool{"the message is archived": true, "the message may not be archived": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, withMaxMessage(1<<20))
			require.NoError(t, client.SubscribeInitialize("t"))
			require.Empty(t, client.Stats())
			if !archived {
				execute(t, pool, "drop table pgmq.a_t")
			}
			for range 3 {
				execute(t, pool, `select pgmq.send('t', to_jsonb(repeat('x', 2000000)))`)
			}
			publish(t, client, "after")
			requireReceived(t, client, "after")
			pgtest.Eventually(t, patience, "they are counted", func() bool { return client.Stats()["t"].Quarantined == 3 })
			if archived {
				requireCount(t, pool, "pgmq.a_t", 3)
			}
		})
	}
}

// As docs/postgres.md says.
func TestMaxMessageBytes_WhenRaisedAdmitsQuarantinedMessage(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	small, pool := openAt(t, database, withMaxMessage(1<<18)), pgtest.Pool(t, database)
	client := openAt(t, database, pgmq.Config{})
	msg := message.NewMessage("large", bytes.Repeat([]byte("x"), 1<<18))
	msg.Metadata.Set("kind", "invoice")
	require.NoError(t, client.Publish("t", msg))
	subscribe(t, small)
	pgtest.Eventually(t, patience, "it is quarantined", func() bool { return small.Stats()["t"].Quarantined == 1 })
	require.NoError(t, small.Close())
	execute(t, pool, `with m as (delete from pgmq.a_t where msg_id = 1 and headers ? 'reason_poisoned' returning message, headers)
		insert into pgmq.q_t (vt, message, headers) select now(), message, headers - '{reason_poisoned,poisoned_at}'::text[] from m`)
	back := receive(t, subscribe(t, client))
	require.Equal(t, "large", back.UUID)
	require.Len(t, back.Payload, 1<<18)
	require.Equal(t, message.Metadata{"kind": "invoice"}, back.Metadata)
	back.Ack()
	requireCount(t, pool, "pgmq.a_t", 0)
}
