package pgmq_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// Any role that may log in can notify in a loop.
func TestListener_FloodOfNotificationsCausesFewQueries(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]string{"of a queue": "t", "of removals": "pgmq.ezq_removals t", "of pauses": "pgmq.ezq_pauses", "of nothing": "x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			client, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
			pauseT(t, client)
			resumeT(t, client)
			messages := subscribe(t, client)
			publish(t, client, "before")
			receive(t, messages).Ack()
			const commits = "select xact_commit from pg_stat_database where datname = current_database()"
			before, start := get[int64](t, pool, commits), time.Now()
			var own int64
			for ; time.Since(start) < 3*time.Second; own++ {
				execute(t, pool, "select pg_notify('ezq', '"+payload+"')")
			}
			// PostgreSQL counts what a session has done when that is idle, or once a second.
			pgtest.Eventually(t, patience, "its own are counted", func() bool { return get[int64](t, pool, commits)-before >= own })
			others := get[int64](t, pool, commits) - before - own
			t.Logf("%d notifications, and %d transactions of others, in %v", own, others, time.Since(start))
			require.Less(t, others, int64(60*time.Since(start).Seconds()))
		})
	}
}
