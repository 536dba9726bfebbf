package pgmq_test

import (
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func parameters(t *testing.T, pool *pgxpool.Pool, table string) string {
	t.Helper()
	return get[string](t, pool, "select coalesce(array_to_string(reloptions, ' '), '') from pg_class where relname = $1", table)
}

func TestTune_SetsParametersOnlyOnRequest(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "a")
	require.Empty(t, parameters(t, pool, "q_t"))
	for range 2 {
		require.NoError(t, client.Tune(t.Context(), "t", nil))
	}
	require.Equal(t, "fillfactor=70 autovacuum_vacuum_threshold=1000 autovacuum_vacuum_scale_factor=0.01 autovacuum_vacuum_cost_delay=1",
		parameters(t, pool, "q_t"))
	require.Equal(t, "autovacuum_vacuum_cost_delay=1", parameters(t, pool, "a_t"))

	require.NoError(t, client.Tune(t.Context(), "t", &pgmq.TuneOptions{FillFactor: 90, VacuumCostDelay: 500 * time.Microsecond, VacuumThreshold: 7, VacuumScaleFactor: 0.000001}))
	require.Equal(t, "fillfactor=90 autovacuum_vacuum_threshold=7 autovacuum_vacuum_scale_factor=1e-06 autovacuum_vacuum_cost_delay=0.5",
		parameters(t, pool, "q_t"))
	requireReceives(t, subscribe(t, client), "a")
}

func TestTune_ReachesPartitions(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	requirePartman(t, pool)
	require.NoError(t, client.CreateQueue(t.Context(), "t", &pgmq.QueueOptions{Kind: pgmq.QueuePartitioned}))
	require.NoError(t, client.Tune(t.Context(), "t", nil))
	require.Contains(t, parameters(t, pool, "q_t_p0"), "fillfactor=70")
}

func TestTune_ReportsErrors(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{})
	require.ErrorIs(t, client.Tune(t.Context(), "t", nil), pgmq.ErrQueueNotFound)
	publish(t, client, "a")
	for _, options := range []pgmq.TuneOptions{
		{FillFactor: 9}, {FillFactor: 101}, {VacuumThreshold: -1}, {VacuumScaleFactor: math.NaN()}, {VacuumCostDelay: 101 * time.Millisecond}, {VacuumCostDelay: -1},
	} {
		require.ErrorIs(t, client.Tune(t.Context(), "t", &options), pgmq.ErrInvalidConfig, options)
	}
	consumer := openAt(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}",
		"grant select, insert, update, delete on all tables in schema pgmq to {role}"), pgmq.Config{})
	err := consumer.Tune(t.Context(), "t", nil)
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, "connect as the owner")
}
