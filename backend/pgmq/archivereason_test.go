package pgmq_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// A bomb is locked while the reasons are written, and not any more when they are archived.
func TestQuarantine_ArchivesOnlyWithReason(t *testing.T) {
	t.Parallel()
	config := withMaxMessage(1 << 20)
	config.Subscriber.Lease, config.Subscriber.LeaseOnly = time.Minute, true
	client, pool := open(t, config)
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `create function wait() returns trigger language plpgsql as $$ begin
			perform pg_advisory_xact_lock(case when exists (select from changed where headers ? 'reason_poisoned') then 2 else 1 end);
			return null; end $$;
		create trigger wait after update on pgmq.q_t referencing new table as changed for each statement execute function wait()`)
	insertBombs(t, pool, 2, numbers(100, "1e131071"), "null")
	begin := func() pgx.Tx {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		return tx
	}
	run := func(tx pgx.Tx, statement string) error {
		_, err := tx.Exec(t.Context(), statement)
		return err
	}
	waits := func(what, lock string) {
		pgtest.Eventually(t, patience, what, func() bool {
			return get[int](t, pool, "select count(*) from pg_locks where not granted and "+lock) == 1
		})
	}
	lease, reasons, row := begin(), begin(), begin()
	require.NoError(t, run(lease, "select pg_advisory_xact_lock(1)"))
	require.NoError(t, run(reasons, "select pg_advisory_xact_lock(2)"))
	subscribe(t, client)
	waits("both are being leased", "locktype = 'advisory' and objid = 1")
	locked := make(chan error, 1)
	go func() {
		locked <- run(row, "select from pgmq.q_t where msg_id = (select max(msg_id) from pgmq.q_t) for update")
	}()
	waits("one is to be locked", "locktype = 'transactionid'")
	require.NoError(t, run(lease, "rollback"))
	require.NoError(t, <-locked)
	waits("the reasons are written", "locktype = 'advisory' and objid = 2")
	require.NoError(t, run(row, "rollback"))
	require.NoError(t, run(reasons, "rollback"))
	for _, tx := range []pgx.Tx{lease, reasons, row} {
		_ = tx.Rollback(t.Context()) // which returns its connection
	}

	pgtest.Eventually(t, patience, "one is archived", func() bool { return get[int](t, pool, "select count(*) from pgmq.a_t") >= 1 })
	require.Zero(t, get[int](t, pool, "select count(*) from pgmq.a_t where not coalesce(headers ? 'reason_poisoned', false)"))
}
