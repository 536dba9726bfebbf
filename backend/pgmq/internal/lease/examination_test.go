package lease

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// Messages of more than 16 KiB would be suspicious while messages are screened, and others would overtake them.
func TestClaim_KeepsTheOrderOfMessagesAmongWhichOneIsForged(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	pgtest.Exec(t, pool, "select pgmq.create('t')")
	s := openStore(t, pool, false)
	pgtest.Exec(t, pool, `insert into pgmq.q_t (vt, message, headers) select now(),
		case when i % 2 = 0 then (select jsonb_agg(md5((i * 1000 + j)::text)) from generate_series(1, 700) as j) else '{}' end,
		case when i = 5 then '{"ezq_failures": 1}' else '{}' end::jsonb from generate_series(1, 10) as i`)
	for batch := range 2 {
		locked, _, ok, err := s.Lock(t.Context(), 10, time.Minute)
		require.NoError(t, err)
		require.Nil(t, locked)
		require.False(t, ok, "what is forged is to be removed first")
		claim, err := s.Claim(t.Context(), nil, 5, time.Minute)
		require.NoError(t, err)
		for i, lease := range claim.Leases {
			require.EqualValues(t, 5*batch+i+1, lease.ID)
			require.Zero(t, lease.Delivery.Failures)
		}
		require.Len(t, claim.Leases, 5)
		require.False(t, s.claims.screening.active)
		if batch == 0 {
			pgtest.Exec(t, pool, `update pgmq.q_t set headers = '{"ezq_failures": 1}' where msg_id = 8`)
		}
	}
	var forged int
	require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from pgmq.q_t where headers ? 'ezq_failures'").Scan(&forged))
	require.Zero(t, forged)
}

func TestExamination_LogsWhichLeaseCannotBeExtended(t *testing.T) {
	t.Parallel()
	s, pool, leases := claimTwenty(t)
	var log bytes.Buffer
	s.queue.logger = slog.New(slog.NewTextHandler(&log, nil))
	requireAllButOne(t, pool, leases, "select msg_id from pgmq.q_t where vt > now() + interval '90 minutes'", func(rest []subscription.Lease) {
		var some []suspect
		for _, l := range rest {
			row := Row{ID: l.ID, Number: int32(l.Number), ReadAt: l.At}
			some = append(some, suspect{unread: unread{row: row}, lease: 2 * time.Hour, until: time.Now().Add(time.Minute)})
		}
		s.claims.examination.extend(t.Context(), pool, some)
	})
	require.Contains(t, log.String(), "cannot have its lease extended, and comes back when its lease ends")
	require.Contains(t, log.String(), " msg_id=7 messages=1 ")
}
