package command

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestPeek_ShowsWhatWaitsNextAndTakesNothing(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	for i := range 3 {
		require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{5 + i}, ezq.Topic("orders"), ezq.ID("later\x1b "+string(rune('a'+i))), ezq.Delay(time.Duration(i+1)*time.Hour)))
	}
	code, out, errOut := outputOf(t, database, "peek", "orders", "--max", "2", "--payload")
	require.Zero(t, code, errOut)
	require.Regexp(t, `^\S+ in orders: OrderPaid, waiting, published TIME, due TIME, after 0 deliveries and 0 failures
 \{"Order":4,"_type":"OrderPaid"\}
"later\\x1b a" in orders: OrderPaid, delayed, published TIME, due TIME, after 0 deliveries and 0 failures
 \{"Order":5,"_type":"OrderPaid"\}
shown: 2
for the next ones, add --after \S+
$`, out)
	fields := strings.Fields(out)
	_, out, _ = outputOf(t, database, "peek", "orders", "--json", "--after", fields[len(fields)-1])
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2)
	var one foundView
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &one))
	require.Equal(t, "later\x1b b", one.ID)
	require.Equal(t, "OrderPaid", one.Event)
	require.Nil(t, one.Payload)
	requireHarmless(t, out)
	var leased int
	require.NoError(t, pgtest.Pool(t, database).QueryRow(t.Context(), "select count(*) from pgmq.q_orders where read_ct > 0").Scan(&leased))
	require.Zero(t, leased)
	code, _, errOut = outputOf(t, database, "peek", "oders")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "there is no queue of oders")
}

func TestTail_ShowsTheNewestAlsoOfTheArchive(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	for i := range 4 {
		require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{5 + i}, ezq.Topic("orders"), ezq.ID("order-"+string(rune('5'+i)))))
	}
	pgtest.Exec(t, pgtest.Pool(t, database), "select pgmq.archive('orders', (select max(msg_id) from pgmq.q_orders))")
	code, out, errOut := outputOf(t, database, "tail", "orders", "-n", "3")
	require.Zero(t, code, errOut)
	require.Equal(t, `order-6 in orders: OrderPaid, waiting, published TIME, due TIME, after 0 deliveries and 0 failures
order-7 in orders: OrderPaid, waiting, published TIME, due TIME, after 0 deliveries and 0 failures
order-8 in the archive of orders: OrderPaid, archived, published TIME
`, out)
	code, _, errOut = outputOf(t, database, "tail", "oders")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "there is no queue of oders")
}

// An empty queue, and silence, would be read as an answer.
func TestPeekAndTail_NameTheGroupsOfATopicThatHasOnlyGroups(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	code, _, errOut := outputOf(t, database, "init", "shop", "--group", "mailer", "--group", "billing", "--yes")
	require.Zero(t, code, errOut)
	code, _, errOut = outputOf(t, database, "publish", "shop", "--data", "{}")
	require.Zero(t, code, errOut)
	for _, args := range [][]string{{"peek", "shop"}, {"tail", "shop"}, {"tail", "shop", "--follow"}} {
		code, _, errOut = outputOf(t, database, args...)
		require.Equal(t, exitFailed, code, args)
		require.Equal(t, "ezq: shop has no queue of its own; name one of its groups with --group: billing, mailer\n", errOut, args)
	}
	for _, name := range []string{"peek", "tail"} {
		code, out, errOut := outputOf(t, database, name, "shop", "--group", "mailer")
		require.Zero(t, code, errOut)
		require.Contains(t, out, " in the group's queue ")
	}
}

func TestTail_SaysWhatItMayNotRead(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}; grant select on pgmq.q_orders to {role}")
	code, out, errOut := outputOf(t, role, "tail", "orders")
	require.Zero(t, code, errOut)
	require.Contains(t, out, " in orders: OrderPaid, waiting")
	require.Contains(t, errOut, `GRANT SELECT ON "pgmq"."a_orders" TO the role`)
	role = pgtest.Role(t, database, "grant usage on schema pgmq to {role}; grant select on pgmq.a_orders to {role}")
	code, _, errOut = outputOf(t, role, "tail", "orders")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, `GRANT SELECT ON "pgmq"."q_orders" TO the role`)
}

// Ids are given out before a transaction commits: what commits late is shown late, and nothing twice.
func TestTail_FollowsAndShowsLateCommits(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	pool := pgtest.Pool(t, database)
	reader, writer := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var errOut strings.Builder
	go func() {
		ended <- Run(ctx, []string{"tail", "orders", "--follow", "--json"}, Process{
			Out: writer, Err: &errOut, Lookup: lookupIn(map[string]string{"EZQ_DATABASE_URL": database}),
		})
		_ = writer.Close()
	}()
	decoder := json.NewDecoder(reader)
	next := func() string {
		var one foundView
		require.NoError(t, decoder.Decode(&one))
		return one.ID
	}
	require.NotEmpty(t, next()) // that of setUp
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	require.NoError(t, ezq.Publish(t.Context(), client.WithTx(tx), OrderPaid{5}, ezq.Topic("orders"), ezq.ID("late")))
	require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{6}, ezq.Topic("orders"), ezq.ID("early")))
	require.Equal(t, "early", next())
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, "late", next())
	require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{7}, ezq.Topic("orders"), ezq.ID("last")))
	require.Equal(t, "last", next())
	stop()
	require.Zero(t, <-ended, errOut.String())
	require.Equal(t, "ezq: what a consumer acks at once is not shown, unless the archive keeps it; Ctrl-C ends it\n", errOut.String())
}

func TestTail_ForgetsWhatIsOld(t *testing.T) {
	t.Parallel()
	now := time.Now()
	shown := &tail{shown: map[int64]time.Time{3: now.Add(-time.Hour), 5: now, 4: now.Add(-time.Minute), 2: now}}
	shown.forget(now)
	require.Equal(t, int64(4), shown.after)
	require.Equal(t, map[int64]time.Time{5: now}, shown.shown)
	for row := range int64(tailMemory + 1) {
		shown.shown[row+10] = now
	}
	shown.forget(now)
	require.Equal(t, int64(tailMemory+10), shown.after)
	require.Empty(t, shown.shown)
}

func TestCompletion_KnowsTopicsOfTheDatabase(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	code, out, errOut := outputOf(t, database, "__complete", "peek", "or")
	require.Zero(t, code, errOut)
	require.Equal(t, "orders\n:4\n", out)
	code, out, _ = outputOf(t, "postgres://x@127.0.0.1:1/x", "__complete", "dead", "list", "")
	require.Zero(t, code)
	require.Equal(t, ":4\n", out)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		code, out, errOut = outputOf(t, "", "completion", shell)
		require.Zero(t, code, errOut)
		require.Contains(t, out, "ezq")
	}
}
