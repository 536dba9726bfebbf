package command

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// lease leases all that waits in orders, as a consumer does whose handler takes long.
const lease = `update pgmq.q_orders set vt = now() + interval '30 seconds', read_ct = read_ct + 1, last_read_at = now()`

func TestFind_ShowsWhereAMessageIs(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{7}, ezq.Topic("orders"), ezq.ID("order 7"), ezq.Delay(time.Hour), ezq.Header("tenant", "a\x1b")))
	require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{8}, ezq.Topic("orders"), ezq.Unique("order 8\x1b")))
	code, out, errOut := outputOf(t, database, "find", "orders", "--id", "order 7", "--payload")
	require.Zero(t, code, errOut)
	require.Equal(t, `order 7 in orders: OrderPaid, delayed, published TIME, due TIME, after 0 deliveries and 0 failures
 {"Order":7,"_type":"OrderPaid"}
found: 1
`, out)
	_, again, _ := outputOf(t, database, "find", "orders", "--header", "tenant=a\x1b", "--event", "OrderPaid", "--payload")
	require.Equal(t, out, again)
	_, again, _ = outputOf(t, database, "find", "orders", "--field", "Order=7", "--event", "OrderPaid", "--header", "tenant=a\x1b", "--payload")
	require.Equal(t, out, again)
	_, out, _ = outputOf(t, database, "find", "orders", "--field", `Order="8"`)
	require.Equal(t, "found: 0\nan event that was handled is gone, unless it is archived\n", out)
	_, out, _ = outputOf(t, database, "find", "orders", "--unique", "order 8\x1b")
	require.Regexp(t, `^\S+ in orders: OrderPaid, waiting, .*, unique key "order 8\\x1b"\nfound: 1\n$`, out)
	code, out, _ = outputOf(t, database, "find", "orders", "--event", "OrderPaid", "--max", "5")
	require.Zero(t, code)
	require.Contains(t, out, " in orders_dead: OrderPaid, dead since TIME\n")
	require.Contains(t, out, "found: 5\nthere may be more: --max shows more\n")
	pgtest.Exec(t, pgtest.Pool(t, database), lease)
	_, out, _ = outputOf(t, database, "find", "orders", "--id", "order 7")
	require.Contains(t, out, "order 7 in orders: OrderPaid, delivered, published TIME, leased or to be tried again at TIME, after 1 delivery and 0 failures\n")
	pgtest.Exec(t, pgtest.Pool(t, database), `with m as (delete from pgmq.q_orders where headers->>'ezq_uuid' = 'order 7' returning *)
		insert into pgmq.a_orders (msg_id, read_ct, enqueued_at, vt, message, headers) select msg_id, read_ct, enqueued_at, vt, message, headers from m`)
	_, out, _ = outputOf(t, database, "find", "orders", "--id", "order 7")
	require.Equal(t, "order 7 in the archive of orders: OrderPaid, archived, published TIME\nfound: 1\n", out)
	code, out, _ = outputOf(t, database, "find", "orders", "--id", "order 9")
	require.Zero(t, code)
	require.Equal(t, "found: 0\nan event that was handled is gone, unless it is archived\n", out)
}

// Two kinds of keys are easily taken for each other: ezq.Key has events in order, and ezq.Unique stores one once.
func TestFind_TellsTheKindsOfKeysApart(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{7}, ezq.Topic("orders"), ezq.Key("customer 1"), ezq.ID("keyed")))
	require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{8}, ezq.Topic("orders"), ezq.Unique("order 8")))
	code, _, errOut := outputOf(t, database, "publish", "orders", "--data", "{}", "--key", "customer 1")
	require.Zero(t, code, errOut)
	_, out, _ := outputOf(t, database, "find", "orders", "--key", "customer 1")
	require.Contains(t, out, "keyed in orders: ")
	require.Contains(t, out, "found: 2\n")
	_, out, _ = outputOf(t, database, "find", "orders", "--key", "order 8")
	require.Equal(t, "found: 0\nan event that was handled is gone, unless it is archived; the key of ezq.Unique, Replace or Debounce is --unique\n", out)
	_, out, _ = outputOf(t, database, "find", "orders", "--unique", "customer 1")
	require.Equal(t, "found: 0\nan event that was handled is gone, unless it is archived; the key of ezq.Key is --key\n", out)
	_, out, _ = outputOf(t, database, "find", "orders", "--unique", "order 8", "--json")
	require.Contains(t, out, `"unique_key":"order 8"`)
}

func TestFind_NamesTheEvent(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	code, _, errOut := outputOf(t, database, "publish", "orders", "--event", "OrderPaid", "--data", "{}", "--id", "order-9", "--create")
	require.Zero(t, code, errOut)
	for _, args := range [][]string{{"find", "orders", "--id", "order-9"}, {"peek", "orders"}, {"tail", "orders"}} {
		_, out, _ := outputOf(t, database, args...)
		require.Contains(t, out, `order-9 in orders: OrderPaid, waiting, published TIME`, args)
	}
}

func TestMessages_SayThatGroupsCannotBeSeen(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}; grant select on pgmq.topic_bindings to {role}")
	code, _, errOut := outputOf(t, role, "find", "oders", "--id", "order 7")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "ezq: there is no queue of oders, unless it is that of a group: see whether the name is right; the role may not list queues: ")
	require.Contains(t, errOut, "GRANT SELECT ON pgmq.meta")
}

// "found: 0" would be read as an answer.
func TestMessages_OfATopicWithoutQueueAreAnError(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	for _, args := range [][]string{{"find"}, {"cancel"}, {"cancel", "--running"}, {"reschedule", "--delay", "0s"}} {
		code, _, errOut := outputOf(t, database, append(args, "oders", "--id", "order 7")...)
		require.Equal(t, exitFailed, code, args)
		require.Equal(t, "ezq: there is no queue of oders: see whether the name is right: run \"ezq queues\"\n", errOut)
	}
}

func TestFind_NamesWhatItCouldNotLookAt(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}; grant select on pgmq.topic_bindings, pgmq.q_orders, pgmq.a_orders, pgmq.a_orders_dead to {role}")
	code, out, errOut := outputOf(t, role, "find", "orders", "--event", "OrderPaid")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "found: 1\n")
	require.Contains(t, errOut, `GRANT SELECT ON "pgmq"."q_orders_dead" TO the role`)
}

func TestCancel_LeavesWhatIsBeingHandled(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{7}, ezq.Topic("orders"), ezq.ID("order 7")))
	require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{8}, ezq.Topic("orders"), ezq.Unique("order 8")))
	code, out, errOut := outputOf(t, database, "cancel", "orders", "--unique", "order 8")
	require.Zero(t, code, errOut)
	require.Equal(t, "deleted: 1\n", out)
	pgtest.Exec(t, pgtest.Pool(t, database), lease)
	code, out, errOut = outputOf(t, database, "cancel", "orders", "--id", "order 7")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "deleted: 0\n", out)
	require.Contains(t, errOut, "not deleted: 1, which a consumer has, or which failed before and come again: --running deletes these too")
	code, out, errOut = outputOf(t, database, "cancel", "orders", "--id", "order 7", "--running")
	require.Zero(t, code, errOut)
	require.Equal(t, "deleted: 1\nof these were with a consumer, or failed before: 1\n", out)
	code, out, _ = outputOf(t, database, "cancel", "orders", "--id", "order 7", "--running")
	require.Zero(t, code)
	require.Equal(t, "deleted: 0\n", out)
}

func TestCancel_NamesTheCommandThatDeletesADeadLetter(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	dead, err := client.Find(t.Context(), "orders", backend.Selection{Event: "OrderPaid"})
	require.NoError(t, err)
	id := dead[slices.IndexFunc(dead, func(f backend.Found) bool { return f.State == backend.StateDead })].ID
	code, out, errOut := outputOf(t, database, "cancel", "orders", "--id", id)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "deleted: 0\n", out)
	require.Equal(t, "ezq: not deleted: it is a dead letter: ezq dead purge orders --id "+id+" deletes it\n", errOut)
}

func TestReschedule_MovesWhatWaits(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{7}, ezq.Topic("orders"), ezq.ID("order 7")))
	at := time.Date(2040, 1, 31, 9, 0, 0, 0, time.UTC)
	code, out, errOut := outputOf(t, database, "reschedule", "orders", "--id", "order 7", "--at", at.Format(time.RFC3339))
	require.Zero(t, code, errOut)
	require.Equal(t, "moved: 1, to TIME\n", out)
	found, err := client.Find(t.Context(), "orders", backend.Selection{ID: "order 7"})
	require.NoError(t, err)
	require.Equal(t, at, found[0].VisibleAt.UTC())
	code, _, errOut = outputOf(t, database, "reschedule", "orders", "--id", "order 7", "--delay", "0s")
	require.Zero(t, code, errOut)
	found, err = client.Find(t.Context(), "orders", backend.Selection{ID: "order 7"})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), found[0].VisibleAt, time.Minute)
	pgtest.Exec(t, pgtest.Pool(t, database), lease)
	code, out, errOut = outputOf(t, database, "reschedule", "orders", "--id", "order 7", "--delay", "1h")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "moved: 0, to TIME\n", out)
	require.Contains(t, errOut, "not moved: 1, which a consumer has, or which failed before and come again: ezq peek shows when; docs/operate.md says how to have it come now")
}
