package pgmq

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

func openMeasured(tb testing.TB) (*Client, *pgxpool.Pool) {
	tb.Helper()
	pool := pgtest.Pool(tb, pgtest.Database(tb))
	client, err := New(pool, &Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, client.Close()) })
	pgtest.Exec(tb, pool, "select pgmq.create('t')")
	return client, pool
}

// fill adds n messages that become visible, or did, an interval from now.
func fill(tb testing.TB, pool *pgxpool.Pool, n int, interval string) {
	tb.Helper()
	pgtest.Exec(tb, pool, fmt.Sprintf("insert into pgmq.q_t (vt, message) select now() + interval '%s', '{}' from generate_series(1, %d)", interval, n))
}

func TestMetrics_DescribeQueue(t *testing.T) {
	t.Parallel()
	client, pool := openMeasured(t)
	empty, err := client.Metrics(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, QueueMetrics{Queue: "t", Topic: "t"}, empty)

	fill(t, pool, 2, "-1 hour")
	fill(t, pool, 3, "1 hour")
	pgtest.Exec(t, pool, "insert into pgmq.q_t (vt, message) values ('infinity', '{}'), ('-infinity', '{}')")
	found, err := client.Metrics(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, 3, found.Visible)
	require.Equal(t, 4, found.Invisible)
	require.False(t, found.VisibleCapped || found.InvisibleCapped)
	require.InDelta(t, time.Hour, found.OldestVisible, float64(time.Minute))
	require.WithinDuration(t, time.Now().Add(time.Hour), found.NextDue, time.Minute)

	pgtest.Exec(t, pool, "delete from pgmq.q_t where vt < now()")
	pgtest.Eventually(t, time.Minute, "statistics", func() bool {
		found, err := client.Metrics(t.Context(), "t")
		require.NoError(t, err)
		return found.Estimate == 4 && found.DeadRows == 3
	})
	pgtest.Exec(t, pool, "vacuum pgmq.q_t")
	pgtest.Eventually(t, time.Minute, "the vacuum", func() bool {
		found, err := client.Metrics(t.Context(), "t")
		require.NoError(t, err)
		return found.DeadRows == 0 && !found.VacuumedAt.IsZero()
	})
}

func TestMetrics_StopCountingAtLimit(t *testing.T) {
	t.Parallel()
	client, pool := openMeasured(t)
	for _, test := range []struct {
		add    int
		capped bool
	}{{countLimit, false}, {1, true}} {
		fill(t, pool, test.add, "-1 hour")
		fill(t, pool, test.add, "1 hour")
		found, err := client.Metrics(t.Context(), "t")
		require.NoError(t, err)
		require.Equal(t, countLimit, found.Visible)
		require.Equal(t, countLimit, found.Invisible)
		require.Equal(t, test.capped, found.VisibleCapped)
		require.Equal(t, test.capped, found.InvisibleCapped)
	}
}

// Also when the planner thinks that everything is visible, and nothing is.
func TestMetrics_NeverScanTable(t *testing.T) {
	t.Parallel()
	_, pool := openMeasured(t)
	fill(t, pool, 50_000, "-1 hour")
	pgtest.Exec(t, pool, "analyze pgmq.q_t")
	pgtest.Exec(t, pool, "update pgmq.q_t set vt = now() + interval '1 day'")
	sql := strings.ReplaceAll(metricsStatement("t"), "$1", fmt.Sprint(countLimit+1))
	rows, err := pool.Query(t.Context(), "explain (costs off) "+sql)
	require.NoError(t, err)
	plan := ""
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		plan += line + "\n"
	}
	require.NoError(t, rows.Err())
	require.Equal(t, 4, strings.Count(plan, "using q_t_vt_idx"), plan)
	require.NotContains(t, plan, "Seq Scan on q_t", plan)
}

// What looking at a queue of 100,000 messages costs, beside pgmq.metrics.
func BenchmarkMetrics(b *testing.B) {
	for _, visible := range []bool{true, false} {
		b.Run(fmt.Sprintf("visible=%v", visible), func(b *testing.B) {
			client, pool := openMeasured(b)
			fill(b, pool, 100_000, map[bool]string{true: "-1 hour", false: "1 hour"}[visible])
			pgtest.Exec(b, pool, "vacuum analyze pgmq.q_t")
			b.Run("ezq", func(b *testing.B) {
				for b.Loop() {
					_, err := client.Metrics(b.Context(), "t")
					require.NoError(b, err)
				}
			})
			b.Run("pgmq.metrics", func(b *testing.B) {
				for b.Loop() {
					pgtest.Exec(b, pool, "select pgmq.metrics('t')")
				}
			})
		})
	}
}

func TestAllMetrics_IncludeQueuesOfGroups(t *testing.T) {
	t.Parallel()
	client, pool := openMeasured(t)
	fill(t, pool, 2, "-1 hour")
	pgtest.Exec(t, pool, "select pgmq.create('Upper')") // its table is in lower case
	grouped, err := New(pool, &Config{Subscriber: SubscriberConfig{Group: "g"}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, grouped.Close()) })
	require.NoError(t, grouped.SubscribeInitialize("t"))

	all, err := client.AllMetrics(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.Equal(t, "t", all[0].Queue)
	require.Equal(t, 2, all[0].Visible)
	require.Contains(t, all[1].Queue, "t_g_h")
	require.Equal(t, "upper", all[2].Queue)
}

func TestAllMetrics_NameUnmeasurableQueueBesideOthers(t *testing.T) {
	t.Parallel()
	client, pool := openMeasured(t)
	pgtest.Exec(t, pool, "select pgmq.create('secret')")
	pgtest.Exec(t, pool, "alter table pgmq.q_secret rename column vt to due") // as if it were none
	all, err := client.AllMetrics(t.Context())
	require.Len(t, all, 1)
	require.ErrorContains(t, err, `"secret"`)
}

// As after pg_restore of the schema alone.
func TestAllMetrics_NameQueuesThatPGMQDoesNotList(t *testing.T) {
	t.Parallel()
	client, pool := openMeasured(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		pgtest.Exec(t, pool, "select pgmq.create('"+name+"')")
	}
	pgtest.Exec(t, pool, "create table pgmq.q_other (id int); create index on pgmq.q_other (id)")
	_, err := client.AllMetrics(t.Context())
	require.NoError(t, err)
	pgtest.Exec(t, pool, "delete from pgmq.meta where queue_name <> 't'")
	all, err := client.AllMetrics(t.Context())
	require.Len(t, all, 1)
	require.EqualError(t, err, `pgmq: list queues: 4 tables of queues have no row in pgmq.meta, and are not listed: "a", "b", "c", …;`+
		` restore the rows of pgmq.meta, which a dump of the schema alone leaves out; or let their owner run SELECT pgmq.create('a') and so on, which adds the row and leaves the messages`)
	for _, name := range []string{"a", "b", "c", "d"} {
		pgtest.Exec(t, pool, "select pgmq.create('"+name+"')")
	}
	_, err = client.AllMetrics(t.Context())
	require.NoError(t, err)
}

func TestAllMetrics_LockedQueueHidesNoOther(t *testing.T) {
	t.Parallel()
	client, pool := openMeasured(t)
	pgtest.Exec(t, pool, "select pgmq.create('a')")
	pgtest.Exec(t, pool, "select pgmq.create('z')")
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	_, err = tx.Exec(t.Context(), "lock table pgmq.q_a")
	require.NoError(t, err)

	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	all, err := client.AllMetrics(ctx)
	require.NoError(t, ctx.Err(), "it has waited for the lock")
	require.Len(t, all, 2)
	require.Equal(t, []string{"t", "z"}, []string{all[0].Queue, all[1].Queue})
	require.ErrorContains(t, err, `pgmq: measure for "a": canceling statement due to lock timeout (SQLSTATE 55P03); another transaction has locked`)
	require.NotContains(t, err.Error(), "\n", "it is one queue's error")
}
