package lease

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// claimLimit is how many messages a claim asks for.
const claimLimit = 100

// The cost of a statement follows from what it asks for, and not from what ANALYZE happened to
// see. Each runs as ezq runs it; PostgreSQL says what its plan has read.
func TestPlans_DoNotDependOnStatistics(t *testing.T) {
	t.Parallel()
	pgtest.EachHistory(t, requirePlans)
}

func requirePlans(t *testing.T, history []string, partitioned bool) {
	t.Helper()
	database := pgtest.Database(t)
	pool, plans := pgtest.Explain(t, database)
	for _, queue := range []string{"t", "ezq_schedules"} {
		pgtest.Exec(t, pool, "select pgmq.create('"+queue+"')")
	}
	pgtest.Exec(t, pool, "create table seen (key bytea primary key, until timestamptz not null); create index on seen (until)")
	pgtest.MakeHistory(t, database, history, partitioned)
	plans.Forget()
	w := &planChecker{t: t, ctx: t.Context(), pool: pool, plans: plans}
	w.consume(openStore(t, pool, false))
	w.consume(openStore(t, pool, true))
}

// planChecker runs statements, and holds what they have read against what they were asked for.
type planChecker struct {
	t     *testing.T
	ctx   context.Context
	pool  *pgxpool.Pool
	plans *pgtest.Plans
}

func (w *planChecker) consume(s *Store) {
	w.t.Helper()
	w.plans.Forget()
	claim := func(settle ...subscription.Settlement) []subscription.Lease {
		claim, err := s.Claim(w.ctx, settle, claimLimit, time.Minute)
		w.plans.RequireFewRows(w.t, "a claim", claimLimit, err)
		require.Len(w.t, claim.Leases, claimLimit)
		return claim.Leases
	}
	leases := claim()
	leases = claim(settlementsOf(leases, subscription.Ack)...)
	leases = claim(settlementsOf(leases, subscription.DeadLetter)...)
	lost, err := s.Extend(w.ctx, tokensOf(settlementsOf(leases, subscription.Ack)), time.Minute)
	w.plans.RequireFewRows(w.t, "extending", claimLimit, err)
	require.Equal(w.t, subscription.Missed{Now: lost.Now}, lost)
	_, err = s.Settle(w.ctx, settlementsOf(leases, subscription.Nack))
	w.plans.RequireFewRows(w.t, "a nack", claimLimit, err)
	lostAcks := settlementsOf(leases, subscription.Ack)
	for i := range lostAcks {
		lostAcks[i].Number++ // another consumer has leased it meanwhile
	}
	missed, err := s.Settle(w.ctx, lostAcks)
	w.plans.RequireFewRows(w.t, "settling what was lost", claimLimit, err)
	require.Len(w.t, missed.Lost, claimLimit)
	_, err = s.Settle(w.ctx, settlementsOf(claim(), subscription.Release))
	w.plans.RequireFewRows(w.t, "a release", claimLimit, err)
	w.lock(s)
	s.claims.screening.activate()
	screened, err := s.Claim(w.ctx, nil, claimLimit, time.Minute)
	w.plans.RequireFewRows(w.t, "a claim that screens", claimLimit, err)
	require.Len(w.t, screened.Leases, claimLimit)
	w.ackInTx(s.queue.sql(), screened.Leases[0].Token)
	s.claims.idle = true
	_, err = s.claims.untilDue(w.ctx)
	w.plans.RequireFewRows(w.t, "a look", 1, err)
}

func (w *planChecker) lock(s *Store) {
	w.t.Helper()
	locked, claim, ok, err := s.Lock(w.ctx, claimLimit, time.Minute)
	w.plans.RequireFewRows(w.t, "a hold", claimLimit, err)
	require.True(w.t, ok)
	require.Len(w.t, claim.Leases, claimLimit)
	tokens := tokensOf(settlementsOf(claim.Leases, subscription.Ack))
	_, err = locked.Finish(w.ctx, tokens[:claimLimit/2], tokens[claimLimit/2:], time.Minute)
	w.plans.RequireFewRows(w.t, "the end of a hold", claimLimit, err)
}

// ackInTx acks in a transaction of the application, which has its own settings.
func (w *planChecker) ackInTx(sql *statement.Set, token subscription.Token) {
	w.t.Helper()
	tx, err := w.pool.Begin(w.ctx)
	require.NoError(w.t, err)
	err = (&Receipt{sql: sql}).Ack(w.ctx, tx, token)
	require.NoError(w.t, tx.Commit(w.ctx))
	w.plans.RequireFewRows(w.t, "an ack in a transaction", 1, err)
}
