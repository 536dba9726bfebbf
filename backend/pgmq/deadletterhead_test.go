package pgmq_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

func TestDeadLetterHeads_MatchDeadLetters(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('dead')")
	execute(t, pool, `insert into pgmq.q_dead (vt, message, headers) values
		(now(), '{"_type":"Paid"}', '{"ezq_uuid":"u","topic_poisoned":"t","ezq_group":"g","handler_poisoned":"h","reason_poisoned":"r",
			"failures_poisoned":"3","poisoned_at":"2026-01-02T03:04:05Z","tenant":"a"}'),
		(now(), '[1]', '{"name":"Old"}'), (now(), '{"_type":7}', '[]'), (now(), null, null),
		(now(), '{}', '{"topic_poisoned":5,"handler_poisoned":{},"failures_poisoned":7,"poisoned_at":true}'),
		(now(), '{}', jsonb_build_object('topic_poisoned', 't', 'ezq_uuid', repeat('x', 256), 'reason_poisoned', repeat('y', 3000)))`)
	heads, err := client.DeadLetterHeads(t.Context(), "dead", backend.DeadLetterSelection{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), heads[0].At.UTC())
	require.Equal(t, "Paid", heads[0].Event)
	require.Equal(t, "Old", heads[1].Event)
	require.ErrorIs(t, heads[4].Err, pgmq.ErrStrays, "no Redrive takes it for a dead letter either")
	require.Equal(t, "dead/6", heads[5].ID, "as consumers get it")
	deadLetters, err := client.DeadLetters(t.Context(), "dead", backend.DeadLetterSelection{Limit: 10})
	require.NoError(t, err)
	for i, deadLetter := range deadLetters {
		read, err := client.ReadDeadLetter(t.Context(), "dead", deadLetter.Row, 0)
		require.NoError(t, err)
		require.Equal(t, deadLetter, read)
		deadLetter.Payload, deadLetter.Metadata = nil, nil
		require.Equal(t, deadLetter, heads[i])
	}
	_, err = client.ReadDeadLetter(t.Context(), "dead", 99, 0)
	require.ErrorIs(t, err, pgx.ErrNoRows)
}

func TestInvalidTime_HidesNoDeadLetterOrQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 5)
	execute(t, pool, "update pgmq.q_dead set enqueued_at = (array['infinity', '-infinity', '290000-01-01', '4713-01-01 BC'])[msg_id]::timestamptz where msg_id < 5")
	execute(t, pool, "select pgmq.create('other'), pgmq.create('third')")
	execute(t, pool, "update pgmq.meta set created_at = case queue_name when 'dead' then 'infinity' else '-infinity' end::timestamptz where queue_name <> 'third'")

	deadLetters, err := client.DeadLetters(t.Context(), "dead", backend.DeadLetterSelection{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []string{"m1", "m2", "m3", "m4", "m5"}, idsOf(deadLetters))
	heads, err := client.DeadLetterHeads(t.Context(), "dead", backend.DeadLetterSelection{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, idsOf(deadLetters), idsOf(heads))
	for _, deadLetter := range deadLetters {
		require.NoError(t, deadLetter.Err)
		_, err := client.ReadDeadLetter(t.Context(), "dead", deadLetter.Row, 0)
		require.NoError(t, err)
	}
	require.Equal(t, time.Unix(0, 0).UTC(), deadLetters[0].At.UTC())

	queues, err := client.Queues(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"dead plain", "other plain", "third plain"}, described(queues))
	_, err = client.AllMetrics(t.Context())
	require.NoError(t, err)
}
