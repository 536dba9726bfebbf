package pgmq_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
	"github.com/ezq-go/ezq/middleware"
)

// bomb is a message of a few hundred stored bytes that has 131 KB for each of
// its numbers when it is read.
func bomb(numbers int) string {
	return fmt.Sprintf(`select pgmq.send('t', (select jsonb_agg('1e131071'::numeric) from generate_series(1, %d)))`, numbers)
}

// unreadableText is in the messages that PostgreSQL will not write out after refuseToRead.
const unreadableText = "unreadable"

// refuseToRead has PostgreSQL fail with code whenever it is to write out such a message,
// and quote it, as it does with what it finds damaged.
func refuseToRead(t *testing.T, pool *pgxpool.Pool, code string) {
	t.Helper()
	execute(t, pool, fmt.Sprintf(`
		create function written(jsonb) returns text language plpgsql as $$
		begin
			if format('%%s', $1) like '%%%s%%' then
				raise exception 'refused' using errcode = '%s', detail = format('%%s', $1);
			end if;
			return format('%%s', $1);
		end $$`, unreadableText, code))
	execute(t, pool, "create cast (jsonb as text) with function written(jsonb)")
}

func TestQuarantine_UnreadableMessageBlocksNoQueue(t *testing.T) {
	t.Parallel()
	const refused = `select pgmq.send('t', '"` + unreadableText + `"')`
	for _, test := range []struct {
		name, sql, reason string
	}{
		{"a message larger than MaxMessageBytes when it is read", bomb(50), "MaxMessageBytes is 1048576"},
		{"a message larger than MaxMessageBytes", `select pgmq.send('t', to_jsonb(repeat('x', 2000000)))`, "the message has 2000002 bytes"},
		{"headers larger than MaxMessageBytes", `select pgmq.send('t', '1', jsonb_build_object('k', repeat('x', 2000000)))`, "the headers have 2000009 bytes"},
		{"a message larger than PostgreSQL can read", refused, "SQLSTATE 54000"},
		{"a message nested deeper than PostgreSQL can read", refused, "SQLSTATE 54001"},
		{"a damaged message", refused, "SQLSTATE XX001"},
		{"a message with a damaged index", refused, "SQLSTATE XX002"},
		{"a message in another encoding than the client's", refused, "SQLSTATE 22021"},
		{"a message with characters that the client's encoding lacks", refused, "SQLSTATE 22P05"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			logged := &warnings{}
			config := withMaxMessage(1 << 20)
			config.Logger = slog.New(logged)
			client, pool := open(t, config)
			if code, ok := strings.CutPrefix(test.reason, "SQLSTATE "); ok && test.sql == refused {
				refuseToRead(t, pool, code)
			}
			require.NoError(t, client.SubscribeInitialize("t"))
			publish(t, client, "before")
			execute(t, pool, test.sql)
			publish(t, client, "after")
			requireReceived(t, client, "before", "after")
			requireCount(t, pool, "pgmq.q_t", 0)
			requireCount(t, pool, "pgmq.a_t", 1)
			require.Contains(t, get[string](t, pool, "select min(headers->>'reason_poisoned') from pgmq.a_t"), test.reason)
			pgtest.Eventually(t, patience, "it is logged", func() bool { return strings.Contains(strings.Join(logged.all(), "\n"), "moved to the archive") })
			require.Equal(t, 2, get[int](t, pool, "select msg_id from pgmq.a_t"), "under its own id")
		})
	}
}

// requireReceived receives and acks these messages, in any order.
func requireReceived(t *testing.T, subscriber message.Subscriber, ids ...string) {
	t.Helper()
	messages := subscribe(t, subscriber)
	var got []string
	for range ids {
		msg := receive(t, messages)
		got = append(got, msg.UUID)
		msg.Ack()
	}
	require.ElementsMatch(t, ids, got)
}

// It takes PostgreSQL seconds to find out, so elsewhere refuseToRead says it at once.
func TestPostgreSQL_ReportsMessageTooLargeToRead(t *testing.T) {
	t.Parallel()
	_, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, bomb(9000))
	_, err := pool.Exec(t.Context(), "select message::text from pgmq.q_t")
	pg, ok := errors.AsType[*pgconn.PgError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "54000", pg.Code)
}

func TestQuarantine_HidesMessageWithoutArchiveGrant(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool, owner := pgtest.Pool(t, database), openAt(t, database, pgmq.Config{})
	require.NoError(t, owner.SubscribeInitialize("t"))
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select on pgmq.topic_bindings to {role}",
		"grant select, update, delete on pgmq.q_t to {role}")
	execute(t, pool, bomb(50))
	publish(t, owner, "after")
	log, config := &logRecorder{}, withMaxMessage(1<<20)
	config.Logger = log.logger()
	client := openAt(t, role, config)
	msg := receive(t, subscribe(t, client))
	require.Equal(t, "after", msg.UUID)
	msg.Ack()
	requireCount(t, pool, "pgmq.q_t where vt > clock_timestamp() + interval '50 minutes' and headers ? 'reason_poisoned'", 1)
	log.requireLogged(t, "is hidden, as the archive cannot be used")
	require.Contains(t, log.String(), `GRANT SELECT, INSERT ON \"pgmq\".\"a_t\" TO the role`)
}

func TestMaxMessageBytes_AdmitsLargeMessageUpToLimit(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	client, pool := open(t, pgmq.Config{
		Publisher: pgmq.PublisherConfig{MaxPayloadBytes: size}, Subscriber: pgmq.SubscriberConfig{MaxMessageBytes: 16 << 20},
	})
	payload := strings.Repeat("0123456789abcdef", size/16)
	require.NoError(t, client.Publish("t", message.NewMessage("large", []byte(payload))))
	execute(t, pool, `select pgmq.send('t', to_jsonb(repeat('x', 18000000)))`) // more than it may
	publish(t, client, "after")
	messages := subscribe(t, client)
	got := map[string]int{}
	for range 2 {
		msg := receive(t, messages)
		got[msg.UUID] = len(msg.Payload)
		msg.Ack()
	}
	require.Equal(t, map[string]int{"large": size, "after": 5}, got)
	requireCount(t, pool, "pgmq.a_t", 1)
}

func TestMaxInFlightBytes_BoundsClaimedMessages(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlightBytes: 20_000}})
	for i := range 9 {
		require.NoError(t, client.Publish("t", message.NewMessage(fmt.Sprint(i), make([]byte, 800)))) // 1 kB, as base64, and 6 kB beside it
	}
	messages := subscribe(t, client)
	for range 3 {
		held := []*message.Message{receive(t, messages), receive(t, messages), receive(t, messages)}
		requireCount(t, pool, "pgmq.q_t where vt > clock_timestamp()", 3)
		for _, msg := range held {
			msg.Ack()
		}
	}
}

func TestQuarantine_LoadsNoOversizedMessage(t *testing.T) {
	client, pool := open(t, withMaxMessage(1<<20))
	require.NoError(t, client.SubscribeInitialize("t"))
	for range 5 {
		execute(t, pool, bomb(100)) // 13 MB each
	}
	publish(t, client, "after")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	msg := receive(t, subscribe(t, client))
	runtime.ReadMemStats(&after)
	require.Equal(t, "after", msg.UUID)
	msg.Ack()
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
}

func TestQuarantine_ArchivesMessageWithLargeHeaders(t *testing.T) {
	t.Parallel()
	for name, warm := range map[string]bool{"the messages are leased": false, "the messages are locked": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: !warm}})
			messages := subscribe(t, client)
			warmUp(t, client, messages)
			execute(t, pool, `insert into pgmq.q_t (vt, message, headers) values
				(now(), '1', jsonb_build_object('ezq_uuid', 'large', 'x', repeat('x', 130000))), (now(), '2', jsonb_build_object('x', repeat('x', 140000))),
				(now(), '3', jsonb_build_object('ezq_uuid', repeat('i', 256)))`)
			publish(t, client, "after")
			got := map[string]string{}
			for range 3 {
				msg := receive(t, messages)
				got[string(msg.Payload)] = msg.UUID
				msg.Ack()
			}
			require.Equal(t, "large", got["1"])
			require.Regexp(t, `^t/\d+$`, got["3"], "an id of 256 bytes is none")
			require.Contains(t, got, "after")
			requireCount(t, pool, "pgmq.a_t", 1)
			reason := get[string](t, pool, "select headers->>'reason_poisoned' from pgmq.a_t")
			require.Equal(t, "the headers have 140009 bytes, and the limit is 131072", reason)
		})
	}
}

func TestLog_ThrottlesRecordsOfUnreadableMessages(t *testing.T) {
	t.Parallel()
	logged := &warnings{}
	client, pool := open(t, pgmq.Config{Logger: slog.New(logged)})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) select now(), '1', jsonb_build_object('x', repeat('x', 140000)) from generate_series(1, 30)`)
	publish(t, client, "after")
	requireReceived(t, client, "after")
	requireCount(t, pool, "pgmq.a_t", 30)
	require.NoError(t, client.Close())
	lines := logged.all()
	require.Len(t, lines, 11)
	require.Contains(t, lines[10], "moved to the archive: and more, which are left out here topic=t messages=20")
}

// A hundred bytes of SQL are megabytes of text, and were as many in each record.
func TestLog_TruncatesLongNameOrID(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]string{
		"a long name of an event":      `(message) values (jsonb_build_object('_type', repeat('A', 2000000)))`,
		"a name of control characters": `(message) values (jsonb_build_object('_type', repeat(E'\x1b', 300000)))`,
		"a long id":                    `(message, headers) values ('{"_type":"UserCreated"}', jsonb_build_object('ezq_uuid', repeat('A', 100000)))`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logged := &warnings{}
			client, pool := open(t, pgmq.Config{Logger: slog.New(logged)})
			require.NoError(t, client.SubscribeInitialize("ezq"))
			execute(t, pool, "insert into pgmq.q_ezq "+strings.Replace(strings.Replace(row, "(message", "(vt, message", 1), "values (", "values (now(), ", 1))
			router := ezq.NewRouter(client, &ezq.Config{Logger: slog.New(logged)})
			router.Use(middleware.Poison{}.Middleware)
			ezq.Handle(router, func(context.Context, userCreated) error { return ezq.Permanent(errors.New("no")) })
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			ended := make(chan error, 1)
			go func() { ended <- router.Run(ctx) }()
			pgtest.Eventually(t, time.Minute, "a dead letter", func() bool {
				return get[bool](t, pool, "select to_regclass('pgmq.q_ezq_dead') is not null") && get[int](t, pool, "select count(*)::int from pgmq.q_ezq_dead") == 1
			})
			stop()
			require.NoError(t, <-ended)
			require.Less(t, len(strings.Join(logged.all(), "\n")), 1000)
		})
	}
}

func TestRouter_CopesWithForeignMessages(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, `select pgmq.create('ezq')`)
	for _, foreign := range []string{`null`, `1`, `"text"`, `[]`, `{}`, `true`, `{"_type":null}`, `{"_type":7}`, `{"_type":"UserCreated","Email":{}}`, `"\u0001"`} {
		_, err := pool.Exec(t.Context(), "select pgmq.send('ezq', $1::jsonb)", foreign)
		require.NoError(t, err)
	}
	execute(t, pool, `insert into pgmq.q_ezq (vt, message, headers) values (now(), null, null), (now(), null, '7'), (now(), '1', '["x"]')`)
	ctx, stop := context.WithCancel(t.Context())
	router := newRouter(client, ezq.Config{})
	ezq.Handle(router, func(_ context.Context, e userCreated) error {
		if e.Email == "ada" { // the last one; objects without a type are for the only handler
			stop()
		}
		return nil
	})
	require.NoError(t, ezq.Publish(ctx, client, userCreated{"ada"}))
	require.NoError(t, router.Run(ctx))
}

// A role that may insert may write any time.
func TestInvalidTime_StopsNoMessage(t *testing.T) {
	t.Parallel()
	for name, warm := range map[string]bool{"the messages are leased": false, "the messages are locked": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: !warm}})
			messages := subscribe(t, client)
			warmUp(t, client, messages)
			requireCount(t, pool, "pgmq.q_t", 0)
			execute(t, pool, `insert into pgmq.q_t (vt, enqueued_at, last_read_at, message) values
				('-infinity', now(), null, '1'), (now(), '-infinity', null, '2'), (now(), 'infinity', null, '3'),
				(now(), now(), 'infinity', '4'), (now(), now(), '-infinity', '5'), ('4000-01-01 BC', '4000-01-01 BC', '4000-01-01 BC', '6')`)
			got := map[string]bool{}
			for len(got) < 6 {
				msg := receive(t, messages)
				got[string(msg.Payload)] = true
				msg.Ack()
			}
			requireCount(t, pool, "pgmq.q_t", 0)

			execute(t, pool, `insert into pgmq.q_t (vt, message) values ('infinity', '"never"'), ('200000-01-01', '"never"')`)
			publish(t, client, "after")
			msg := receive(t, messages)
			require.Equal(t, "after", msg.UUID)
			msg.Ack()
		})
	}
}
