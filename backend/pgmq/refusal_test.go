package pgmq_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// What PostgreSQL refuses to store of one message keeps nothing of the others waiting.
func TestOutcome_RefusedByDatabaseStopsNoOther(t *testing.T) {
	t.Parallel()
	const (
		raising = `create function refuse() returns trigger language plpgsql as $$ begin raise 'not today'; end $$; `
		later   = "select count(*) from pgmq.q_t where vt > now() + interval '50 minutes'"
	)
	later1 := backend.Redelivery{Delay: time.Hour}
	deadLetterWith := func(reason string) func(*message.Message) {
		return func(msg *message.Message) {
			backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead", Metadata: message.Metadata{backend.DeadLetterReason: reason}})
		}
	}
	for name, test := range map[string]struct {
		database string // how it is created
		config   pgmq.SubscriberConfig
		sql      string // what the owner of the database does
		settle   func(*message.Message)
		then     string // what holds when it is settled
		kept     int64  // acks that are tried again
	}{
		"a trigger refuses a dead letter": {
			sql:    raising + "create trigger refuse before insert on pgmq.q_dead for each row execute function refuse()",
			settle: deadLetterWith("no"), then: later,
		},
		"a CHECK refuses a dead letter": {
			sql:    "alter table pgmq.q_dead add check (headers->>'reason_poisoned' <> 'no')",
			settle: deadLetterWith("no"), then: later,
		},
		"something else replaced the queue of a dead letter": {
			sql:    "drop table pgmq.q_dead; create table pgmq.q_dead (a int)",
			settle: deadLetterWith("no"), then: later,
		},
		"LATIN1 lacks characters of a dead letter's reason": {
			database: latin1, settle: deadLetterWith("5 €, né\x00"),
			then: "select count(*) from pgmq.q_dead where headers->>'reason_poisoned' = '5 ?, n\u00e9?'",
		},
		"LATIN2 lacks characters of a dead letter's reason": {
			database: "encoding 'LATIN2' locale 'C' template template0", settle: deadLetterWith("5 €"),
			then: "select count(*) from pgmq.q_dead where headers->>'reason_poisoned' = '5 ?'",
		},
		"a CHECK refuses a nack": {
			sql:    "alter table pgmq.q_t add check (headers->'ezq_done' is null)",
			settle: func(msg *message.Message) { backend.Nack(msg, later1) }, then: later,
		},
		"a NUL refuses a nack": {
			settle: func(msg *message.Message) {
				backend.Nack(msg, backend.Redelivery{Delay: time.Hour, Done: []string{"a\x00b"}})
			},
			then: later,
		},
		"a trigger refuses an ack": {
			sql:    raising + "create trigger refuse before delete on pgmq.q_t for each row when (old.message->>'odd' is not null) execute function refuse()",
			settle: func(msg *message.Message) { msg.Ack() },
			then:   "select count(*) from pgmq.q_t where message->>'odd' is not null",
			kept:   1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t, test.database)
			pool := pgtest.Pool(t, withClientEncoding(t, database, "UTF8"))
			test.config.MaxInFlight, test.config.NackDelay = 100, time.Hour
			client := openAt(t, database, pgmq.Config{Subscriber: test.config})
			require.NoError(t, client.SubscribeInitialize("dead"))
			messages := subscribe(t, client)
			execute(t, pool, firstNonEmpty(test.sql, "select 1"))
			all := []*message.Message{message.NewMessage("odd", []byte(`{"odd":1}`))}
			all[0].Metadata.Set("content-type", "application/json")
			for i := range 20 {
				all = append(all, message.NewMessage(fmt.Sprint(i), []byte("{}")))
			}
			require.NoError(t, client.Publish("t", all...))
			for range all {
				msg := receive(t, messages)
				switch {
				case msg.UUID == "odd":
					test.settle(msg)
				case len(msg.UUID) == 1:
					backend.Nack(msg, later1)
				default:
					msg.Ack()
				}
			}
			pgtest.Eventually(t, patience, "all that is not refused is stored", func() bool {
				return get[int](t, pool, "select count(*) from pgmq.q_t where not (message->>'odd' is not null) and vt > now() + interval '50 minutes'") == 10 &&
					get[int](t, pool, "select count(*) from pgmq.q_t where not (message->>'odd' is not null)") == 10
			})
			pgtest.Eventually(t, patience, "so is what can be of the other", func() bool {
				return get[int](t, pool, test.then) >= 1 && client.Stats()["t"].Unstored == test.kept
			})
		})
	}
}

func firstNonEmpty(text, otherwise string) string {
	if strings.TrimSpace(text) == "" {
		return otherwise
	}
	return text
}

func TestArchive_WhenDroppedStopsNoNack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ breaks, mends string }{
		"the archive is dropped":        {"drop table pgmq.a_t", "select pgmq.create('t')"},
		"the archive refuses every row": {"alter table pgmq.a_t add column tenant text not null", "alter table pgmq.a_t alter tenant drop not null"},
	} {
		for mode, sync := range map[string]bool{"": false, ", with SyncAck": true} {
			t.Run(name+mode, func(t *testing.T) {
				t.Parallel()
				const lease = 6 * time.Second
				client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Archive: true, SyncAck: sync, MaxInFlight: 10, Lease: lease}})
				messages := subscribe(t, client)
				publish(t, client, "a", "b", "c", "d")
				execute(t, pool, test.breaks)
				for range 2 {
					receive(t, messages).Ack()
					backend.Nack(receive(t, messages), backend.Redelivery{Delay: time.Hour})
				}
				requireCount(t, pool, "pgmq.q_t where vt > now() + interval '50 minutes'", 2)
				pgtest.Eventually(t, patience, "slots are free again", func() bool { return client.Stats()["t"].InFlight == 0 })
				pgtest.Eventually(t, patience, "the acks are kept", func() bool { return client.Stats()["t"].Unstored == 2 })
				began := get[time.Time](t, pool, "select clock_timestamp()")
				pgtest.Eventually(t, patience, "their leases are extended", func() bool {
					return get[int](t, pool, "select count(*) from pgmq.q_t where vt > '"+began.Add(lease).Format(time.RFC3339Nano)+"' and vt < now() + interval '10 minutes'") == 2
				})
				execute(t, pool, test.mends)
				publish(t, client, "e")
				require.Equal(t, "e", receive(t, messages).UUID, "none of the others has come again")
				requireCount(t, pool, "pgmq.a_t", 2)
				pgtest.Eventually(t, patience, "nothing is kept", func() bool { return client.Stats()["t"].Unstored == 0 })
			})
		}
	}
}

func TestLockedBatch_RefusedAckRepeatsNoOtherMessage(t *testing.T) {
	client, pool, messages := openLocking(t, 10*time.Second, pgmq.SubscriberConfig{MaxInFlight: 20})
	execute(t, pool, `create function refuse() returns trigger language plpgsql as $$ begin raise 'not today'; end $$;
		create trigger refuse before delete on pgmq.q_t for each row when (old.headers->>'ezq_uuid' = 'c') execute function refuse()`)
	publish(t, client, "a", "b", "c", "d", "e")
	for range 5 {
		receive(t, messages).Ack()
	}
	requireCount(t, pool, "pgmq.q_t where headers->>'ezq_uuid' = 'c' and read_ct = 1 and vt > now()", 1)
	requireCount(t, pool, "pgmq.q_t", 1)
	publish(t, client, "f")
	require.Equal(t, "f", receive(t, messages).UUID, "nothing else comes again")
	execute(t, pool, "drop trigger refuse on pgmq.q_t")
	pgtest.Eventually(t, patience, "it is stored", func() bool { return client.Stats()["t"].Unstored == 0 })
}

// What a dead letter needs to know about its queue, it knows already.
func TestDeadLetter_StoresManyInOneRoundTrip(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	pool := pgtest.Pool(t, direct)
	proxy, far := throughProxy(t, direct)
	client := openAt(t, far, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 100, LeaseOnly: true}})
	messages := subscribe(t, client)
	var all []*message.Message
	for i := range 100 {
		all = append(all, message.NewMessage(fmt.Sprint(i), nil))
	}
	require.NoError(t, client.Publish("t", all...))
	all = all[:0]
	for range 100 {
		all = append(all, receive(t, messages))
	}
	proxy.Latency(150 * time.Millisecond)
	for _, msg := range all {
		require.True(t, backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"}))
	}
	requireCount(t, pool, "pgmq.q_t", 0)
	require.Equal(t, 100, get[int](t, pool, "select count(*) from pgmq.q_dead"))
}

func TestDeadLetter_IndexingQueueDelaysOnlyItsOwn(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("dead"))
	messages := subscribe(t, client)
	publish(t, client, "a", "b", "c")
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), "lock table pgmq.q_dead in share mode") // as CREATE INDEX does
	require.NoError(t, err)
	require.True(t, backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "dead"}))
	require.True(t, backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "other"}))
	receive(t, messages).Ack()
	requireCount(t, pool, "pgmq.q_t", 1)
	require.NoError(t, tx.Rollback(t.Context()))
	requireCount(t, pool, "pgmq.q_t", 0)
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.q_dead"))
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.q_other"))
}
