package pgmq_test

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// insertBombs stores n messages that go before all others.
func insertBombs(t *testing.T, pool *pgxpool.Pool, n int, message, headers string) {
	t.Helper()
	execute(t, pool, fmt.Sprintf("insert into pgmq.q_t (vt, message, headers) select '-infinity', (%s), (%s) from generate_series(1, %d)", message, headers, n))
}

func numbers(n int, number string) string {
	return fmt.Sprintf("select jsonb_agg('%s'::numeric) from generate_series(1, %d)", number, n)
}

// Each of these takes PostgreSQL a moment to write out, and a publisher next to nothing. One at a
// time, they would keep a consumer busy for a minute.
func TestQuarantine_ThousandBombsDelayNoMessage(t *testing.T) {
	t.Parallel()
	const long = "1e131071"
	for name, test := range map[string]struct {
		message, headers string
		config           pgmq.SubscriberConfig
		bombs            int  // or 1,000
		indexed          bool // there is an index of keys
	}{
		"numbers with many digits":                        {message: numbers(100, long), config: pgmq.SubscriberConfig{LeaseOnly: true}},
		"numbers that come while messages are locked":     {message: numbers(100, long)},
		"numbers for a consumer of one message at a time": {message: numbers(100, "-"+long), config: pgmq.SubscriberConfig{MaxInFlight: 1}},
		"numbers with many zeros behind the point":        {message: numbers(200, "0."+strings.Repeat("0", 16000))},
		// Looking at one of these takes tens of milliseconds.
		"numbers that are short and large":   {message: numbers(60_000, "1e399"), bombs: 30},
		"numbers in the headers":             {message: "'{}'", headers: "select jsonb_build_object('n', (" + numbers(100, long) + "))"},
		"numbers in a key that has an index": {message: "'{}'", headers: keyedBomb(100), indexed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &warnings{}
			bombs := cmp.Or(test.bombs, 1000)
			test.config.Lease, test.config.MaxMessageBytes = time.Minute, 1<<20
			client, pool := open(t, pgmq.Config{Logger: slog.New(log), Publisher: withMaxMessage(1 << 20).Publisher, Subscriber: test.config})
			messages := subscribe(t, client)
			warmUp(t, client, messages)
			publish(t, client, "before")
			receive(t, messages).Ack()
			if test.indexed {
				publishOn(t, client, "keyed", unique("k"), 0)
				receive(t, messages).Ack()
			}
			insertBombs(t, pool, bombs, test.message, cmp.Or(test.headers, "null"))
			publish(t, client, "after")
			start := time.Now()
			msg := receive(t, messages)
			took := time.Since(start)
			require.Equal(t, "after", msg.UUID)
			msg.Ack()
			requireCount(t, pool, "pgmq.q_t", 0)
			t.Logf("the message came after %v, all were archived after %v", took, time.Since(start))
			require.Less(t, took, 10*time.Second) // less than one on a machine of its own
			require.Equal(t, bombs, get[int](t, pool, "select count(*) from pgmq.a_t where headers ? 'reason_poisoned'"))
			require.NoError(t, client.Stats()["t"].Failing)
		})
	}
}

// An array of numbers, such as an embedding, is no bomb, and ten times as many take ten times as long.
func TestScreening_LooksAtNumbersInLinearTime(t *testing.T) {
	t.Parallel()
	_, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t')")
	for _, n := range []int{20_000, 200_000} {
		execute(t, pool, fmt.Sprintf("insert into pgmq.q_t (vt, message) values (now(), (%s))", numbers(n, "0.25")))
	}
	look := func(sql string, id int64) time.Duration {
		start := time.Now()
		_, err := pool.Exec(t.Context(), sql, []int64{id}, 1<<30)
		require.NoError(t, err)
		return time.Since(start)
	}
	for name, sql := range pgmq.LooksAt("t") {
		few, many := time.Hour, time.Hour
		for range 3 {
			few, many = min(few, look(sql, 1)), min(many, look(sql, 2))
		}
		require.Less(t, many, 40*few, name) // a hundred times, if it were the square
	}
}

// Each of these may be read, and takes PostgreSQL about a second; the others are archived. There is
// no time for all, and the rest comes back again and again.
func TestQuarantine_SlowMessagesDelayNoOther(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	messages := subscribe(t, client)
	warmUp(t, client, messages)
	go func() {
		for msg := range messages {
			if len(msg.Payload) < 100 {
				_, err := pool.Exec(t.Context(), "insert into handled values ($1)", msg.UUID)
				assert.NoError(t, err)
			}
			msg.Ack()
		}
	}()
	execute(t, pool, "create table handled (id text)")
	insertBombs(t, pool, 500, numbers(300, "1e131071"), "null")
	insertBombs(t, pool, 300, "'{}'", "select jsonb_build_object('x', repeat('x', 200000))")
	slowest := time.Duration(0)
	for i := range 10 {
		id := fmt.Sprint("good ", i)
		start := time.Now()
		require.NoError(t, client.Publish("t", message.NewMessage(id, []byte("{}"))))
		pgtest.Eventually(t, time.Minute, "the message is handled", func() bool {
			return get[int](t, pool, "select count(*) from handled where id = '"+id+"'") == 1
		})
		slowest = max(slowest, time.Since(start))
	}
	t.Logf("the slowest came after %v", slowest)
	require.Less(t, slowest, 25*time.Second) // less than a lease; two on a machine of its own
	requireCount(t, pool, "pgmq.a_t", 300)
}

// They were read together only, for which there was never enough time.
func TestQuarantine_DeliversFewSlowMessages(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	insertBombs(t, pool, 3, numbers(30, "1e131071"), "null")
	messages := subscribe(t, client)
	for range 3 {
		msg := receive(t, messages)
		require.Greater(t, len(msg.Payload), 3_900_000)
		msg.Ack()
	}
	requireCount(t, pool, "pgmq.q_t", 0)
}

// The order of those that can be read is kept, also where a claim took long for another reason.
func TestScreening_KeepsOrder(t *testing.T) {
	t.Parallel()
	client, pool := open(t, withMaxMessage(1<<20))
	require.NoError(t, client.SubscribeInitialize("t"))
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprint(i))
		publish(t, client, want[i])
		execute(t, pool, bomb(50))
	}
	messages := subscribe(t, client)
	for _, id := range want {
		msg := receive(t, messages)
		require.Equal(t, id, msg.UUID)
		msg.Ack()
	}
	requireCount(t, pool, "pgmq.a_t", 30)
	requireCount(t, pool, "pgmq.q_t", 0)
}

// A message may have long numbers, and be no bomb.
func TestQuarantine_DeliversReadableSuspects(t *testing.T) {
	t.Parallel()
	client, pool := open(t, withMaxMessage(1<<20))
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, bomb(50))
	execute(t, pool, `select pgmq.send('t', '[1e500]', '{"ezq_uuid":"digits"}'::jsonb)`)
	execute(t, pool, `select pgmq.send('t', to_jsonb(md5('') || repeat(md5('a'), 6000) || (select string_agg(md5(n::text), '') from generate_series(1, 900) as n)), '{"ezq_uuid":"large"}'::jsonb)`)
	publish(t, client, "plain")
	requireReceived(t, client, "plain", "digits", "large")
	requireCount(t, pool, "pgmq.q_t", 0)
	requireCount(t, pool, "pgmq.a_t", 1)
}

// Headers that are as large as jsonb can be take no reason besides; the constraint stands for
// a quarter of a gigabyte.
func TestQuarantine_ArchivesMessageRefusingReasonHeader(t *testing.T) {
	t.Parallel()
	client, pool := open(t, withMaxMessage(1<<20))
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, "alter table pgmq.q_t add check (not headers ?& array['k', 'reason_poisoned'])")
	insertBombs(t, pool, 3, numbers(100, "1e131071"), `select '{"k":1}'::jsonb`)
	publish(t, client, "after")
	requireReceived(t, client, "after")
	requireCount(t, pool, "pgmq.q_t", 0)
	require.Equal(t, 3, get[int](t, pool, "select count(*) from pgmq.a_t where headers->>'reason_poisoned' like '%MaxMessageBytes%'"))
}

// Nor can what is damaged be copied to the archive.
func TestQuarantine_HidesMessageItCannotArchive(t *testing.T) {
	t.Parallel()
	client, pool := open(t, withMaxMessage(1<<20))
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, "alter table pgmq.a_t add check (jsonb_typeof(message) <> 'array')")
	insertBombs(t, pool, 1, numbers(100, "1e131071"), "null")
	insertBombs(t, pool, 1, "select to_jsonb(repeat('x', 2000000))", "null")
	publish(t, client, "after")
	requireReceived(t, client, "after")
	requireCount(t, pool, "pgmq.q_t where vt > now() + interval '50 minutes' and headers ? 'reason_poisoned'", 1)
	requireCount(t, pool, "pgmq.a_t", 1)
}
