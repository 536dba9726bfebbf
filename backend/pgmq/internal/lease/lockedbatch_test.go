package lease

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// Locked once more, such a row would be handled again.
func TestLockedBatch_WhoseRowsATriggerKeepsIsNotLockedAgain(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	pgtest.Exec(t, pool, "select pgmq.create('t')")
	pgtest.Exec(t, pool, "insert into pgmq.q_t (vt, message) select now(), '{}' from generate_series(1, 3)")
	pgtest.Exec(t, pool, `create function keep() returns trigger language plpgsql as $$ begin if new.msg_id < 3 then return null; end if; return new; end $$;
		create trigger keep before update on pgmq.q_t for each row execute function keep()`)
	s := openStore(t, pool, false)
	locked, claim, ok, err := s.Lock(t.Context(), 2, time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	require.Len(t, claim.Leases, 2)
	_, err = locked.Finish(t.Context(), nil, tokensOf(settlementsOf(claim.Leases, subscription.Ack)), time.Minute)
	require.NoError(t, err)

	_, _, ok, err = s.Lock(t.Context(), 2, time.Minute)
	require.NoError(t, err)
	require.False(t, ok)
	next, err := s.Claim(t.Context(), nil, 2, time.Minute)
	require.NoError(t, err)
	require.Len(t, next.Leases, 1)
	require.EqualValues(t, 3, next.Leases[0].ID)
}
