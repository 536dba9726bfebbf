package pgmq_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// forgedMarks are headers with which a message says of itself that it was quarantined, or that it was not.
var forgedMarks = []string{
	`null`, `{}`, `[1]`, `{"reason_poisoned":"r"}`, `{"topic_poisoned":"t"}`, `{"poisoned_at":"2999-01-01T00:00:00Z"}`, `{"reason_poisoned":null,"topic_poisoned":null}`,
	`{"reason_poisoned":"r","topic_poisoned":"t","handler_poisoned":"h","failures_poisoned":7,"poisoned_at":"x","ezq_queue":"t","ezq_group":"g"}`,
}

// settleForged has a consumer ack, and quarantine, a message with each of forgedMarks.
func settleForged(t *testing.T, database string) {
	t.Helper()
	pool := pgtest.Pool(t, database)
	config := withMaxMessage(1 << 20)
	config.Subscriber.Archive = true
	client := openAt(t, database, config)
	messages := subscribe(t, client)
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) select now(), '"acked"', headers::jsonb
		from unnest(array['`+strings.Join(forgedMarks, "','")+`']) as headers`)
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) select now(), (select jsonb_agg('1e131071'::numeric) from generate_series(1, 50)), headers::jsonb
		from unnest(array['`+strings.Join(forgedMarks, "','")+`']) as headers`)
	for range forgedMarks {
		receive(t, messages).Ack()
	}
	requireCount(t, pool, "pgmq.a_t", 2*len(forgedMarks))
	require.NoError(t, client.Close())
}

const (
	ackedSQL       = `pgmq.a_t where message = '"acked"'`
	quarantinedSQL = `pgmq.a_t where message <> '"acked"'`
)

// What becomes of an archived message is decided by the consumer that has archived it.
func TestArchive_IgnoresWhatMessagesSayOfTheirQuarantine(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	settleForged(t, database)

	client := openAt(t, database, pgmq.Config{})
	replayed, err := client.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	require.NoError(t, err)
	require.Equal(t, len(forgedMarks), replayed)
	requireCount(t, pool, `pgmq.q_t where message = '"acked"'`, len(forgedMarks))

	states := map[backend.State]int{}
	for _, mark := range []string{"r", "t"} {
		for _, header := range []string{backend.DeadLetterReason, backend.DeadLetterTopic} {
			for _, f := range find(t, client, backend.Selection{Header: header, Value: mark}) {
				if f.Place == backend.InArchive {
					states[f.State]++
					require.Equal(t, string(f.Payload) == `"acked"`, f.State == backend.StateArchived, "%+v", f)
				}
			}
		}
	}
	require.NotZero(t, states[backend.StateArchived])

	execute(t, pool, "update pgmq.a_t set archived_at = now() - interval '4 days'")
	subscribe(t, pruning(t, database, pgmq.SubscriberConfig{}, &logRecorder{}))
	requireCount(t, pool, ackedSQL, 0)
	require.Equal(t, len(forgedMarks), get[int](t, pool, "select count(*) from "+quarantinedSQL))
}

// What a publisher writes in 3 MB takes a second to read.
func TestArchiveFor_ReadsNoHeaders(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool := pgtest.Pool(t, database)
	client := pruning(t, database, pgmq.SubscriberConfig{}, log)
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `insert into pgmq.a_t (msg_id, vt, archived_at, message, headers)
		select 1, 'infinity', now() - interval '4 days', '"bomb"', jsonb_build_object('x', repeat('x', 50000000), 'reason_poisoned', 'r')`)
	execute(t, pool, `insert into pgmq.a_t (msg_id, vt, archived_at, message, headers)
		select n, vt, archived_at, message, headers from pgmq.a_t, generate_series(2, 400) as n`)
	execute(t, pool, archiveOld)
	start := time.Now()
	subscribe(t, client)
	requireCount(t, pool, "pgmq.a_t where archived_at < now() - interval '3 days' and message <> '\"bomb\"' and msg_id <> 5001", 0)
	replayed, err := client.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	require.NoError(t, err)
	require.Equal(t, 1, replayed)
	require.Less(t, time.Since(start), 10*time.Second)
	require.Equal(t, 400, get[int](t, pool, "select count(*) from pgmq.a_t where message = '\"bomb\"'"))
	require.NotContains(t, log.String(), "cannot be pruned")
}
