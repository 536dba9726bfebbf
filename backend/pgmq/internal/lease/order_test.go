package lease

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// Messages of one time come in the order of their ids, however many of them a claim takes, also
// where PostgreSQL has stored later ones before earlier ones.
func TestClaim_OrdersEqualTimesByID(t *testing.T) {
	t.Parallel()
	const messages, atATime = 1000, 70
	for name, take := range map[string]func(s *Store) (subscription.Claim, error){
		"leased": func(s *Store) (subscription.Claim, error) { return s.Claim(t.Context(), nil, atATime, time.Minute) },
		"held": func(s *Store) (subscription.Claim, error) {
			locked, claim, _, err := s.Lock(t.Context(), atATime, time.Minute)
			if err == nil && locked != nil {
				_, err = locked.Finish(t.Context(), nil, tokensOf(settlementsOf(claim.Leases, subscription.Ack)), time.Minute)
			}
			return claim, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Pool(t, pgtest.Database(t))
			pgtest.Exec(t, pool, "select pgmq.create('t')")
			s := openStore(t, pool, false)
			pgtest.Exec(t, pool, "alter table pgmq.q_t set (autovacuum_enabled = false)")
			pgtest.Exec(t, pool, "insert into pgmq.q_t (vt, message) select now() + interval '1 day', '{}' from generate_series(1, 3000)")
			for _, early := range []string{"msg_id between 1501 and 2900", "msg_id < 1500"} { // VACUUM makes room for half of them before the others
				pgtest.Exec(t, pool, "delete from pgmq.q_t where vt > now() and "+early)
				pgtest.Exec(t, pool, "vacuum analyze pgmq.q_t")
				pgtest.Exec(t, pool, fmt.Sprintf("select pgmq.send_batch('t', array_fill('{}'::jsonb, array[%d]), '2020-01-01'::timestamptz)", messages/2))
			}
			var inOrder bool
			require.NoError(t, pool.QueryRow(t.Context(), `select bool_and(msg_id > before) from (
				select msg_id, lag(msg_id) over (order by ctid) as before from pgmq.q_t where vt <= now()) as m`).Scan(&inOrder))
			require.False(t, inOrder, "the messages lie in the order of their ids")

			for last, taken := int64(3000), 0; taken < messages; {
				claim, err := take(s)
				require.NoError(t, err)
				require.NotEmpty(t, claim.Leases)
				for _, lease := range claim.Leases {
					last++
					require.Equal(t, last, lease.ID)
				}
				taken += len(claim.Leases)
			}
		})
	}
}
