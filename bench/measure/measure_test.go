package measure

import (
	"math"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestMedian_IsMiddleValue(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 2, Median([]float64{9, 1, 2}), 0)
	require.InDelta(t, 2.5, Median([]float64{3, 9, 1, 2}), 0)
	require.True(t, math.IsNaN(Median(nil)))
}

func TestPercentile_IsOneOfTheNumbers(t *testing.T) {
	t.Parallel()
	var numbers []float64
	for i := 100; i > 0; i-- {
		numbers = append(numbers, float64(i))
	}
	require.InDelta(t, 50, Percentile(numbers, 50), 0)
	require.InDelta(t, 99, Percentile(numbers, 99), 0)
	require.InDelta(t, 7, Percentile([]float64{7}, 99), 0)
	require.True(t, math.IsNaN(Percentile(nil, 50)))
}

func TestMeter_MeasuresServerCost(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("the CPU time of the server is read from /proc")
	}
	pool, err := pgxpool.New(t.Context(), pgtest.Database(t))
	require.NoError(t, err)
	defer pool.Close()
	meter, err := NewMeter(t.Context(), pool)
	require.NoError(t, err)
	start, err := meter.Read(t.Context())
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "create table t as select repeat('x', 100) from generate_series(1, 20000)")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "select count(*) from generate_series(1, 300000)")
	require.NoError(t, err)
	cost, err := meter.Since(t.Context(), start)
	require.NoError(t, err)
	require.Greater(t, cost.Server, 5*time.Millisecond)
	require.Greater(t, cost.WAL, int64(2_000_000))
	require.Positive(t, cost.Client)
	require.Positive(t, cost.Allocs)
}
