package command

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// insertStray adds an event that is no dead letter behind those that setUp has made.
func insertStray(t *testing.T, database string) {
	t.Helper()
	_, err := pgtest.Pool(t, database).Exec(t.Context(), `insert into pgmq.q_orders_dead (vt, message) values (now(), '{"_type":"X"}')`)
	require.NoError(t, err)
}

func TestDeadPurge_LeavesStrays(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	_, err := pgtest.Pool(t, database).Exec(t.Context(), `insert into pgmq.q_orders_dead (vt, message, headers)
		select now(), '{}', '{"topic_poisoned":"orders"}' from generate_series(1, 97)`)
	require.NoError(t, err)
	insertStray(t, database)
	code, out, errOut := outputOf(t, database, "dead", "purge", "orders", "--yes")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "deleted: 100\n", out)
	require.Contains(t, errOut, `1 messages stay: they are not dead letters of "orders"`)
	require.Contains(t, errOut, "look at them with ezq dead list --in orders_dead; delete those of another topic with --from, and all that is there with --strays\n")
	_, out, _ = outputOf(t, database, "dead", "list", "orders")
	require.Contains(t, out, "101 TIME not a dead letter: it does not say where it came from")
}

func TestDeadPurge_DeletesStraysOnlyOnRequest(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	insertStray(t, database)
	code, _, errOut := outputOf(t, database, "dead", "purge", "orders", "--strays")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "ezq: orders_dead has 4 messages, and all of them would be deleted for good: add --yes\n", errOut)
	code, out, _ := outputOf(t, database, "dead", "purge", "orders", "--yes", "--strays")
	require.Zero(t, code)
	require.Equal(t, "deleted: 4\n", out)
}

func TestDeadPurge_DeletesOtherTopicOnRequest(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	_, err := pgtest.Pool(t, database).Exec(t.Context(), `insert into pgmq.q_orders_dead (vt, message, headers)
		values (now(), '{}', '{"topic_poisoned":"payments"}')`)
	require.NoError(t, err)
	_, out, errOut := outputOf(t, database, "dead", "purge", "orders", "--yes", "--from", "payments")
	require.Equal(t, "deleted: 1\n", out)
	require.Contains(t, errOut, `3 messages stay: they are not dead letters of "payments"`)
	code, out, _ := outputOf(t, database, "dead", "purge", "--in", "orders_dead", "--yes")
	require.Zero(t, code)
	require.Equal(t, "deleted: 3\n", out)
}

func TestDeadPurge_RefusesLiveQueue(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	code, _, errOut := outputOf(t, database, "dead", "purge", "--in", "orders", "--yes")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errOut, "--in does not say which topics the dead letters came from: name them with --from, or delete all that is in orders with --strays, "+
		"also events that wait to be handled, if it is a queue in use\n")
	code, out, errOut := outputOf(t, database, "dead", "purge", "--in", "orders", "--from", "orders", "--yes")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "deleted: 0\n", out)
	require.Contains(t, errOut, "look at them with ezq dead list --in orders; delete those of another topic with --from, and all that is there with --strays, "+
		"also events that wait to be handled, if it is a queue in use\n")
	code, _, errOut = outputOf(t, database, "dead", "purge", "--in", "orders", "--strays")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "all of them would be deleted for good, also events that wait to be handled, if it is a queue in use: add --yes")
	found, err := client.Metrics(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, 1, found.Visible)
}
