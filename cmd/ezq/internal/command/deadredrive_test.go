package command

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// insertFrom adds n dead letters of a topic to those that setUp has made.
func insertFrom(t *testing.T, database, topic string, n int) {
	t.Helper()
	_, err := pgtest.Pool(t, database).Exec(t.Context(), `insert into pgmq.q_orders_dead (vt, message, headers)
		select now(), '{}', jsonb_build_object('topic_poisoned', $1::text) from generate_series(1, $2)`, topic, n)
	require.NoError(t, err)
}

func TestRedrive_SuggestsFlagsForRemainingDeadLetters(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	insertFrom(t, database, "payments", 1)
	code, out, errOut := outputOf(t, database, "dead", "redrive", "orders")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "moved back: 3")
	require.Contains(t, errOut, "1 messages stay")
	require.Contains(t, errOut, "; --dry-run shows what they say, and --from takes those of another topic\n")
	require.NotContains(t, errOut, "Origins")
}

func TestRedrive_SaysThatTheTopicIsPaused(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	code, _, errOut := outputOf(t, database, "pause", "orders", "--reason", "audit", "--by", "ada")
	require.Zero(t, code, errOut)
	code, out, errOut := outputOf(t, database, "dead", "redrive", "orders", "--all")
	require.Zero(t, code, errOut)
	require.Contains(t, out, "moved back: 3\npaused: orders since TIME, until it is resumed, by ada: audit\n")
}

func TestRedrive_OfASelectionTellsWhatTheLimitLeaves(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	insertFrom(t, database, "orders", 1)
	_, out, _ := outputOf(t, database, "dead", "redrive", "orders", "--handler", "charge", "--max", "2")
	require.Contains(t, out, "of these, the oldest 2, as --max says; --all moves all\nmoved back: 2\nleft in orders_dead: 2; if those that were moved succeed now, move the others that were chosen with --all\n")
	_, out, _ = outputOf(t, database, "dead", "redrive", "orders", "--handler", "charge", "--max", "2")
	require.NotContains(t, out, "--max")
	require.Contains(t, out, "moved back: 1\nleft in orders_dead: 1, none of which was chosen\n")
}

func TestRedrive_MarksCappedCounts(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	insertFrom(t, database, "orders", 9_997)
	_, out, _ := outputOf(t, database, "dead", "redrive", "orders", "--dry-run")
	require.Contains(t, out, " 9997 from orders go to all queues")
	insertFrom(t, database, "payments", 1)
	_, out, _ = outputOf(t, database, "dead", "redrive", "orders", "--dry-run")
	require.Equal(t, " 9997 or more from orders go to all queues of the topic: they do not say which\n 3 or more from orders go to the queue orders\n"+
		"of these, the oldest 10, as --max says; --all moves all\n", out)
	_, out, _ = outputOf(t, database, "dead", "redrive", "orders", "--dry-run", "--from", "x")
	require.Contains(t, out, " 9997 or more from orders stay")
}

func TestRedrive_ReportsDeadLetterOfDroppedQueue(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	_, err := pgtest.Pool(t, database).Exec(t.Context(), "select pgmq.drop_queue('orders')")
	require.NoError(t, err)
	insertFrom(t, database, "orders", 1)
	_, out, _ := outputOf(t, database, "dead", "redrive", "orders", "--dry-run")
	require.Equal(t, " 3 from orders stay until there is the queue orders, which does not exist\n"+
		" 1 from orders stay until the topic has a queue: they do not say which\n", out)
	code, out, errOut := outputOf(t, database, "dead", "redrive", "orders")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "moved back: 0")
	require.Contains(t, errOut, "create its queue with Client.CreateQueue or pgmq.create, and redrive again")
	require.NotContains(t, errOut, "no dead letters")
}
