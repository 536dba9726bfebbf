package lease

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// What a claim of 10 costs with nothing in front, and behind 100,000 messages
// that are invisible: delayed, or leased by others. Beside it pgmq.read.
func BenchmarkClaim(b *testing.B) {
	const invisible = 100_000
	for _, front := range []struct{ name, sql string }{
		{"nothing in front", "select"},
		{"100k delayed in front", fmt.Sprintf(`insert into pgmq.q_t (vt, message)
			select now() + interval '1 day', '{}' from generate_series(1, %d)`, invisible)},
		{"100k leased in front", fmt.Sprintf(`with i as (insert into pgmq.q_t (vt, message)
			select now(), '{}' from generate_series(1, %d)) select 1`, invisible)},
	} {
		b.Run(front.name, func(b *testing.B) {
			database := pgtest.Database(b)
			pool := pgtest.Pool(b, database)
			pgtest.Exec(b, pool, "select pgmq.create('t')")
			pgtest.Exec(b, pool, front.sql)
			pgtest.Exec(b, pool, "update pgmq.q_t set vt = now() + interval '1 day', read_ct = 1 where vt <= now()")
			b.Run("ezq", func(b *testing.B) { benchmarkClaim(b, pool, claimOf(b, pool)) })
			b.Run("pgmq.read", func(b *testing.B) { benchmarkClaim(b, pool, readOf(b, pool)) })
		})
	}
}

// claim10 leases 10 messages and makes them visible again.
type claim10 func() (leased int, release func())

func benchmarkClaim(b *testing.B, pool *pgxpool.Pool, claim claim10) {
	pgtest.Exec(b, pool, "insert into pgmq.q_t (vt, message) select clock_timestamp(), '{}' from generate_series(1, 1000)")
	pgtest.Exec(b, pool, "vacuum analyze pgmq.q_t")
	b.ReportAllocs()
	for b.Loop() {
		n, release := claim()
		b.StopTimer()
		require.Equal(b, 10, n)
		release()
		b.StartTimer()
	}
	pgtest.Exec(b, pool, "delete from pgmq.q_t where vt <= now()")
}

func claimOf(b *testing.B, pool *pgxpool.Pool) claim10 {
	s := openStore(b, pool, false)
	return func() (int, func()) {
		claim, err := s.Claim(b.Context(), nil, 10, time.Minute)
		require.NoError(b, err)
		return len(claim.Leases), func() {
			var releases []subscription.Settlement
			for _, lease := range claim.Leases {
				releases = append(releases, subscription.Settlement{Token: lease.Token, Action: subscription.Release})
			}
			_, err := s.Settle(b.Context(), releases)
			require.NoError(b, err)
		}
	}
}

func readOf(b *testing.B, pool *pgxpool.Pool) claim10 {
	return func() (int, func()) {
		rows, err := pool.Query(b.Context(), "select msg_id from pgmq.read('t', 60, 10)")
		require.NoError(b, err)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		require.NoError(b, err)
		return len(ids), func() {
			_, err := pool.Exec(b.Context(), "update pgmq.q_t set vt = clock_timestamp() where msg_id = any($1)", ids)
			require.NoError(b, err)
		}
	}
}
