package pgmq_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// Not in parallel: it measures the memory of the process.
func TestDeadLetters_TakeBoundedMemoryWhateverTheHeadersAre(t *testing.T) {
	const most = 8 << 20
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t_dead')")
	execute(t, pool, `with many as materialized (select jsonb_object_agg(to_hex(i), '') as h from generate_series(1, 10500) i)
		insert into pgmq.q_t_dead (vt, message, headers) select now(), '1', h || '{"topic_poisoned":"t"}' from many, generate_series(1, 60)`)
	client.ListAtMost(most)
	list := func() ([]backend.FoundDeadLetter, error) {
		return client.DeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{Limit: 100})
	}
	before := heap()
	found, err := list()
	took := int64(heap()) - int64(before)
	t.Logf("%d letters: %d kB of %d", len(found), took>>10, most>>10)
	require.Less(t, took, int64(most*5/4))
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	require.Greater(t, len(found), 8)
	require.Len(t, found[0].Metadata, 10_500)
}

func TestDeadLetters_OfHeadersThatConsumersDoNotTakeAreHeads(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 2)
	execute(t, pool, "update pgmq.q_dead set headers = headers || (select jsonb_object_agg(to_hex(i), '') from generate_series(1, 13000) i) where msg_id = 1")
	found, err := client.DeadLetters(t.Context(), "dead", backend.DeadLetterSelection{Rows: []int64{1, 2}})
	require.NoError(t, err)
	require.Equal(t, []string{"m1", "m2"}, idsOf(found))
	require.ErrorIs(t, found[0].Err, pgmq.ErrTooLarge)
	require.ErrorContains(t, found[0].Err, "and consumers take 131072")
	require.Nil(t, found[0].Metadata)
	require.NoError(t, found[1].Err)
	alone, err := client.ReadDeadLetter(t.Context(), "dead", 1, 0)
	require.NoError(t, err)
	require.Greater(t, len(alone.Metadata), 13_000-1)
}

func TestDeadLetterHeads_EndWhereTheyWouldTakeTooMuchMemory(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 9)
	execute(t, pool, "update pgmq.q_dead set headers = headers || jsonb_build_object('reason_poisoned', repeat('x', 2000))")
	client.ListAtMost(10_000)
	found, err := client.DeadLetterHeads(t.Context(), "dead", backend.DeadLetterSelection{})
	require.ErrorContains(t, err, "go on with After: 5")
	require.Len(t, found, 5)
}
