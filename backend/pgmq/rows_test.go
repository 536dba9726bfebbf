package pgmq_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

var (
	rowsFor  = flag.Duration("rows.d", 2*time.Second, "how long the tests of TestHostileRows write rows")
	rowsSeed = flag.Uint64("rows.seed", 0, "what decides which rows; 0 for another one each time")
)

// rowGenerator makes up rows that the table takes, whatever ezq makes of them.
type rowGenerator struct{ *rand.Rand }

func newRowGenerator(seed, stream uint64) rowGenerator {
	return rowGenerator{rand.New(rand.NewPCG(seed, stream))}
}

func (g rowGenerator) oneOf(of ...string) string { return of[g.IntN(len(of))] }

func (g rowGenerator) time() string {
	if g.IntN(3) == 0 {
		return fmt.Sprintf("now() + interval '%d seconds'", g.IntN(7200)-3600)
	}
	return g.oneOf("now()", "now()", "now()", "'-infinity'", "'infinity'", "'4713-01-01 BC'", "'290000-01-01'", "'epoch'", "now() + interval '1 second'",
		"'294276-12-31 23:59:59.999999Z'", "'4714-11-24 00:00:00Z BC'", "'9999-12-31'", "'10000-01-01'", "now() + interval '365 days'", "now() + interval '367 days'")
}

func (g rowGenerator) count() string {
	return g.oneOf("0", "0", "1", "-1", "24", "2147483647", "2147483646", "-2147483648", fmt.Sprint(g.Int32()))
}

func (g rowGenerator) id() string {
	return g.oneOf("default", "default", fmt.Sprint(-g.Int64()-1), fmt.Sprint(1<<40+g.Int64N(1<<60)))
}

// json returns any text that jsonb may take.
func (g rowGenerator) json(depth int) string {
	switch g.IntN(12) {
	case 0:
		return g.oneOf("null", "true", "false", `""`, "[]", "{}", "0", "-0", "1e-100", "1.5000000", "123456789012345678901234567890")
	case 1:
		return g.oneOf("1e131071", "-1e131071", "1e-16383", "1e500", "0."+strings.Repeat("0", 16000))
	case 2:
		n := g.IntN(3000)
		return strings.Repeat("[", n) + strings.Repeat("]", n)
	case 3:
		return "[" + strings.Repeat(g.oneOf("1e131071", "1e309", "1e-16383")+",", g.IntN(60)) + "1]"
	case 4:
		return `"` + strings.Repeat(g.oneOf("x", `\u001b`, "ä", `\"`, "\U0001F600"), g.IntN(1<<uint(g.IntN(20)))) + `"`
	case 5:
		return `{"` + strings.Repeat("k", g.IntN(100_000)) + `":1}`
	case 6, 7:
		return `{"_type":"Order","N":` + g.oneOf("1", `"1"`, "null", "1e400", "[]") + `}`
	}
	if depth == 0 {
		return "1"
	}
	var members []string
	for range g.IntN(4) {
		members = append(members, g.json(depth-1))
	}
	if g.IntN(2) == 0 {
		return "[" + strings.Join(members, ",") + "]"
	}
	for i := range members {
		members[i] = fmt.Sprintf("%q:%s", g.oneOf("a", "_type", "", "ezq_uuid", "name", "content-type"), members[i])
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (g rowGenerator) headers() string {
	if g.IntN(2) == 0 {
		return g.json(3)
	}
	var members []string
	for _, key := range []string{
		"ezq_uuid", "ezq_enc", "ezq_failures", "ezq_done", "ezq_unknown_since", "ezq_queue", "ezq_group", "ezq_unique", "reason_poisoned", "topic_poisoned",
		"handler_poisoned", "failures_poisoned", "poisoned_at", "content-type", "correlation_id", "x-pgmq-group", "name", "_watermill_delayed_until",
	} {
		if g.IntN(3) == 0 || key == "ezq_unique" && g.IntN(2) == 0 {
			value := g.oneOf(`"t/7"`, `"text"`, `"base64"`, "2147483647", "-1", "1e300", `["a",null]`, `"2999-01-01T00:00:00Z"`, `"EZQEndEvent"`)
			if key == "ezq_unique" {
				value = g.oneOf(`"t/k0"`, `"t/k1"`, `"t/k2"`)
			}
			if g.IntN(4) == 0 {
				value = g.json(2)
			}
			members = append(members, fmt.Sprintf("%q:%s", key, value))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

// write stores a few rows that are alike, and returns how many.
func (g rowGenerator) write(ctx context.Context, pool *pgxpool.Pool) (n int64) {
	id, copies := g.id(), 1
	if id == "default" {
		copies += g.IntN(4)
	}
	row := fmt.Sprintf("(%s, %s, %s, %s, %s, $1::text::jsonb, $2::text::jsonb)", id, g.count(), g.time(), g.time(), g.oneOf("null", "null", g.time()))
	if g.IntN(2) == 0 { // as a publisher may, with the documented grants
		row = fmt.Sprintf("(default, default, %s, default, default, $1::text::jsonb, $2::text::jsonb)", g.time())
	}
	rows := strings.TrimSuffix(strings.Repeat(row+",", copies), ",")
	var message, headers *string
	if g.IntN(10) > 0 {
		message = new(g.json(5))
	}
	if g.IntN(4) > 0 {
		headers = new(g.headers())
	}
	tag, err := pool.Exec(ctx, `insert into pgmq.q_t (msg_id, read_ct, vt, enqueued_at, last_read_at, message, headers)
		overriding system value values `+rows+` on conflict do nothing`, message, headers)
	if err != nil {
		return 0 // what jsonb cannot hold
	}
	return tag.RowsAffected()
}

// settle does with a message what a handler may.
func (g rowGenerator) settle(msg *message.Message) {
	switch g.IntN(8) {
	case 0:
		msg.Nack()
	case 1:
		backend.Release(msg)
	case 2:
		backend.Nack(msg, backend.Redelivery{Delay: time.Millisecond, Failures: g.IntN(5), Done: []string{"a"}, Uncounted: true})
	case 3:
		backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead", Metadata: message.Metadata{backend.DeadLetterReason: "x"}})
	default:
		msg.Ack()
	}
}

const goodPrefix = "good message "

// arrivals notes when good messages are published and handled.
type arrivals struct {
	mu        sync.Mutex
	published map[string]time.Time
	slowest   time.Duration // to publish
	longest   time.Duration // to come
}

func (a *arrivals) publish(t *testing.T, client *pgmq.Client, id string) {
	t.Helper()
	start := time.Now()
	a.mu.Lock()
	a.published[id] = start
	a.mu.Unlock()
	require.NoError(t, client.Publish("t", message.NewMessage(id, []byte("{}"))))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slowest = max(a.slowest, time.Since(start))
}

// handle handles messages, the hostile ones as it comes.
func (a *arrivals) handle(messages <-chan *message.Message, g rowGenerator) {
	for msg := range messages {
		if strings.HasPrefix(msg.UUID, goodPrefix) {
			a.markHandled(msg.UUID)
			msg.Ack()
		} else {
			g.settle(msg)
		}
	}
}

// publishAmong publishes good messages among hostile rows, waits until they are handled, and returns
// how many rows there were.
func (a *arrivals) publishAmong(t *testing.T, g rowGenerator, pool *pgxpool.Pool, clients []*pgmq.Client) (written int64) {
	t.Helper()
	for start, n := time.Now(), 0; time.Since(start) < *rowsFor; n++ {
		for range g.IntN(5) {
			written += g.write(t.Context(), pool)
		}
		a.publish(t, clients[g.IntN(2)], fmt.Sprint(goodPrefix, n))
		written++
		pgtest.Eventually(t, a.allowed(), "there are few good messages that wait", func() bool { return a.waiting() < 50 })
		if waiting, longest := a.oldest(); longest > a.allowed() {
			t.Fatalf("%s waits for %v: %s", waiting, longest, rowOf(t, pool, waiting))
		}
	}
	pgtest.Eventually(t, a.allowed(), "all good messages are handled", func() bool { return a.waiting() == 0 })
	require.Less(t, a.longest, a.allowed())
	return written
}

// oldest returns the good message that waits longest, and for how long.
func (a *arrivals) oldest() (id string, longest time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for waiting, since := range a.published {
		if age := time.Since(since); age > longest {
			id, longest = waiting, age
		}
	}
	return id, longest
}

// rowOf says where a message is.
func rowOf(t *testing.T, pool *pgxpool.Pool, id string) string {
	t.Helper()
	var row string
	err := pool.QueryRow(t.Context(), `select format('msg_id %s, read_ct %s, read %s ago, visible in %s', msg_id, read_ct, now() - last_read_at, vt - now())
		from pgmq.q_t where headers->>'ezq_uuid' = $1`, id).Scan(&row)
	if err != nil {
		return "its row is gone: " + err.Error()
	}
	return row
}

// allowed is how long a message may take, on a machine that is perhaps busy.
func (a *arrivals) allowed() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(5*time.Second, 50*a.slowest)
}

func (a *arrivals) markHandled(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.published[id]; ok {
		a.longest = max(a.longest, time.Since(at))
	}
	delete(a.published, id)
}

func (a *arrivals) waiting() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.published)
}

// seedOfRows returns the seed that was asked for, or a random one, which is logged if the test fails.
func seedOfRows(t *testing.T) uint64 {
	t.Helper()
	seed := *rowsSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("-rows.seed=%d", seed)
		}
	})
	return seed
}

// Whatever is in a row: it stops no other message, and is accounted for itself.
func TestHostileRows_StopNoGoodMessage(t *testing.T) {
	t.Parallel()
	seed := seedOfRows(t)
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	config := func(leaseOnly bool) pgmq.Config {
		return pgmq.Config{Publisher: pgmq.PublisherConfig{MaxPayloadBytes: 10_000}, Subscriber: pgmq.SubscriberConfig{
			MaxMessageBytes: 1 << 20, Lease: 20 * time.Second, NackDelay: time.Millisecond, LeaseOnly: leaseOnly, DrainTimeout: 5 * time.Second,
		}}
	}
	clients := []*pgmq.Client{openAt(t, database, config(false)), openAt(t, database, config(true))}
	require.NoError(t, clients[0].SubscribeInitialize("dead"))
	good := &arrivals{published: map[string]time.Time{}}
	ctx, stop := context.WithCancel(t.Context())
	var handlers sync.WaitGroup
	for i, client := range clients {
		messages, err := client.Subscribe(ctx, "t")
		require.NoError(t, err)
		handlers.Go(func() { good.handle(messages, newRowGenerator(seed, uint64(i))) })
	}

	written := good.publishAmong(t, newRowGenerator(seed, 99), pool, clients)
	pgtest.Eventually(t, patience, "what is due was handled, or hidden", func() bool {
		return get[int](t, pool, "select count(*) from pgmq.q_t where vt <= now()") == 0
	})
	stop()
	handlers.Wait()
	for _, client := range clients {
		require.NoError(t, client.Close())
	}
	requireAccounted(t, pool, clients, written)
	t.Logf("%d rows; a good message came after %v at most, and was published in %v", written, good.longest, good.slowest)
}

// requireAccounted fails if a row is gone that was neither acked, nor dead-lettered, nor archived,
// or if one is due and was not handled. On a busy machine PostgreSQL's answer to an ack may come too
// late, and its repetition finds nothing to ack: Gone.
func requireAccounted(t *testing.T, pool *pgxpool.Pool, clients []*pgmq.Client, written int64) {
	t.Helper()
	var acked, gone int64
	for _, client := range clients {
		stats := client.Stats()["t"]
		acked, gone = acked+stats.Acked, gone+stats.Gone
	}
	left := get[int64](t, pool, "select count(*) from pgmq.q_t")
	dead := get[int64](t, pool, "select count(*) from pgmq.q_dead")
	archived := get[int64](t, pool, "select count(*) from pgmq.a_t")
	noReason := get[string](t, pool, `select coalesce(left(string_agg(format('%s: %s', msg_id, headers), '; '), 1000), '')
		from pgmq.a_t where not coalesce(headers ? 'reason_poisoned', false)`)
	require.Empty(t, noReason, "archived without a reason")
	missing := written - acked - left - dead - archived
	summary := fmt.Sprintf("%d written, %d acked, %d left, %d dead, %d archived: %d missing, %d gone", written, acked, left, dead, archived, missing, gone)
	require.GreaterOrEqual(t, missing, int64(0), summary)
	require.LessOrEqual(t, missing, gone, summary)
	t.Log(summary)
}
