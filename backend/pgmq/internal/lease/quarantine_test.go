package lease

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestQuarantine_SparesMessageOnServerTrouble(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]struct{ unreadable, doubtful bool }{
		"54000": {unreadable: true}, // program_limit_exceeded: larger than 1 GB
		"XX001": {unreadable: true}, // data_corrupted
		"22P05": {unreadable: true}, // untranslatable_character
		"57014": {doubtful: true},   // query_canceled: by a timeout, or by an operator
		"53200": {doubtful: true},   // out_of_memory
		"XX000": {doubtful: true},   // internal_error
		"57P01": {},                 // admin_shutdown
		"40P01": {},                 // deadlock_detected
	} {
		err := error(&pgconn.PgError{Severity: "ERROR", Code: code})
		require.Equal(t, want.unreadable, fault.IsUnreadable(err), code)
		require.Equal(t, want.doubtful, fault.IsDoubtful(err), code)
	}
}

func TestQuarantine_BacksOffDoubtfulMessage(t *testing.T) {
	t.Parallel()
	message := unread{doubtful: true, cause: errors.New("out of memory")}
	for number, want := range map[int32]time.Duration{1: 2 * time.Second, 2: 4 * time.Second, 10: 1024 * time.Second, 12: time.Hour, 1000: time.Hour} {
		message.row.Number = number
		require.Equal(t, want, message.hiddenFor(), number)
	}
	require.Nil(t, message.headers("UTF8"), "it is not marked, as it may still be handled")
}

// What is refused of an outcome is not the fault of a message that a claim was to read.
func TestQuarantine_IgnoresRefusedOutcomes(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	pgtest.Exec(t, pool, "select pgmq.create('t')")
	s := openStore(t, pool, false)
	pgtest.Exec(t, pool, "select pgmq.send_batch('t', array['{}', '{}']::jsonb[])")
	claim, err := s.Claim(t.Context(), nil, 1, time.Minute)
	require.NoError(t, err)
	require.Len(t, claim.Leases, 1)
	pgtest.Exec(t, pool, `create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no' using errcode = '22P05'; end $$`)
	pgtest.Exec(t, pool, "create trigger t before delete on pgmq.q_t for each row execute function refuse()")
	_, err = s.Claim(t.Context(), settlementsOf(claim.Leases, subscription.Ack), 1, time.Minute)
	refusal := (*subscription.Refusal)(nil)
	require.ErrorAs(t, err, &refusal)
	require.False(t, s.claims.screening.active)
}

func TestQuarantine_ExtendsLeaseWhileArchiveWaits(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	pgtest.Exec(t, pool, "select pgmq.create('t')")
	s := openStore(t, pool, false)
	pgtest.Exec(t, pool, "select pgmq.send_batch('t', array['1', '2']::jsonb[])")
	claim, err := s.Claim(t.Context(), nil, 2, time.Minute)
	require.NoError(t, err)
	require.Len(t, claim.Leases, 2)
	pgtest.Exec(t, pool, "update pgmq.q_t set read_ct = 2 where message = '2'") // another consumer has taken it
	suspects := s.claims.examination.suspects
	for _, l := range claim.Leases {
		taken := Row{ID: l.ID, Number: int32(l.Number), ReadAt: l.At}
		suspects.requeue(suspect{unread: unread{row: taken, cause: errors.New("too large")}, lease: time.Hour, until: time.Now().Add(time.Minute)})
	}
	s.claims.examination.extend(t.Context(), pool, suspects.takeOverdue())
	require.Empty(t, suspects.takeOverdue())
	require.Len(t, suspects.takeWaiting(), 1)
	var extended string
	require.NoError(t, pool.QueryRow(t.Context(), "select message::text from pgmq.q_t where vt > now() + interval '50 minutes' and read_ct = 1").Scan(&extended))
	require.Equal(t, "1", extended)
}

func TestScreening_GivesSlowServerMoreTime(t *testing.T) {
	t.Parallel()
	var s screening
	slow := &pgconn.PgError{Severity: "ERROR", Code: "57014"}
	for _, want := range []time.Duration{minClaimTimeout, 2 * minClaimTimeout, 4 * minClaimTimeout, maxClaimTimeout, maxClaimTimeout} {
		require.Equal(t, want, s.claimTimeout())
		require.True(t, s.recordFailure(slow, true))
		require.True(t, s.active)
		s.recordResult(10, 0, 0)
		require.False(t, s.active, "no message was to blame")
	}
	require.True(t, s.recordFailure(slow, true))
	s.recordResult(10, 6, 0)
	require.True(t, s.active, "there may be more")
	require.Equal(t, minClaimTimeout, s.claimTimeout())
	require.Equal(t, 40, s.batchLimit)
}

// It may take milliseconds, and was done up to ten times for a message that was screened.
func TestClaim_WritesMessageOutOnce(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	pgtest.Exec(t, pool, "select pgmq.create('t')")
	s := openStore(t, pool, false)
	pgtest.Exec(t, pool, "create sequence written_out")
	pgtest.Exec(t, pool, `create function written(jsonb) returns text stable language plpgsql as $$ begin perform nextval('written_out'); return format('%s', $1); end $$`)
	pgtest.Exec(t, pool, "create cast (jsonb as text) with function written(jsonb)")
	const n = 5
	for name, fetch := range map[string]func() ([]subscription.Lease, error){
		"by a claim": func() ([]subscription.Lease, error) {
			claim, err := s.Claim(t.Context(), nil, n, time.Minute)
			return claim.Leases, err
		},
		"by a lock": func() ([]subscription.Lease, error) {
			locked, claim, _, err := s.Lock(t.Context(), n, time.Minute)
			if err == nil {
				_, err = locked.Finish(t.Context(), tokensOf(settlementsOf(claim.Leases, subscription.Ack)), nil, time.Minute)
			}
			return claim.Leases, err
		},
		"by a claim that sifts": func() ([]subscription.Lease, error) {
			s.claims.screening.activate()
			claim, err := s.Claim(t.Context(), nil, n, time.Minute)
			return claim.Leases, err
		},
	} {
		pgtest.Exec(t, pool, `insert into pgmq.q_t (vt, message, headers) select now(), '{"a":1}', '{"b":2}' from generate_series(1, 5)`)
		pgtest.Exec(t, pool, "alter sequence written_out restart")
		leases, err := fetch()
		require.NoError(t, err, name)
		require.Len(t, leases, n, name)
		var writes int
		require.NoError(t, pool.QueryRow(t.Context(), "select nextval('written_out') - 1").Scan(&writes), name)
		require.Equal(t, 2*n, writes, "%s: the messages and their headers", name)
	}
}
