package command

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/cluster"
)

// The commits wait for a standby that is not there: they are made, and nothing says so.
func TestDead_SaysHowManyMayHaveBeenChangedWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	server := cluster.Start(t)
	database := server.URL()
	client, err := pgmq.Open(t.Context(), database, nil)
	require.NoError(t, err)
	for _, topic := range []string{"orders", "orders_dead"} {
		require.NoError(t, client.CreateQueue(t.Context(), topic, nil))
	}
	require.NoError(t, client.Close())
	insertFrom(t, database, "orders", 3)
	server.Execute("alter system set synchronous_standby_names = 'absent'", "select pg_reload_conf()", "select pg_sleep(1)")

	code, out, errOut := outputOf(t, database, "dead", "purge", "orders", "--row", "1", "--yes", "--timeout", "4s")
	require.Equal(t, exitTimeout, code)
	require.Equal(t, "deleted: 0\n1 more may have been deleted: the answer is lost\n", out)
	require.Contains(t, errOut, "it is unknown whether it was done, for one message")
	_, out, _ = outputOf(t, database, "dead", "redrive", "orders", "--row", "2", "--timeout", "4s")
	require.Contains(t, out, "moved back: 0\n1 more may have been moved back: the answer is lost\n")
	_, out, _ = outputOf(t, database, "dead", "purge", "orders", "--row", "3", "--yes", "--timeout", "4s", "--json")
	require.Contains(t, out, `"unknown": 1`)
}
