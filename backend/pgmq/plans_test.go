package pgmq

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// claimLimit is how many messages are asked for.
const claimLimit = 100

// The cost of a statement follows from what it asks for, and not from what ANALYZE happened to
// see. Each runs as ezq runs it; PostgreSQL says what its plan has read.
func TestPlans_DoNotDependOnStatistics(t *testing.T) {
	t.Parallel()
	pgtest.EachHistory(t, requirePlans)
}

func requirePlans(t *testing.T, history []string, partitioned bool) {
	t.Helper()
	w, client, keys := newPlanChecker(t, history, partitioned)
	w.administer(client, keys)
}

// A key is looked up in a queue that is as full as it is.
func TestPlans_OfConditionsDoNotDependOnStatistics(t *testing.T) {
	t.Parallel()
	pgtest.EachHistory(t, func(t *testing.T, history []string, partitioned bool) {
		w, client, _ := newPlanChecker(t, history, partitioned)
		w.publishOnConditions(client)
	})
}

func newPlanChecker(t *testing.T, history []string, partitioned bool) (*planChecker, *Client, *KeyStore) {
	t.Helper()
	database := pgtest.Database(t)
	pool, plans := pgtest.Explain(t, database)
	client, err := New(pool, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	require.NoError(t, client.SubscribeInitialize("t"))
	require.NoError(t, client.SubscribeInitialize("ezq_schedules"))
	keys, err := client.KeyStore(t.Context(), "seen")
	require.NoError(t, err)
	pgtest.MakeHistory(t, database, history, partitioned)
	plans.Forget()
	return &planChecker{t: t, ctx: t.Context(), plans: plans}, client, keys
}

// planChecker runs statements, and holds what they have read against what they were asked for.
type planChecker struct {
	t     *testing.T
	ctx   context.Context
	plans *pgtest.Plans
}

func (w *planChecker) administer(client *Client, keys *KeyStore) {
	w.t.Helper()
	_, err := client.Metrics(w.ctx, "t")
	w.plans.RequireFewRows(w.t, "Metrics", countLimit, err)
	_, err = client.QueueStates(w.ctx) // which looks for code on the queues
	require.NoError(w.t, err)
	w.plans.Forget()
	_, err = client.QueueStates(w.ctx)
	w.plans.RequireFewRows(w.t, "QueueStates", countLimit, err)
	_, err = client.Peek(w.ctx, "t", backend.Peek{Limit: claimLimit}) // which looks at the catalog
	require.NoError(w.t, err)
	w.plans.Forget()
	_, err = client.Peek(w.ctx, "t", backend.Peek{Limit: claimLimit})
	w.plans.RequireFewRows(w.t, "Peek", claimLimit, err)
	pgtest.Exec(w.t, client.pool, "delete from pgmq.q_t where vt > now()") // Redrive goes by ids, and walks past each that is not due
	w.plans.Forget()
	deadLetters, err := client.DeadLetters(w.ctx, "t", backend.DeadLetterSelection{Limit: claimLimit})
	w.plans.RequireFewRows(w.t, "DeadLetters", claimLimit, err)
	require.Len(w.t, deadLetters, claimLimit)
	heads, err := client.DeadLetterHeads(w.ctx, "t", backend.DeadLetterSelection{Limit: claimLimit})
	w.plans.RequireFewRows(w.t, "DeadLetterHeads", claimLimit, err)
	require.Len(w.t, heads, claimLimit)
	_, err = client.Origins(w.ctx, "t", backend.DeadLetterSelection{Topics: []string{"back"}})
	w.plans.RequireFewRows(w.t, "Origins", lookBatch, err)
	pgtest.Exec(w.t, client.pool, "select pgmq.create('back')")
	w.plans.Forget()
	moved, err := client.Redrive(w.ctx, "t", backend.DeadLetterSelection{Limit: claimLimit, Topics: []string{"back"}})
	w.plans.RequireFewRows(w.t, "Redrive", claimLimit, err)
	require.Equal(w.t, backend.Redriven{Moved: claimLimit}, moved)
	replayed, err := client.Replay(w.ctx, "t", ReplayFilter{Limit: claimLimit})
	w.plans.RequireFewRows(w.t, "Replay", claimLimit, err)
	require.Equal(w.t, claimLimit, replayed)
	_, err = client.PurgeArchive(w.ctx, "t", time.Now())
	w.plans.RequireFewRows(w.t, "PurgeArchive", 1000, err)
	_, err = client.PurgeDeadLetters(w.ctx, "t", backend.DeadLetterSelection{Topics: []string{"other"}})
	require.ErrorIs(w.t, err, ErrStrays)
	w.plans.RequireFewRows(w.t, "PurgeDeadLetters", 1000, nil)
	_, err = client.PurgeQueue(w.ctx, "t")
	w.plans.RequireFewRows(w.t, "PurgeQueue", 1000, err)

	tick := func() error {
		tick := backend.ScheduleTick{Schedule: "s", At: time.Now()}
		return client.Publish("t", message.NewMessageWithContext(backend.WithScheduleTick(w.ctx, &tick), "1", nil))
	}
	for range 2 { // the first one begins the schedule, the second one publishes; they look for code on the queues
		require.NoError(w.t, tick())
	}
	w.plans.Forget()
	w.plans.RequireFewRows(w.t, "a tick", 1, tick())
	_, err = keys.Seen(w.ctx, "k")
	w.plans.RequireFewRows(w.t, "KeyStore.Seen", 1, err)
	w.plans.RequireFewRows(w.t, "KeyStore.Mark", 2, keys.Mark(w.ctx, "k", time.Hour))
	seen, err := keys.Seen(w.ctx, "k")
	w.plans.RequireFewRows(w.t, "KeyStore.Seen", 1, err)
	require.True(w.t, seen)
}

// publishOnConditions publishes by itself, where a plan is kept, and in a transaction.
func (w *planChecker) publishOnConditions(client *Client) {
	w.t.Helper()
	publishers := map[string]message.Publisher{"": client}
	unique := backend.WithPublishCondition(w.ctx, &backend.PublishCondition{UniqueKey: "the first"})
	require.NoError(w.t, client.Publish("t", message.NewMessageWithContext(unique, "the first", nil))) // it makes the index, which waits for transactions
	tx, err := client.pool.Begin(w.ctx)
	require.NoError(w.t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(w.ctx)) }()
	publishers[" in a transaction"] = client.WithTx(tx)
	for where, publisher := range publishers {
		for what, condition := range map[string]func(key string) *backend.PublishCondition{
			"ID":     func(string) *backend.PublishCondition { return &backend.PublishCondition{Once: true} },
			"Unique": func(key string) *backend.PublishCondition { return &backend.PublishCondition{UniqueKey: "u" + key} },
			"Replace": func(key string) *backend.PublishCondition {
				return &backend.PublishCondition{UniqueKey: "r" + key, Replace: true}
			},
		} {
			publish := func(name string) error {
				return publisher.Publish("t", message.NewMessageWithContext(backend.WithPublishCondition(w.ctx, condition(name+where)), name+where, nil))
			}
			require.NoError(w.t, publish("first")) // it looks for what it needs
			w.plans.Forget()
			w.plans.RequireFewRows(w.t, what+where+", new", 1, publish("second"))
			w.plans.RequireFewRows(w.t, what+where+", known", 1, publish("second"))
		}
	}
}
