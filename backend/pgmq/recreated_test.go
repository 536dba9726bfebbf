package pgmq_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func publishInTx(t *testing.T, database string, client *pgmq.Client) error {
	t.Helper()
	return pgx.BeginFunc(t.Context(), pgtest.Pool(t, database), func(tx pgx.Tx) error {
		return client.WithTx(tx).Publish("t", message.NewMessage("1", nil))
	})
}

// A transaction that has failed cannot be saved. The next one can.
func TestDropElsewhere_FailsOneTransactionAtMost(t *testing.T) {
	t.Parallel()
	for name, groups := range map[string][]string{"the queue is dropped elsewhere": {""}, "the queue of one of two groups is dropped elsewhere": {"b", "a"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			app := openAt(t, database, pgmq.Config{})
			var consumers []*pgmq.Client
			for _, name := range groups {
				consumers = append(consumers, group(t, database, name))
				require.NoError(t, consumers[len(consumers)-1].SubscribeInitialize("t"))
			}
			require.NoError(t, publishInTx(t, database, app))
			existed, err := consumers[0].DropQueue(t.Context(), "t")
			require.NoError(t, err)
			require.True(t, existed)
			if err := publishInTx(t, database, app); err != nil {
				require.ErrorIs(t, err, pgmq.ErrRejected)
			}
			require.NoError(t, publishInTx(t, database, app))
		})
	}
}

func TestDropElsewhere_FailsNoTick(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, other := openAt(t, database, pgmq.Config{}), openAt(t, database, pgmq.Config{})
	at := tryTick(t, client, "nightly", time.Now()).Now.Add(time.Microsecond)
	require.Equal(t, backend.TickPublished, tryTick(t, client, "nightly", at).Outcome)
	for _, topic := range []string{"reports", "ezq_schedules"} {
		_, err := other.DropQueue(t.Context(), topic)
		require.NoError(t, err)
		begun := tryTick(t, client, "nightly", at.Add(time.Microsecond)) // a schedule that was dropped begins anew
		if begun.Outcome == backend.TickTaken {
			require.Equal(t, backend.TickPublished, tryTick(t, client, "nightly", begun.Now.Add(time.Microsecond)).Outcome)
		}
	}
	require.Positive(t, countStored(t, client))
}

func TestDropElsewhere_LetsSubscribeRecreateQueue(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	app, other := openAt(t, database, pgmq.Config{}), openAt(t, database, pgmq.Config{})
	require.NoError(t, app.SubscribeInitialize("t"))
	_, err := other.DropQueue(t.Context(), "t")
	require.NoError(t, err)
	messages := subscribe(t, app)
	publish(t, other, "a")
	requireReceives(t, messages, "a")
}

// What was dropped and is there again may be of another kind: a row's place alone says
// nothing in a partitioned queue, and a queue of PGMQ before 1.10 has no last_read_at.
func TestRecreatedQueue_IsReadAsItsNewKind(t *testing.T) {
	t.Parallel()
	const create = "select pgmq.create('t');"
	old := "alter table pgmq.q_t drop column last_read_at;"
	kinds := map[string]string{
		"plain": create, "unlogged": "select pgmq.create_unlogged('t');", "partitioned": partitionSQL, "old PGMQ": create + old,
	}
	for from, before := range kinds {
		for to, after := range kinds {
			if from != "plain" && to != "plain" {
				continue
			}
			for name, drop := range map[string]string{"and the drop is noticed": "select pgmq.drop_queue('t')", "and the drop is unnoticed": ""} {
				t.Run(from+" to "+to+" "+name, func(t *testing.T) {
					t.Parallel()
					client, pool := open(t, pgmq.Config{})
					execute(t, pool, before)
					store, err := client.Store(t.Context(), "t")
					require.NoError(t, err)
					require.Empty(t, take(t, store))
					if drop != "" {
						execute(t, pool, drop)
						_, err = store.Claim(t.Context(), nil, 10, time.Minute)
						require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
						execute(t, pool, "drop table if exists pgmq.template")
						execute(t, pool, after)
					} else {
						execute(t, pool, "select pgmq.drop_queue('t'); drop table if exists pgmq.template;"+after)
					}
					first, _ := store.Claim(t.Context(), nil, 10, time.Minute) // may fail, for a column that is not there
					require.Empty(t, first.Leases)
					execute(t, pool, `insert into pgmq.q_t (msg_id, vt, message) overriding system value
						values (1, now(), '1'), (101, now() + interval '1 day', '101')`)
					var all []subscription.Lease
					for range 3 {
						all = append(all, take(t, store)...)
					}
					require.Len(t, all, 1)
					require.EqualValues(t, 1, all[0].ID)
					missed, err := store.Settle(t.Context(), []subscription.Settlement{{Token: all[0].Token, Action: subscription.Ack}})
					require.NoError(t, err)
					require.Empty(t, missed)
					requireCount(t, pool, "pgmq.q_t", 1)
				})
			}
		}
	}
}

// take locks what there is, leases what it has locked, and leases the rest.
func take(t *testing.T, store subscription.Store) []subscription.Lease {
	t.Helper()
	locked, lockedClaim, _, err := store.(subscription.Locker).Lock(t.Context(), 10, time.Minute)
	require.NoError(t, err)
	if locked != nil {
		tokens, err := locked.Finish(t.Context(), nil, tokensOf(lockedClaim.Leases), time.Minute)
		require.NoError(t, err)
		for i, token := range tokens {
			lockedClaim.Leases[i].Token = token
		}
	}
	claim, err := store.Claim(t.Context(), nil, 10, time.Minute)
	require.NoError(t, err)
	return append(lockedClaim.Leases, claim.Leases...)
}

func tokensOf(leases []subscription.Lease) (tokens []subscription.Token) {
	for _, lease := range leases {
		tokens = append(tokens, lease.Token)
	}
	return tokens
}

func TestScheduleTick_OverConnectionCreatesQueue(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	publisher, err := pgmq.NewPublisher(conn, nil)
	require.NoError(t, err)
	at := tryTick(t, publisher, "nightly", time.Now()).Now.Add(time.Microsecond)
	require.Equal(t, backend.TickPublished, tryTick(t, publisher, "nightly", at).Outcome)
}

// beforeQuery is a pgx tracer that does something before the first query that contains a text.
type beforeQuery struct {
	text string
	do   func()
	once sync.Once
}

func (b *beforeQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, query pgx.TraceQueryStartData) context.Context {
	if strings.Contains(query.SQL, b.text) {
		b.once.Do(b.do)
	}
	return ctx
}

func (*beforeQuery) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A consumer that archives looks twice: at its queue, and at the archive.
func TestSubscription_StartsWhileQueueIsDropped(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	admin := pgtest.Pool(t, database)
	config, err := pgxpool.ParseConfig(database)
	require.NoError(t, err)
	config.ConnConfig.Tracer = &beforeQuery{text: "intersect", do: func() {
		_, err := admin.Exec(context.Background(), "select pgmq.drop_queue('t')")
		require.NoError(t, err)
	}}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	kept := archiving()
	client, err := pgmq.New(pool, &kept)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	require.NoError(t, client.SubscribeInitialize("t"))
	requireCount(t, admin, "pgmq.q_t", 0)
}

// What an old snapshot shows of a queue that was created after it is nothing, and not a
// table without columns.
func TestWithTx_PublishesToQueueCreatedAfterSnapshot(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
	tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "select count(*) from pg_class") // takes the snapshot
	require.NoError(t, err)
	require.NoError(t, openAt(t, database, pgmq.Config{}).SubscribeInitialize("t"))
	require.NoError(t, client.WithTx(tx).Publish("t", message.NewMessage("1", nil)))
	require.NoError(t, tx.Commit(t.Context()))
	requireCount(t, pool, "pgmq.q_t", 1)
}
