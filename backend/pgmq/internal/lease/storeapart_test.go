package lease

import (
	"testing"
	"time"

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

func TestRelease_OfOneRowThatIsRefusedKeepsNoOther(t *testing.T) {
	t.Parallel()
	s, pool, leases := claimTwenty(t)
	pgtest.Eventually(t, 5*time.Minute, "the others are released", func() bool { // what a busy machine has no time for is left
		s.writer.release(t.Context(), tokensOf(settlementsOf(leases, subscription.Release)))
		var visible int
		require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from pgmq.q_t where vt <= now()").Scan(&visible))
		require.LessOrEqual(t, visible, 19)
		return visible == 19
	})
}

func TestForgedHeaders_OfOneRowThatIsRefusedKeepNoOthers(t *testing.T) {
	t.Parallel()
	s, pool, leases := claimTwenty(t)
	pgtest.Exec(t, pool, "alter table pgmq.q_t disable trigger refuse")
	pgtest.Exec(t, pool, `update pgmq.q_t set headers = '{"ezq_failures": 3}'`)
	pgtest.Exec(t, pool, "alter table pgmq.q_t enable trigger refuse")
	var forged []forgery
	for _, lease := range leases {
		forged = append(forged, forgery{token: lease.Token, progress: true})
	}
	pgtest.Eventually(t, 5*time.Minute, "the headers of the others are removed", func() bool { // what a busy machine has no time for is left
		s.claims.reader.removeForged(t.Context(), s.queue.pool, forged)
		var left int
		require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from pgmq.q_t where headers ? 'ezq_failures'").Scan(&left))
		require.Positive(t, left)
		return left == 1
	})
}
