package pgmq_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
)

func TestTheHeadOfADeadLetterSaysWhatTheLetterSays(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('dead')")
	execute(t, pool, `insert into pgmq.q_dead (vt, message, headers) values
		(now(), '{"_type":"Paid"}', '{"ezq_uuid":"u","topic_poisoned":"t","ezq_group":"g","handler_poisoned":"h","reason_poisoned":"r",
			"failures_poisoned":"3","poisoned_at":"2026-01-02T03:04:05Z","tenant":"a"}'),
		(now(), '[1]', '{"name":"Old"}'), (now(), '{"_type":7}', '[]'), (now(), null, null)`)
	heads, err := client.DeadLetterHeads(t.Context(), "dead", 10)
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), heads[0].At.UTC())
	require.Equal(t, "Paid", heads[0].Event)
	require.Equal(t, "Old", heads[1].Event)
	letters, err := client.DeadLetters(t.Context(), "dead", 10)
	require.NoError(t, err)
	for i, letter := range letters {
		read, err := client.ReadDeadLetter(t.Context(), "dead", letter.ID)
		require.NoError(t, err)
		require.Equal(t, letter, read)
		letter.Payload, letter.Metadata = nil, nil
		require.Equal(t, letter, heads[i])
	}
	_, err = client.ReadDeadLetter(t.Context(), "dead", 99)
	require.ErrorIs(t, err, pgx.ErrNoRows)
}

func TestATimeThatIsNoneHidesNoDeadLetterAndNoQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertLetters(t, pool, 5)
	execute(t, pool, "update pgmq.q_dead set enqueued_at = (array['infinity', '-infinity', '290000-01-01', '4713-01-01 BC'])[msg_id]::timestamptz where msg_id < 5")
	execute(t, pool, "select pgmq.create('other'), pgmq.create('third')")
	execute(t, pool, "update pgmq.meta set created_at = case queue_name when 'dead' then 'infinity' else '-infinity' end::timestamptz where queue_name <> 'third'")

	letters, err := client.DeadLetters(t.Context(), "dead", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"m1", "m2", "m3", "m4", "m5"}, uuids(letters))
	heads, err := client.DeadLetterHeads(t.Context(), "dead", 10)
	require.NoError(t, err)
	require.Equal(t, uuids(letters), uuids(heads))
	for _, letter := range letters {
		require.NoError(t, letter.Err)
		_, err := client.ReadDeadLetter(t.Context(), "dead", letter.ID)
		require.NoError(t, err)
	}
	require.Equal(t, time.Unix(0, 0).UTC(), letters[0].At.UTC())

	queues, err := client.Queues(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"dead plain", "other plain", "third plain"}, described(queues))
	_, err = client.AllMetrics(t.Context())
	require.NoError(t, err)
}
