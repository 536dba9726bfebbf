package command

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// requireHarmless fails if a terminal would do anything with text but show it.
func requireHarmless(t *testing.T, text string) {
	t.Helper()
	i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
	require.Negative(t, i, "%q", text)
}

func TestQueues_EscapesNamesForTerminal(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	_, err := pgtest.Pool(t, database).Exec(t.Context(), `select pgmq.create(E'\x1b[2J\x1b[31mfake')`)
	require.NoError(t, err)
	code, out, errOut := outputOf(t, database, "queues")
	require.Zero(t, code)
	require.Contains(t, out, `"\x1b[2j\x1b[31mfake"`)
	requireHarmless(t, out+errOut)
}

// hostile is dead letters that are meant to harm the operator who looks at them. Two of them
// PostgreSQL cannot write out, as if they were larger than 1 GB then.
const hostile = `
	create function written(jsonb) returns text language plpgsql as $$
	begin
		if format('%s', $1) like '%unreadable%' then
			raise exception 'refused' using errcode = '54000';
		end if;
		return format('%s', $1);
	end $$;
	create cast (jsonb as text) with function written(jsonb);
	insert into pgmq.q_orders_dead (vt, message, headers) values
	(now(), '{"_type":"A"}', '{"topic_poisoned":"orders","reason_poisoned":"one"}'),
	('-infinity', '["unreadable"]', '{"topic_poisoned":"orders","reason_poisoned":"two"}'),
	(now(), '1', '{"topic_poisoned":"orders","x":["unreadable"]}'),
	(now(), '{"_type":"\u001b[2J"}', '{"topic_poisoned":"orders\u001b]0;x\u0007","reason_poisoned":"a\u202eb","ezq_group":"\u001b"}'),
	(now(), '{"_type":"Z"}', '{"topic_poisoned":"orders","reason_poisoned":"last"}')`

func TestDead_ListsOthersBesideUnreadableDeadLetter(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	_, err := pool.Exec(t.Context(), "select pgmq.create('orders'), pgmq.create('orders_dead')")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), hostile)
	require.NoError(t, err)
	for _, args := range [][]string{{"dead", "list", "orders"}, {"dead", "list", "orders", "--payload"}} {
		code, out, errOut := outputOf(t, database, args...)
		if len(args) == 3 {
			require.Zero(t, code, errOut)
		} else {
			require.Equal(t, exitFailed, code)
			require.Contains(t, errOut, "payloads that cannot be read: 2")
		}
		for _, want := range []string{"1 TIME orders_dead/1 orders: A, after 0 failures: one", "2 TIME orders_dead/2 orders: no event, after 0 failures: two", "3 TIME", "4 TIME", "5 TIME orders_dead/5 orders: Z", "shown: 5 of 5"} {
			require.Contains(t, out, want)
		}
		requireHarmless(t, out)
		require.Equal(t, len(args) == 4, strings.Contains(out, "cannot be read"), out)
	}
	code, out, errOut := outputOf(t, database, "dead", "redrive", "orders")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "moved back: 4")
	require.Contains(t, errOut, "1 messages stay")
	requireHarmless(t, out+errOut)
}

func TestFind_ShowsNothingThatATerminalObeys(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	_, err := pool.Exec(t.Context(), "select pgmq.create('orders'), pgmq.create('orders_dead')")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), hostile)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `insert into pgmq.q_orders (vt, message, headers) values
		('infinity', '{"_type":"A","x":"\u001b[2J\u202e"}', '{"ezq_uuid":"\u001b]0;x\u0007","tenant":"a","ezq_unique":"orders/\u001b[2J"}'),
		('-infinity', '["unreadable"]', '{"name":"A","tenant":"a"}'),
		(now(), null, '{"name":"A","tenant":"a"}')`)
	require.NoError(t, err)
	for _, args := range [][]string{{"--event", "A"}, {"--header", "tenant=a"}, {"--event", "A", "--payload"}} {
		_, out, errOut := outputOf(t, database, append([]string{"find", "orders"}, args...)...)
		require.Contains(t, out, `"\x1b]0;x\a" in orders: `)
		require.NotContains(t, out, "found: 0")
		require.NotContains(t, out, "1970", "infinity is no date")
		require.Regexp(t, `"\\x1b]0;x\\a" in orders: A, delayed, published TIME, never due, after`, out)
		require.Equal(t, len(args) == 3, strings.Contains(out, "none: the message is NULL"), out)
		requireHarmless(t, out+errOut)
	}
}

func TestDead_SaysThatMessageIsNull(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pgtest.Exec(t, pgtest.Pool(t, database), `select pgmq.create('orders_dead');
		insert into pgmq.q_orders_dead (vt, message, headers) values (now(), null, '{"topic_poisoned":"orders"}'), (now(), null, null)`)
	code, out, errOut := outputOf(t, database, "dead", "list", "orders", "--payload")
	require.Zero(t, code, errOut)
	require.Equal(t, 2, strings.Count(out, "none: the message is NULL"), out)
	require.Contains(t, out, "shown: 2 of 2")
}

func TestDead_LoadsNoPayloads(t *testing.T) {
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	_, err := pool.Exec(t.Context(), "select pgmq.create('orders_dead')")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `insert into pgmq.q_orders_dead (vt, message, headers)
		select now(), jsonb_build_object('_type', repeat('y', 5000000), 'x', repeat('x', 500000)), jsonb_build_object('topic_poisoned', repeat('t', 5000000))
		from generate_series(1, 5)`)
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	code, out, errOut := outputOf(t, database, "dead", "list", "orders")
	runtime.ReadMemStats(&after)
	require.Zero(t, code, errOut)
	require.Contains(t, out, "shown: 5 of 5")
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}

// A megabyte that is stored can be hundreds when PostgreSQL writes it out.
func TestDead_ShowsNoMoreOfAPayloadThanTheLimit(t *testing.T) {
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	_, err := pool.Exec(t.Context(), `select pgmq.create('orders_dead')`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `insert into pgmq.q_orders_dead (vt, message, headers)
		select now(), to_jsonb(repeat(U&'\0001', 200000)), '{"topic_poisoned":"orders"}'
		union all select now(), '{"small":1}', jsonb_build_object('topic_poisoned', 'orders', 'x', repeat('x', 500000))
		union all select now(), '{"last":1}', '{"topic_poisoned":"orders"}'`)
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	code, out, errOut := outputOf(t, database, "dead", "list", "orders", "--payload")
	runtime.ReadMemStats(&after)
	require.Zero(t, code, errOut)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2<<20))
	require.Less(t, len(out), 1<<20)
	require.Contains(t, out, "… its JSON is cut: with its headers it has 1200030 bytes, and the limit is 65536; --payload-limit sets another one")
	require.Contains(t, out, `{"small": 1}… its JSON is cut`)
	require.Contains(t, out, `{"last":1}`)
	_, out, _ = outputOf(t, database, "dead", "list", "orders", "--payload", "--payload-limit", "2000000")
	require.NotContains(t, out, "is cut")
	code, _, errOut = outputOf(t, database, "dead", "list", "orders", "--payload", "--payload-limit=0")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errOut, "--payload-limit is 0: set it to 1 or more")
}

// serve answers each login as answer does.
func serve(t *testing.T, answer func(*pgproto3.Backend, net.Conn)) (url string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				b := pgproto3.NewBackend(conn, conn)
				if _, err := b.ReceiveStartupMessage(); err == nil {
					answer(b, conn)
				}
			}()
		}
	}()
	return "postgres://app:hunter2@" + listener.Addr().String() + "/db?sslmode=disable"
}

func TestServerError_IsEscapedForTerminal(t *testing.T) {
	t.Parallel()
	url := serve(t, func(b *pgproto3.Backend, _ net.Conn) {
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "\x1b]0;pwned\x07\x1b[2Jno \r\n* fake prompt$ \u202e\u2028\u009b2J"})
		_ = b.Flush()
	})
	code, out, errOut := outputOf(t, url, "queues")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "PostgreSQL refuses the login")
	require.Equal(t, 1, strings.Count(errOut, "\n"), "%q", errOut)
	requireHarmless(t, out+errOut)
	require.NotContains(t, errOut, "hunter2")
}

func TestTimeout_EndsCommandOnDrippingServer(t *testing.T) {
	t.Parallel()
	url := serve(t, func(b *pgproto3.Backend, conn net.Conn) {
		b.Send(&pgproto3.AuthenticationOk{})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		_ = b.Flush()
		_, _ = conn.Write([]byte{'N', 0, 1, 0, 0})
		for err := error(nil); err == nil; { // until the command hangs up
			_, err = conn.Write([]byte{'x'})
			select {
			case <-t.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	ended := make(chan int, 1)
	var errOut bytes.Buffer
	go func() {
		ended <- Run(context.Background(), []string{"queues", "--timeout", "500ms"}, Process{
			Out: io.Discard, Err: &errOut, Lookup: lookupIn(map[string]string{"EZQ_DATABASE_URL": url}),
		})
	}()
	select {
	case code := <-ended:
		require.Equal(t, exitTimeout, code)
		require.Contains(t, errOut.String(), "ended after 500ms")
	case <-time.After(30 * time.Second):
		t.Fatal("the command still waits")
	}
}
