package lease

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// claimTwenty returns the leases of twenty messages, and what finds and refuses to change number 7.
func claimTwenty(t *testing.T) (*Store, *pgxpool.Pool, []subscription.Lease) {
	t.Helper()
	pool := pgtest.Pool(t, pgtest.Database(t))
	pgtest.Exec(t, pool, "select pgmq.create('t')")
	pgtest.Exec(t, pool, "insert into pgmq.q_t (vt, message, headers) select now(), '{}', '{}' from generate_series(1, 20)")
	s := openStore(t, pool, false)
	claim, err := s.Claim(t.Context(), nil, 20, time.Hour)
	require.NoError(t, err)
	require.Len(t, claim.Leases, 20)
	pgtest.Exec(t, pool, `create function refuse() returns trigger language plpgsql as $$ begin if new.msg_id = 7 then raise 'not today'; end if; return new; end $$;
		create trigger refuse before update on pgmq.q_t for each row execute function refuse()`)
	return s, pool, claim.Leases
}

// requireAllButOne calls store until it has stored all but number 7, whose ids a query then returns. A busy machine has
// time for some of them each time.
func requireAllButOne(t *testing.T, pool *pgxpool.Pool, leases []subscription.Lease, stored string, store func(rest []subscription.Lease)) {
	t.Helper()
	rest := slices.Clone(leases)
	pgtest.Eventually(t, 5*time.Minute, "all but one are stored", func() bool {
		store(rest)
		rows, err := pool.Query(t.Context(), stored)
		require.NoError(t, err)
		done, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		require.NoError(t, err)
		rest = slices.DeleteFunc(rest, func(lease subscription.Lease) bool { return slices.Contains(done, lease.ID) })
		rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
		return len(rest) <= 1
	})
	require.Len(t, rest, 1)
	require.EqualValues(t, 7, rest[0].ID)
}

func TestRelease_OfOneRowThatIsRefusedKeepsNoOther(t *testing.T) {
	t.Parallel()
	s, pool, leases := claimTwenty(t)
	requireAllButOne(t, pool, leases, "select msg_id from pgmq.q_t where vt <= now()", func(rest []subscription.Lease) {
		s.writer.release(t.Context(), tokensOf(settlementsOf(rest, subscription.Release)))
	})
}

func TestForgedHeaders_OfOneRowThatIsRefusedKeepNoOthers(t *testing.T) {
	t.Parallel()
	s, pool, leases := claimTwenty(t)
	pgtest.Exec(t, pool, "alter table pgmq.q_t disable trigger refuse")
	pgtest.Exec(t, pool, `update pgmq.q_t set headers = '{"ezq_failures": 3}'`)
	pgtest.Exec(t, pool, "alter table pgmq.q_t enable trigger refuse")
	requireAllButOne(t, pool, leases, "select msg_id from pgmq.q_t where not headers ? 'ezq_failures'", func(rest []subscription.Lease) {
		var forged []forgery
		for _, lease := range rest {
			forged = append(forged, forgery{token: lease.Token, progress: true})
		}
		s.claims.reader.removeForged(t.Context(), s.queue.pool, forged)
	})
}
